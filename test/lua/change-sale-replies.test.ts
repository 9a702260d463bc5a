/** Every reply of `change-sale`, which decides what a shop changes about a sale. */

import { beforeAll, expect, test } from 'vitest';
import { saleKeys } from '../../src/redis/keys.ts';
import { run } from '../../src/redis/script.ts';
import type { Sale } from '../../src/sales/sale.ts';
import {
  changeSaleScript as changeSale,
  serverTimeScript as serverTime,
} from '../../src/sales/stock.redis.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { expectUnchanged, snapshot } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** Ten lamps, of which so many are held; its warm-up was the second change. */
async function openStage(held: number) {
  const sale = await stores.openSale(buildSale());
  const { saleId } = sale;
  const { saleStock, redis, reservations } = stores;
  const items = [{ sku: 'lamp', quantity: held }];
  const reserved = held > 0 ? await reservations.reserve(buildReserveRequest({ saleId, items })) : undefined;
  const orderNo = reserved?.kind === 'reserved' ? reserved.orderNo : '';
  const warmUpId = (await stores.sales.read(saleId))?.changeId ?? '';
  return {
    sale,
    warmUpId,
    orderNo,
    saleKey: saleKeys({ saleId, shard: 0 }).sale,
    change: (changeNo: number, changes: Partial<Sale>, action = 'put') => {
      const document = { sale: { ...sale, ...changes } };
      const changeId = changeNo === 2 ? warmUpId : `id ${changeNo}`;
      return saleStock.change({ saleId, changeNo, changeId, action, epoch: 1, document }, async () => true);
    },
    withLamps: (total: number) => ({
      skus: sale.skus.map((item) => (item.sku === 'lamp' ? { ...item, total } : item)),
    }),
    snapshot: () => snapshot(redis, saleId),
    lamps: async () => (await saleStock.read(saleId))?.skus.find(({ sku }) => sku === 'lamp'),
    /** The reply, with the proof that it wrote nothing. */
    unchanged: <T>(call: () => Promise<T>) => expectUnchanged(redis, saleId, call),
  };
}

test('a greater total adds the difference to what is available', async () => {
  const { change, withLamps, lamps } = await openStage(2);
  expect(await change(3, withLamps(15))).toEqual({ kind: 'changed' });
  expect(await lamps()).toMatchObject({ total: 15, available: 13, held: 2, sold: 0 });
});

test('a smaller total takes the difference from what is available, down to what is held and sold', async () => {
  const { change, withLamps, lamps, orderNo } = await openStage(2);
  await stores.reservations.confirm(orderNo);
  expect(await change(3, withLamps(2))).toEqual({ kind: 'changed' });
  expect(await lamps()).toMatchObject({ total: 2, available: 0, held: 0, sold: 2 });
});

test('a total below what is held and sold is refused, and with it all else; a repeat is refused too', async () => {
  const { change, withLamps, lamps, orderNo, saleKey } = await openStage(2);
  const refused = { kind: 'below-committed', sku: 'lamp', committed: 2 };
  expect(await change(3, { ...withLamps(1), name: 'Other' })).toEqual(refused);
  expect(await lamps()).toMatchObject({ total: 10, available: 8, held: 2 });
  expect(await stores.redis.hget(saleKey, 'name')).toBe('Test sale');

  // By now it would fit.
  await stores.reservations.release(orderNo);
  expect(await change(3, withLamps(1))).toEqual(refused);
  expect(await change(4, withLamps(1))).toEqual({ kind: 'changed' });
  expect(await change(4, withLamps(1))).toEqual({ kind: 'changed' });
});

test('a change that comes late does nothing', async () => {
  const { change, withLamps, unchanged } = await openStage(0);
  await change(5, withLamps(12));
  const late = await unchanged(() => change(4, withLamps(20)));
  expect(late).toEqual({ kind: 'stale', changeNo: 5 });
});

test('rules are replaced, those that are missing go, and a price stays', async () => {
  const { change, sale, saleKey } = await openStage(0);
  const limits = { limitPerUser: 3, addressPurchasesPerMinute: 60 };
  const rules = { ...limits, ticketRequired: true, reference: 'R 1', metadata: { campaign: 'é' } };
  await change(3, { ...rules, paused: true, paymentWindowMs: 60_000 });
  expect(await stores.saleStock.read(sale.saleId)).toMatchObject({
    ...rules,
    paused: true,
    paymentWindowMs: 60_000,
  });

  const [lamp] = sale.skus;
  const bulb = { sku: 'bulb', name: 'Bulb', unitPrice: 5, total: 7, limitPerUser: 1 };
  await change(4, {
    skus: [...sale.skus.map((item) => ({ ...item, unitPrice: 1, limitPerUser: null })), bulb],
  });

  const read = await stores.saleStock.read(sale.saleId);
  const none = { limitPerUser: null, addressPurchasesPerMinute: null };
  expect(read).toMatchObject({ ...none, ticketRequired: false, paused: false });
  expect(read).not.toHaveProperty('reference');
  expect(await stores.redis.hmget(saleKey, 'price:lamp', 'limit:lamp')).toEqual([
    String(lamp?.unitPrice),
    null,
  ]);
  expect(read?.skus[2]).toEqual({ ...bulb, available: 7, held: 0, sold: 0 });
});

