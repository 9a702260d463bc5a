/** The scripts count what a user has under the field that all other code reads, whatever SKU and user are. */

import { beforeAll, expect, test } from 'vitest';
import { limitField, orderKeys } from '../../src/redis/keys.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

test.each([
  ['a:b', 'c:d'],
  ['%3A', '%'],
  ['%25:%', 'gid://shopify/Customer/1'],
  ['A 4/2 blue', 'VXNlcjox=='],
  ['💡', 'jane+shop@example.com'],
  ['"\\', "'"],
])('of %s for %s', async (sku, userId) => {
  const skus = [{ sku, name: 'One', unitPrice: 100, total: 10, limitPerUser: 3 }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const field = limitField(sku, userId);
  const items = [{ sku, quantity: 2 }];
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId, userId, items }));
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  const { orderNo } = outcome;
  const limits = () => stores.redis.hgetall(orderKeys(orderNo).limits);
  expect(await limits()).toEqual({ [field]: '2' });
  expect(await stores.reservations.reserve(buildReserveRequest({ saleId, userId, items }))).toMatchObject({
    kind: 'limit-reached',
    sku,
    bought: 2,
  });

  await stores.reservations.confirm(orderNo);
  const again = buildOrder({ saleId, userId, items: [{ sku, quantity: 1, unitPrice: 100 }] });
  await stores.reservations.reserveAgain(again);
  expect(await limits()).toEqual({ [field]: '3' });
  await stores.reservations.release(again.orderNo);
  expect(await limits()).toEqual({ [field]: '2' });

  const shard = { saleId, shard: 0 };
  expect(await stores.forgetting.readLimits(shard, userId, [sku])).toEqual(new Map([[sku, 2]]));
  expect(await stores.forgetting.renameUser(shard, userId, 'erased', [sku])).toBe(2);
  expect(await limits()).toEqual({ [limitField(sku, 'erased')]: '2' });
  expect(await stores.forgetting.renameUser(shard, 'erased', userId, [sku])).toBe(2);
  const back = { orderNo, userId, part: '', items: outcome.items, limit: true, stock: true };
  expect(await stores.reservations.giveBack(back)).toMatchObject({ kind: 'returned' });
  expect(await limits()).toEqual({});
});
