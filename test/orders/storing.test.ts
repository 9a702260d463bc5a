/** Storing for callers who wait: which orders a transaction takes. */

import { beforeAll, expect, test } from 'vitest';
import { createStoring } from '../../src/orders/storing.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { createTestClock } from '../support/clock.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const SKUS = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

test('a caller of one sale is served in the first transaction, also behind a rush of callers of another', async () => {
  const [rush, calm] = await Promise.all([
    stores.openSale(buildSale({ skus: SKUS })),
    stores.openSale(buildSale({ skus: SKUS })),
  ]);
  const ofRush = await Promise.all(Array.from({ length: 300 }, () => acceptOrder(stores, rush.saleId)));
  const ofCalm = await acceptOrder(stores, calm.saleId);
  const batches: string[][] = [];
  const storeOrders: typeof stores.orders.storeOrders = (batch, presence) => {
    batches.push(batch.map(({ orderNo }) => orderNo));
    return stores.orders.storeOrders(batch, presence);
  };
  const storing = createStoring({ ...stores, orders: { ...stores.orders, storeOrders } }, createTestClock());

  const ends = [...ofRush, ofCalm].map(({ orderNo }) => storing.store(orderNo, Infinity));

  expect((await Promise.all(ends)).map(({ kind }) => kind)).toEqual(ends.map(() => 'stored'));
  await storing.stop();
  // The rush has all the rest, in the order of arrival.
  const numbers = ofRush.map(({ orderNo }) => orderNo);
  expect(batches.map((batch) => new Set(batch))).toEqual([
    new Set([ofCalm.orderNo, ...numbers.slice(0, 249)]),
    new Set(numbers.slice(249)),
  ]);
});
