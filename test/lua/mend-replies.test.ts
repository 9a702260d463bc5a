/** Every reply of `look-sale`, `mend-stock`, `mend-limit` and `restore-hold`, and what each leaves behind. */

import { beforeAll, expect, test } from 'vitest';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callLookSale,
  callMendLimit,
  callMendStock,
  callRelease,
  callReserve,
  callRestoreHold,
  newOrderNo,
  expectUnchanged,
} from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** The reply, with the proof that it wrote nothing. */
const unchanged = <T>(saleId: string, call: () => Promise<T>) => expectUnchanged(stores.redis, saleId, call);

/** A sale of ten lamps; ada holds one. */
async function openStage() {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId);
  await callReserve(stores.redis, call);
  return { saleId, orderNo: call.orderNo, keys: saleKeys({ saleId, shard: 0 }) };
}

test('a look has the stock, the limits that it is asked for, and the last deadline, and begins its notes', async () => {
  const { saleId, orderNo, keys } = await openStage();
  const [kind, atMs, epoch, changeNo, mends, stock, limits, , lastDeadlineMs] = await callLookSale(
    stores.redis,
    saleId,
    ['lamp:ada', 'mug:ada'],
  );
  expect([kind, epoch, changeNo, mends]).toEqual(['looked', '1', '2', '0']);
  expect(Number(atMs)).toBeGreaterThan(0);
  expect(JSON.parse(String(stock))).toEqual(
    expect.arrayContaining(['lamp:available', '9', 'lamp:held', '1']),
  );
  expect(JSON.parse(String(limits))).toEqual(['1', '0']);
  expect(lastDeadlineMs).toBe(await stores.redis.zscore(keys.deadlines, orderNo));
  expect(await stores.redis.lrange(keys.moves, 0, -1)).toEqual(['look']);
  expect(await stores.redis.pttl(keys.moves)).toBeGreaterThan(0);
});

test('a hold that ends or begins again is noted while a look goes on, and not otherwise', async () => {
  const { saleId, orderNo, keys } = await openStage();
  const other = buildReserveCall(saleId, { userId: 'bo' });
  await callReserve(stores.redis, other);
  await callRelease(stores.redis, other.orderNo);
  expect(await stores.redis.exists(keys.moves)).toBe(0);
  await callLookSale(stores.redis, saleId);
  await callRelease(stores.redis, orderNo);
  await callRelease(stores.redis, orderNo);
  await callRestoreHold(stores.redis, orderNo);
  expect(await stores.reservations.confirm(orderNo)).toBe('sold');
  expect(await stores.redis.lrange(keys.moves, 0, -1)).toEqual(['look', orderNo, `+${orderNo}`, orderNo]);
});

test('a hold ends also where something else is in the place of the notes', async () => {
  const { orderNo, keys } = await openStage();
  await stores.redis.set(keys.moves, 'no list');
  expect(await callRelease(stores.redis, orderNo)).toEqual(['released']);
});

test('a look at a sale without orders finds nothing held', async () => {
  const { saleId } = await stores.openSale(buildSale());
  expect(await stores.saleMends.look(saleId, [])).toMatchObject({
    kind: 'looked',
    lastDeadlineMs: 0,
    tied: [],
    limits: [],
  });
});

test('a sale that Redis does not have, or that is being made again, is not looked at', async () => {
  expect(await callLookSale(stores.redis, 'no-sale')).toEqual(['not-at-rest']);
  const { saleId, keys } = await openStage();
  await stores.redis.hset(keys.sale, 'rebuilding', '2');
  expect(await unchanged(saleId, () => callLookSale(stores.redis, saleId))).toEqual(['not-at-rest']);
});

test('counters are corrected by the difference, and the sale adds up afterwards', async () => {
  const { saleId, keys } = await openStage();
  await stores.redis.hincrby(keys.stock, 'lamp:available', 3);
  await stores.redis.hincrby(keys.stock, 'lamp:held', 1);
  const reply = await callMendStock(stores.redis, saleId, { heldDelta: -1, soldDelta: 2 });
  expect(reply).toEqual(['mended', '7', '1', '2']);
});

