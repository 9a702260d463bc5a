/** The lists of users' open orders lose what has ended without a script, and keep what is open. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { mendOpenLists } from '../../src/reconcile/open-lists.ts';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** A run looks at every sale that Redis has. */
beforeEach(() => stores.redis.flushall());

const run = () => mendOpenLists({ ...stores, log: silent }, new AbortController().signal);
const openSale = async () => (await stores.openSale(buildSale())).saleId;
const listOf = (saleId: string) => stores.redis.hgetall(saleKeys({ saleId, shard: 0 }).open);

test('an order that ended in MySQL and is not held is taken off, one that MySQL does not know is kept while held', async () => {
  const saleId = await openSale();
  const accept = (userId: string) => acceptOrder(stores, saleId, { userId });
  const [ended, waiting, open, lost] = [
    await accept('ada'),
    await accept('ada'),
    await accept('bo'),
    await accept('cy'),
  ];
  await stores.orders.storeOrders([ended, open], 'started');
  await stores.orders.cancel(ended.orderNo, 'payment_timeout', { force: true });
  // Its end is on its way.
  expect(await run()).toMatchObject({ looked: 4, repaired: 0 });
  for (const { orderNo } of [ended, lost, open]) await stores.redis.del(orderKeys(orderNo).order);

  expect(await run()).toEqual({ looked: 4, repaired: 2, parked: 0 });

  expect(await listOf(saleId)).toEqual({ ada: waiting.orderNo, bo: open.orderNo });
  expect(await run()).toEqual({ looked: 2, repaired: 0, parked: 0 });
});

test('what a hand put in the place of a list stops no walk over other sales', async () => {
  const [damaged, whole] = [await openSale(), await openSale()];
  await stores.redis.set(saleKeys({ saleId: damaged, shard: 0 }).open, 'text');
  const { orderNo } = await acceptOrder(stores, whole);
  await stores.redis.del(orderKeys(orderNo).order);
  expect(await run()).toMatchObject({ looked: 1, repaired: 1 });
});
