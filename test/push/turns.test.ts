/** Sales take turns at an endpoint: a sale with many deliveries does not keep other sales waiting. */

import { beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { DOWN_AFTER_FAILURES, MAX_PUSHES_IN_FLIGHT, type Claim } from '../../src/push/deliveries.sql.ts';
import { recordShopEvent } from '../../src/sales/rows.sql.ts';
import { buildOrder } from '../support/factories.ts';
import { openPushWorld, type PushWorld } from './push-world.ts';

let world: PushWorld;
let endpointId: number;
let sequence: number;
beforeEach(async () => {
  world = await openPushWorld();
  const { endpoint } = await world.addEndpoint('office');
  [endpointId, sequence] = [endpoint.endpointId, endpoint.fedSequence];
});

/** Deliveries of orders of the sale, each order's one after the other. */
async function addDeliveries(saleId: string, orders: number, versions = 1): Promise<void> {
  const added = Array.from({ length: orders }, () => buildOrder({ saleId }).orderNo).flatMap((line) =>
    Array.from({ length: versions }, (_, i) => ({ eventId: `${line}.${i + 1}`, line })),
  );
  const [from, to] = [sequence, sequence + added.length];
  const deliveries = added.map((delivery, i) => ({ ...delivery, sequence: from + i + 1 }));
  await world.stores.endpoints.advance(endpointId, { from, to }, deliveries);
  sequence = to;
}

async function take(after = ''): Promise<Claim> {
  const claim = await world.stores.deliveries.take(endpointId, after);
  if (!claim) throw new Error('the endpoint is gone');
  return claim;
}

async function completeAll({ deliveries }: Claim): Promise<void> {
  for (const delivery of deliveries) await world.stores.deliveries.complete(delivery);
}

/** How many deliveries of each sale were claimed. */
function countSales({ deliveries }: Claim): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { line } of deliveries) {
    const saleId = line.replace(/-0-.*/, '');
    counts[saleId] = (counts[saleId] ?? 0) + 1;
  }
  return counts;
}

test('a delivery is claimed with the next claim though 1,000 of another sale are due before it', async () => {
  await addDeliveries('rush', 1_000);
  await addDeliveries('quiet', 1);
  const first = await take('quiet');
  expect(countSales(first)).toEqual({ rush: MAX_PUSHES_IN_FLIGHT });
  await completeAll(first);
  const second = await take(first.lastTurn);
  expect(countSales(second)).toEqual({ quiet: 1, rush: MAX_PUSHES_IN_FLIGHT - 1 });
});

test('a worker delivers the event of a sale, though 200 of another sale wait before it', async () => {
  const { receiver } = await world.addEndpoint('other');
  await world.makeOrders(200);
  const saleId = 'zz-quiet';
  await recordShopEvent(world.stores.pool, { type: 'sale.changed', saleId, subject: saleId, data: {} });
  await world.publish();
  await world.feedOnly('other', 201);
  world.startWorker();
  await world.awaitCaughtUp('other');
  const place = receiver.received.findIndex(({ event }) => event.saleId === saleId);
  expect(place).toBeGreaterThanOrEqual(0);
  // The second claim has it, or one of the next where attempts overtake each other.
  expect(place).toBeLessThan(5 * MAX_PUSHES_IN_FLIGHT);
});

test('a sale alone has all of each claim', async () => {
  await addDeliveries('rush', 30);
  let after = '';
  for (let i = 0; i < 3; i += 1) {
    const claim = await take(after);
    expect(claim.deliveries).toHaveLength(MAX_PUSHES_IN_FLIGHT);
    await completeAll(claim);
    after = claim.lastTurn;
  }
  expect((await take(after)).deliveries).toEqual([]);
});

test('of more than fifty sales, the fifty-first has its turn in the next claim', async () => {
  for (let i = 0; i < 51; i += 1) await addDeliveries(`sale-${String(i).padStart(2, '0')}`, 1);
  // As after failures: they wait, and are not due yet.
  await modify(
    world.stores.pool,
    `UPDATE push_deliveries SET due_at = NOW(3) + INTERVAL 1 HOUR WHERE turn <> 'sale-50'`,
  );
  const first = await take();
  expect(first).toMatchObject({ deliveries: [], lastTurn: 'sale-49' });
  expect(countSales(await take(first.lastTurn))).toEqual({ 'sale-50': 1 });
});

test('deliveries of each order come in their order, whichever sale has its turn', async () => {
  await addDeliveries('rush', 15, 3);
  await addDeliveries('quiet', 5, 3);
  const claimed: string[] = [];
  let after = '';
  while (claimed.length < 60) {
    const claim = await take(after);
    expect(new Set(claim.deliveries.map(({ line }) => line)).size).toBe(claim.deliveries.length);
    claimed.push(...claim.deliveries.map(({ eventId }) => eventId));
    await completeAll(claim);
    after = claim.lastTurn;
  }
  for (const line of new Set(claimed.map((eventId) => eventId.slice(0, -2)))) {
    const ofLine = claimed.filter((eventId) => eventId.startsWith(line));
    expect(ofLine).toEqual([`${line}.1`, `${line}.2`, `${line}.3`]);
  }
});

test('an endpoint that is down is probed with deliveries of its sales in turns', async () => {
  const { pool, deliveries } = world.stores;
  await addDeliveries('rush', 5);
  await addDeliveries('quiet', 1);
  await modify(pool, 'UPDATE push_endpoints SET failures = ?', [DOWN_AFTER_FAILURES]);
  let after = '';
  const probes: Record<string, number>[] = [];
  for (let i = 0; i < 3; i += 1) {
    const claim = await take(after);
    probes.push(countSales(claim));
    for (const probe of claim.deliveries)
      await deliveries.fail(probe, 'answered 500', { retryMs: 60_000, askedMs: 0, probeMs: () => 0 });
    after = claim.lastTurn;
  }
  expect(probes).toEqual([{ quiet: 1 }, { rush: 1 }, { quiet: 1 }]);
});