test.each([{ epoch: 2 }, { mends: 1 }, { changeNo: 1 }])(
  'counters of another state of the sale than was found (%o) stay as they are',
  async (found) => {
    const { saleId } = await openStage();
    expect(await unchanged(saleId, () => callMendStock(stores.redis, saleId, found))).toEqual(['moved']);
  },
);

test('nothing is corrected while the sale is being made again', async () => {
  const { saleId, orderNo, keys } = await openStage();
  await stores.redis.hset(keys.sale, 'rebuilding', '2');
  expect(await unchanged(saleId, () => callMendStock(stores.redis, saleId))).toEqual(['moved']);
  expect(await unchanged(saleId, () => callMendLimit(stores.redis, saleId))).toEqual(['moved']);
  expect(await unchanged(saleId, () => callRestoreHold(stores.redis, orderNo))).toEqual(['moved']);
});

test("a user's limit is corrected, and goes away when nothing is left of it", async () => {
  const { saleId, keys } = await openStage();
  expect(await callMendLimit(stores.redis, saleId, { delta: 2 })).toEqual(['mended', '3']);
  expect(await callMendLimit(stores.redis, saleId, { delta: -3, mends: 1 })).toEqual(['mended', '0']);
  expect(await stores.redis.hexists(keys.limits, 'lamp:ada')).toBe(0);
  expect(await unchanged(saleId, () => callMendLimit(stores.redis, saleId, { delta: 1, epoch: 2 }))).toEqual([
    'moved',
  ]);
});

test('a hold that is written again never turns its projection back', async () => {
  const { orderNo } = await openStage();
  const { order } = orderKeys(orderNo);
  const newer = {
    status: 'awaiting_payment',
    version: 2,
    payment: 'none',
    reason: 'shopper_request',
  } as const;
  await callRelease(stores.redis, orderNo);
  await stores.reservations.project(orderNo, newer);
  expect(await callRestoreHold(stores.redis, orderNo)).toEqual(['restored', 'released']);
  expect(await stores.redis.hget(order, 'hold')).toBe('held');
  expect((await stores.reservations.readOrder(orderNo))?.state).toEqual(newer);
});

test('a projection that lacks a field is none, and is written anew', async () => {
  const { orderNo } = await openStage();
  const { order } = orderKeys(orderNo);
  await stores.redis.hset(order, 'version', 7);
  await stores.redis.hdel(order, 'hold', 'status');
  expect(await callRestoreHold(stores.redis, orderNo)).toEqual(['restored', 'absent']);
  expect((await stores.reservations.readOrder(orderNo))?.state).toMatchObject({ version: 1 });
});

test('a hold is written again whatever was left of it', async () => {
  const { saleId, orderNo, keys } = await openStage();
  const { order } = orderKeys(orderNo);
  await callRelease(stores.redis, orderNo);
  expect(await callRestoreHold(stores.redis, orderNo)).toEqual(['restored', 'released']);
  expect(await stores.redis.hmget(order, 'hold', 'status', 'epoch')).toEqual([
    'held',
    'awaiting_payment',
    '1',
  ]);
  expect(await stores.redis.pttl(order)).toBe(-1);
  expect(await stores.redis.zscore(keys.deadlines, orderNo)).not.toBeNull();
  await stores.redis.del(order);
  await stores.redis.set(order, 'text');
  expect(await callRestoreHold(stores.redis, orderNo)).toEqual(['restored', 'absent']);
  await stores.redis.zrem(keys.deadlines, orderNo);
  expect(await callRestoreHold(stores.redis, orderNo)).toEqual(['restored', 'unlisted']);
  expect(await stores.redis.zcard(keys.deadlines)).toBe(1);
  const other = newOrderNo(saleId);
  expect(await unchanged(saleId, () => callRestoreHold(stores.redis, other, { epoch: 2 }))).toEqual([
    'moved',
  ]);
  const late = { untilMs: Date.now() - 60_000 };
  expect(await unchanged(saleId, () => callRestoreHold(stores.redis, other, late))).toEqual(['moved']);
});
