/** Every reply of `forget-sale`, `forget-order` and `rename-user`, and what each leaves behind. */

import { beforeAll, expect, test } from 'vitest';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callForgetOrder,
  callForgetSale,
  callRelease,
  callRenameUser,
  callReserve,
  snapshot,
  expectUnchanged,
} from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** The reply, with the proof that it wrote nothing. */
const unchanged = <T>(saleId: string, call: () => Promise<T>) => expectUnchanged(stores.redis, saleId, call);

async function hold(quantity = 1) {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId, { lines: [{ sku: 'lamp', quantity }] });
  await callReserve(stores.redis, call);
  return { ...call, keys: saleKeys({ saleId, shard: 0 }) };
}

test('a sale is forgotten with all that is its own, once no order waits or is held', async () => {
  const { saleId, orderNo, keys } = await hold();
  expect(await unchanged(saleId, () => callForgetSale(stores.redis, saleId))).toEqual(['busy']);
  await stores.redis.xtrim(keys.outbox, 'MAXLEN', 0);
  expect(await unchanged(saleId, () => callForgetSale(stores.redis, saleId))).toEqual(['busy']);
  await callRelease(stores.redis, orderNo);
  expect(await callForgetSale(stores.redis, saleId)).toEqual(['forgotten']);
  const left = Object.keys(await snapshot(stores.redis, saleId)).map((key) => key.split(':')[2]);
  expect(new Set(left)).toEqual(new Set(['idem', 'order']));
});

test('an order is forgotten with its request, but never while it is held', async () => {
  const { saleId, orderNo, idempotencyKey, keys } = await hold();
  const forget = () => callForgetOrder(stores.redis, orderNo, idempotencyKey);
  expect(await unchanged(saleId, forget)).toEqual(['held']);
  await callRelease(stores.redis, orderNo);
  expect(await forget()).toEqual(['forgotten']);
  expect(await stores.redis.exists(orderKeys(orderNo).order, keys.idem('ada', idempotencyKey))).toBe(0);
});

test("a user's units are counted under the token, beside those that it has already", async () => {
  const { saleId, keys } = await hold(2);
  await stores.redis.hset(keys.limits, 'lamp:erased-1', 1);
  expect(await callRenameUser(stores.redis, saleId)).toEqual(['renamed', '2']);
  expect(await stores.redis.hgetall(keys.limits)).toEqual({ 'lamp:erased-1': '3' });
});
