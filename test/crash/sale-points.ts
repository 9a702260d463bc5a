/** Crash points of a change of a sale: between its steps, and inside the last one. */

import { expect } from 'vitest';
import type { OrderStatus } from '../../src/orders/order.ts';
import { buildDocument, LAMP, MUG, openBackOffice, saleOf } from '../api/sales/back-office.ts';
import { select } from '../support/rows.ts';
import { waitFor } from '../support/wait.ts';
import type { CrashWorld } from './crash-world.ts';
import { expectLamps, type Point } from './shared-steps.ts';

/** What Redis and MySQL have in the moment of the death. */
interface Left {
  redis: { lamps: number; mugs: number };
  mysql: { lamps: number; mugs: number };
}

const BEFORE = { lamps: 10, mugs: 5 };
/** One total goes up and the other down. */
const AFTER = { lamps: 20, mugs: 2 };
/** What may be stored is raised before it may be sold, and lowered after. */
const RAISED = { lamps: 20, mugs: 5 };

const points: [name: string, Pick<Point['doom'], 'part' | 'cue'>, Left][] = [
  [
    'api: a change of a sale is recorded, and Redis has not decided it',
    { part: 'api', cue: 'change-recorded' },
    { redis: BEFORE, mysql: RAISED },
  ],
  [
    'api: Redis has made a change of a sale, and MySQL does not know it',
    { part: 'api', cue: 'change-decided' },
    { redis: AFTER, mysql: RAISED },
  ],
  [
    'worker: it completes a change whose process has died, and dies when Redis has made it',
    { part: 'worker', cue: 'change-decided' },
    { redis: AFTER, mysql: RAISED },
  ],
];

export const salePoints: Point[] = points.map(([name, doom, left]) => ({
  name,
  // Nothing else completes the change before the stores are looked at.
  doom: { ...doom, withoutOther: doom.part === 'api' },
  scenario: (world) => changeAcrossDeath(world, doom.part, left),
}));

async function changeAcrossDeath(
  world: CrashWorld,
  part: 'api' | 'worker',
  left: Left,
): Promise<Record<string, OrderStatus>> {
  const { stores, saleId } = world;
  const { sale, version } = (await stores.sales.read(saleId)) ?? { sale: undefined, version: 0 };
  if (!sale) throw new Error('the sale is there');
  const document = buildDocument({
    name: 'Changed',
    opensAt: new Date(sale.opensAtMs).toISOString(),
    closesAt: new Date(sale.closesAtMs).toISOString(),
    skus: [
      { ...LAMP, total: AFTER.lamps },
      { ...MUG, total: AFTER.mugs },
    ],
  });
  if (part === 'api') {
    const office = await openBackOffice(world.apiUrl);
    await expect(office.put(saleId, document)).rejects.toThrow('fetch failed');
  } else {
    const skus = sale.skus.map((item, i) => ({ ...item, total: i === 0 ? AFTER.lamps : AFTER.mugs }));
    const changed = { ...sale, name: 'Changed', skus };
    const ask = { action: 'put', sale: changed, isDraft: false, ifMatch: undefined, isNew: false } as const;
    await stores.saleChanges.record(ask, { actor: 'grace', reason: null });
  }
  await world.awaitDeath();
  expect(await readTotals(world)).toEqual(left);

  await world.takeOver();
  await waitFor(
    'a worker to complete the change',
    async () => !(await stores.sales.read(saleId))?.isChanging,
  );
  expect(await readTotals(world)).toEqual({ redis: AFTER, mysql: AFTER });
  const office = await openBackOffice(world.apiUrl);
  const again = saleOf(await office.put(saleId, document));
  expect(again).toMatchObject({ name: 'Changed', version: version + 1, pending: false });
  const announced = await select(
    stores.pool,
    `SELECT type FROM shop_events WHERE sale_id = ? AND type = 'sale.changed'`,
    [saleId],
  );
  expect(announced).toHaveLength(1);

  const shopper = await world.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
  await expectLamps(world, { available: AFTER.lamps, held: 0, sold: 0 });
  return { [orderNo]: 'cancelled' };
}

async function readTotals({ stores, saleId }: CrashWorld): Promise<Left> {
  const [inRedis, inMysql] = [await stores.saleStock.read(saleId), await stores.sales.readStock(saleId)];
  const toTotals = (counts: readonly { total: number }[]) => ({
    lamps: counts[0]?.total ?? 0,
    mugs: counts[1]?.total ?? 0,
  });
  return { redis: toTotals(inRedis?.skus ?? []), mysql: toTotals(inMysql) };
}
