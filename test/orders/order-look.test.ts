/** Orders that are looked up at once: each is answered by itself, as if no other had been asked for. */

import { beforeAll, expect, test } from 'vitest';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

async function openShop(orderCount: number) {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const accept = (_: unknown, i: number) => acceptOrder(stores, saleId, { userId: `user-${i}` });
  const orders = await Promise.all(Array.from({ length: orderCount }, accept));
  return { saleId, orders, orderNos: orders.map(({ orderNo }) => orderNo) };
}

const lookUpAll = (orderNos: readonly string[]) =>
  Promise.all(orderNos.map((orderNo) => stores.reservations.lookUp(orderNo)));

test('more orders than a call reads, of several sales, are each answered with their own', async () => {
  const shops = [await openShop(40), await openShop(1), await openShop(17)];
  const orders = shops.flatMap((shop) => shop.orders);

  const looks = await lookUpAll(orders.map(({ orderNo }) => orderNo));

  expect(looks.map(({ found }) => found?.order)).toEqual(orders);
  expect(looks.every(({ isCertain }) => isCertain)).toBe(true);
});

test('one that is missing, and one asked for twice, change nothing for the others', async () => {
  const { saleId, orderNos } = await openShop(2);
  const [one = '', other = ''] = orderNos;
  const missing = buildOrder({ saleId }).orderNo;

  const looks = await lookUpAll([one, missing, one, other]);

  expect(looks.map(({ found }) => found?.order.orderNo)).toEqual([one, undefined, one, other]);
  expect(looks.every(({ isCertain }) => isCertain)).toBe(true);
});

test('what is no order, or only a part of one, fails for those alone who asked for it', async () => {
  const [noOrder = '', inPart = '', whole = ''] = (await openShop(3)).orderNos;
  await stores.redis.set(orderKeys(noOrder).order, 'something else');
  await stores.redis.hdel(orderKeys(inPart).order, 'user_id');

  const [ofNoOrder, ofPart, ofWhole] = await Promise.allSettled(
    [noOrder, inPart, whole].map((orderNo) => stores.reservations.lookUp(orderNo)),
  );

  expect(ofNoOrder?.status).toBe('rejected');
  expect(ofPart?.status).toBe('rejected');
  expect(ofWhole).toMatchObject({ value: { found: { order: { orderNo: whole } }, isCertain: true } });
});

test('one whose hold is of an older epoch is doubted, and those beside it are not', async () => {
  const { saleId, orderNos } = await openShop(2);
  const [ofOldEpoch = '', ofNewEpoch = ''] = orderNos;
  await stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'epoch', '2');
  await stores.redis.hset(orderKeys(ofNewEpoch).order, 'epoch', '2');

  const looks = await lookUpAll([ofOldEpoch, ofNewEpoch, buildOrder({ saleId }).orderNo]);

  expect(looks.map(({ isCertain }) => isCertain)).toEqual([false, true, false]);
});

test('where a sale is of another server, its orders are doubted, and those of other sales are not', async () => {
  const [replaced, well] = [await openShop(2), await openShop(1)];
  await stores.redis.hset(saleKeys({ saleId: replaced.saleId, shard: 0 }).sale, 'run_id', 'another');

  const looks = await lookUpAll([...replaced.orderNos, ...well.orderNos]);

  expect(looks.map(({ found }) => found !== undefined)).toEqual([true, true, true]);
  expect(looks.map(({ isCertain }) => isCertain)).toEqual([false, false, true]);
});

test('one who asks later gets what has been projected since', async () => {
  const [orderNo = ''] = (await openShop(1)).orderNos;
  const before = stores.reservations.lookUp(orderNo);
  await before;
  const state = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null } as const;
  await stores.reservations.project(orderNo, state);

  expect((await stores.reservations.lookUp(orderNo)).found?.state).toEqual(state);
});