test('a sale that is absent, or is being made again, or is of another server, is not changed', async () => {
  const { change, withLamps, unchanged, sale, saleKey } = await openStage(0);
  for (const field of ['rebuilding', 'suspended']) {
    await stores.redis.hset(saleKey, field, '1');
    expect(await unchanged(() => change(3, withLamps(1)))).toEqual({ kind: 'sale-absent' });
    await stores.redis.hdel(saleKey, field);
  }
  await stores.redis.hset(saleKey, 'run_id', 'of another');
  expect(await unchanged(() => change(3, withLamps(1)))).toEqual({ kind: 'sale-absent' });
  await stores.redis.del(saleKey, saleKeys({ saleId: sale.saleId, shard: 0 }).stock);
  expect(await unchanged(() => change(3, withLamps(1)))).toEqual({ kind: 'sale-absent' });
});

test('a warm-up puts the sale into Redis once, and a late one finds it', async () => {
  const { change, withLamps, lamps, unchanged, saleKey, sale } = await openStage(0);
  await stores.redis.del(saleKey, saleKeys({ saleId: sale.saleId, shard: 0 }).stock);
  expect(await change(2, {}, 'warm_up')).toEqual({ kind: 'changed' });
  expect(await lamps()).toMatchObject({ total: 10, available: 10, held: 0, sold: 0 });
  expect(await stores.saleStock.checkLife(sale.saleId)).toEqual({ kind: 'well', epoch: 1 });
  await change(3, withLamps(4));
  expect(await unchanged(() => change(2, {}, 'warm_up'))).toEqual({ kind: 'stale', changeNo: 3 });
});

test('a warm-up of a process that was frozen is refused where Redis has lost the sale, and no other change', async () => {
  const { unchanged, sale, warmUpId } = await openStage(0);
  const keys = saleKeys({ saleId: sale.saleId, shard: 0 });
  const { nowMs, runId } = await run(stores.redis, serverTime, { keys, args: {} });
  const warmUp = (untilMs: number, seenRunId: string, epoch = 1) =>
    run(stores.redis, changeSale, {
      keys,
      args: {
        changeNo: epoch === 1 ? 2 : 3,
        changeId: epoch === 1 ? warmUpId : 'next',
        epoch,
        rules: '{}',
        untilMs,
        seenRunId,
      },
      repeated: [],
    });
  expect(await warmUp(nowMs - 1, runId)).toEqual({ kind: 'changed' });
  expect(await warmUp(nowMs - 1, runId, 0)).toEqual({ kind: 'changed' });
  await stores.redis.del(keys.sale, keys.stock);
  for (const call of [
    () => warmUp(nowMs - 1, runId),
    // Another server took over, whose clock may be behind.
    () => warmUp(nowMs + 60_000, 'of another'),
  ])
    expect(await unchanged(call)).toEqual({ kind: 'sale-absent' });
  expect(await warmUp(nowMs + 60_000, runId)).toEqual({ kind: 'changed' });
});

test('a warm-up that another process has settled is not repeated', async () => {
  const { unchanged, sale, saleKey, warmUpId } = await openStage(0);
  const { saleId } = sale;
  await stores.redis.del(saleKey);
  const change = { saleId, changeNo: 2, changeId: warmUpId, action: 'warm_up', epoch: 1, document: { sale } };
  const late = await unchanged(() => stores.saleStock.change(change, async () => false));
  expect(late).toEqual({ kind: 'stale', changeNo: 2 });
});

test('a change under the number of another one changes nothing, and does not pass for its repeat', async () => {
  const { change, withLamps, unchanged, saleKey } = await openStage(0);
  await change(3, withLamps(12));
  await stores.redis.hset(saleKey, 'change_id', 'of one that MySQL has lost');
  expect(await unchanged(() => change(3, { paused: true }))).toEqual({ kind: 'stale', changeNo: 3 });
  // One from before ids is known by its number alone.
  await stores.redis.hdel(saleKey, 'change_id');
  expect(await unchanged(() => change(3, withLamps(12)))).toEqual({ kind: 'changed' });
});

test('a sale from before changes were numbered is changed like any other', async () => {
  const { change, withLamps, lamps, saleKey } = await openStage(0);
  await stores.redis.hdel(saleKey, 'change_no');
  expect(await change(2, withLamps(3))).toEqual({ kind: 'changed' });
  expect(await lamps()).toMatchObject({ total: 3, available: 3 });
});

test('a SKU whose stock is lost gets none by a change: the sale is to be made again first', async () => {
  const { change, withLamps, sale, saleKey } = await openStage(2);
  const { stock } = saleKeys({ saleId: sale.saleId, shard: 0 });
  await stores.redis.hdel(stock, 'lamp:total');
  expect(await change(3, withLamps(15))).toEqual({ kind: 'sale-absent' });
  await stores.redis.del(stock);
  expect(await change(3, withLamps(15))).toEqual({ kind: 'sale-absent' });
  expect(await stores.redis.exists(stock)).toBe(0);
  expect(await stores.redis.hget(saleKey, 'change_no')).toBe('2');
  expect(await stores.saleStock.checkLife(sale.saleId)).toEqual({ kind: 'suspended', epoch: 1 });
});

test('a closed sale is changed no more: neither its end nor anything else; a repeat is refused too', async () => {
  const { change, withLamps, sale, saleKey } = await openStage(0);
  const closesAtMs = Date.now() - 1;
  await stores.redis.hset(saleKey, 'closes_at', String(closesAtMs));
  const refused = { kind: 'closed', closesAtMs };
  expect(await change(3, { closesAtMs: sale.closesAtMs })).toEqual(refused);
  expect(await change(3, { closesAtMs: sale.closesAtMs })).toEqual(refused);
  expect(await change(4, withLamps(15))).toEqual(refused);
  expect(await stores.saleStock.read(sale.saleId)).toMatchObject({ state: 'closed', closesAtMs });
});
