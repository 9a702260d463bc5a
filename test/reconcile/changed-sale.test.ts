/** A sale's data are made again while a change of it is on its way: both stores agree on what came of it. */

import { beforeAll, expect, test } from 'vitest';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import type { PendingChange } from '../../src/sales/changes.sql.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const LAMP = { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 10, limitPerUser: null };
const MUG = { sku: 'mug', name: 'Mug', unitPrice: 1_450, total: 5, limitPerUser: null };

/** Ten lamps and five mugs; a change to other totals is recorded. */
async function openStage(lamps: number, mugs: number): Promise<PendingChange> {
  const sale = await stores.openSale(buildSale({ skus: [LAMP, MUG] }));
  const skus = [
    { ...LAMP, total: lamps },
    { ...MUG, total: mugs },
  ];
  const ask = {
    action: 'put',
    sale: { ...sale, skus },
    isDraft: false,
    ifMatch: undefined,
    isNew: false,
  } as const;
  const recorded = await stores.saleChanges.record(ask, { actor: 'grace', reason: null });
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  return recorded.change;
}

/** Accepted, and stored. */
async function buy(saleId: string, sku: string, quantity: number): Promise<void> {
  const order = await acceptOrder(stores, saleId, { items: [{ sku, quantity }] });
  expect(await stores.orders.storeOrder(order, 'due')).toMatchObject({ kind: 'stored' });
}

async function loseAndRebuild(saleId: string) {
  await stores.redis.del(...(await stores.redis.keys(`holdfast:{${saleId}.0}:*`)));
  return rebuildSale({ ...stores, log: silent }, saleId, { cause: 'lost' });
}

async function totals(saleId: string): Promise<{ redis: unknown; mysql: unknown }> {
  const inRedis = (await stores.saleStock.read(saleId))?.skus.map(({ total, held }) => ({ total, held }));
  const inMysql = (await stores.sales.readStock(saleId)).map(({ total, held }) => ({ total, held }));
  return { redis: inRedis, mysql: inMysql };
}

const inBoth = (lamps: object, mugs: object) => ({ redis: [lamps, mugs], mysql: [lamps, mugs] });

test('one that Redis never got is made by the rebuild, and its late call changes nothing', async () => {
  const change = await openStage(20, 2);
  expect(await loseAndRebuild(change.saleId)).toMatchObject({ kind: 'rebuilt' });
  const after = inBoth({ total: 20, held: 0 }, { total: 2, held: 0 });
  expect(await totals(change.saleId)).toEqual(after);
  expect((await stores.sales.read(change.saleId))?.isChanging).toBe(false);
  expect(await stores.saleChanges.complete(change, stores.saleStock)).toEqual({ kind: 'applied' });
  expect(await totals(change.saleId)).toEqual(after);
  expect((await stores.sales.read(change.saleId))?.version).toBe(2);
});

test('one that would take what is held is refused, the other totals go back, and a late call is refused too', async () => {
  const change = await openStage(20, 2);
  await buy(change.saleId, 'mug', 3);
  await loseAndRebuild(change.saleId);
  const after = inBoth({ total: 10, held: 0 }, { total: 5, held: 3 });
  expect(await totals(change.saleId)).toEqual(after);
  const late = await stores.saleChanges.complete(change, stores.saleStock);
  expect(late).toEqual({ kind: 'refused', sku: 'mug', committed: 3 });
  expect(await totals(change.saleId)).toEqual(after);
});

test('one that Redis has made stands, with what was sold of it', async () => {
  const change = await openStage(20, 2);
  await stores.saleStock.change(change, async () => true);
  await buy(change.saleId, 'lamp', 15);
  await loseAndRebuild(change.saleId);
  expect(await totals(change.saleId)).toEqual(inBoth({ total: 20, held: 15 }, { total: 2, held: 0 }));
});

test('one that Redis has refused may be made by the rebuild, if that came first', async () => {
  const change = await openStage(20, 2);
  // Accepted and not stored: its units are free again once Redis has lost it.
  await acceptOrder(stores, change.saleId, { items: [{ sku: 'mug', quantity: 3 }] });
  expect(await stores.saleStock.change(change, async () => true)).toMatchObject({ kind: 'below-committed' });
  await loseAndRebuild(change.saleId);
  expect(await stores.saleChanges.complete(change, stores.saleStock)).toEqual({ kind: 'applied' });
  expect(await totals(change.saleId)).toEqual(inBoth({ total: 20, held: 0 }, { total: 2, held: 0 }));
});

test('while the data are being made again no change is recorded', async () => {
  const sale = await stores.openSale(buildSale());
  const mark = 'UPDATE sales SET rebuilding_since = NOW(3) WHERE sale_id = ?';
  await stores.pool.query(mark, [sale.saleId]);
  const ask = { action: 'pause', saleId: sale.saleId } as const;
  expect(await stores.saleChanges.record(ask, { actor: 'grace', reason: null })).toEqual({
    kind: 'rebuilding',
  });
});

test('one that would move an end which has passed is refused by the rebuild: closed is final', async () => {
  const sale = await stores.openSale(buildSale({ skus: [LAMP] }));
  const { saleId } = sale;
  const ask = { action: 'put', isDraft: false, ifMatch: undefined, isNew: false } as const;
  const longer = { ...sale, closesAtMs: sale.closesAtMs + 60_000 };
  const recorded = await stores.saleChanges.record(
    { ...ask, sale: longer },
    { actor: 'grace', reason: null },
  );
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  await stores.pool.query('UPDATE sales SET closes_at = NOW(3) - INTERVAL 1 SECOND WHERE sale_id = ?', [
    saleId,
  ]);
  await loseAndRebuild(saleId);
  expect(await stores.saleChanges.complete(recorded.change, stores.saleStock)).toEqual({ kind: 'ended' });
});
