/** Many orders in one call: each as a look at it alone shows it, and what can be said of the others. */

import { ulid } from 'ulidx';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { AppDeps } from '../../../src/api/app.ts';
import { ordersReply } from '../../../src/api/calls/my-orders.ts';
import { buildSale } from '../../support/factories.ts';
import { refusalOf, type Shopper } from '../../support/shopper.ts';
import { openApi, openMysqlAway, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
});

const call = (shopper: Shopper, orderNos: readonly string[]) =>
  shopper.call('GET', `/v1/orders?orderNo=${orderNos.join(',')}`);
const find = async (shopper: Shopper, orderNos: readonly string[]) =>
  ordersReply.parse((await call(shopper, orderNos)).body);

async function buyStored(shopper: Shopper): Promise<string> {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  return orderNo;
}

async function openApp(overrides: Partial<AppDeps>) {
  const app = await api.withParts(overrides);
  onTestFinished(async () => {
    await app.close();
    // What one test has doubted is no news for the next.
    await api.stores.pool.query('DELETE FROM projection_doubts');
  });
  return app;
}

/** MySQL's reads of orders by their numbers. */
function countReads() {
  const reads: (readonly string[])[] = [];
  const { orders } = api.stores;
  const counted: AppDeps['orders'] = {
    ...orders,
    read: (orderNo) => orders.readAll([orderNo]).then(([stored]) => (reads.push([orderNo]), stored)),
    readAll: (orderNos) => (reads.push(orderNos), orders.readAll(orderNos)),
  };
  return { reads, orders: counted };
}

const away = () => Promise.reject(new Error('Command timed out'));

test('each is as a look at it alone shows it, in the order of the question', async () => {
  const [shopper, other] = [await api.shopper(), await api.shopper()];
  const [queued, stored] = [await shopper.buy(saleId), await buyStored(shopper)];
  const theirs = await other.buy(saleId);
  const never = `${saleId}-0-1-${ulid()}`;
  const asked = [stored, theirs, never, queued, 'no-number', stored];

  expect(await find(shopper, asked)).toEqual({
    orders: [await shopper.readOrder(stored), await shopper.readOrder(queued)],
    next: null,
    complete: true,
    unknown: [theirs, never, 'no-number'],
  });
});

test('a hundred cost MySQL one read at most, of those that Redis does not have', async () => {
  const shopper = await api.shopper();
  const orderNos = await Promise.all(Array.from({ length: 100 }, () => shopper.buy(saleId)));
  const { reads, orders } = countReads();
  const counting = await (await openApp({ orders })).shopper(shopper.userId);

  expect((await find(counting, orderNos)).orders.map(({ orderNo }) => orderNo)).toEqual(orderNos);
  expect(reads).toEqual([]);

  const forgotten = orderNos.slice(0, 3);
  for (const orderNo of forgotten) {
    await api.store(orderNo);
    await api.forget(orderNo);
  }
  expect((await find(counting, orderNos)).orders.map(({ orderNo }) => orderNo)).toEqual(orderNos);
  expect(reads).toEqual([forgotten]);
});

test('while Redis does not answer they are what MySQL has, and no later answer is older', async () => {
  const shopper = await api.shopper();
  const orderNos = [await buyStored(shopper), await buyStored(shopper)];
  const queued = await shopper.buy(saleId);
  const { reads, orders } = countReads();
  const cut = await openApp({ orders, reservations: { ...api.stores.reservations, lookUp: away } });
  for (const orderNo of orderNos) await api.stores.orders.requestCancel(orderNo);

  const seen = await find(await cut.shopper(shopper.userId), [...orderNos, queued]);

  expect(seen.orders).toMatchObject(orderNos.map((orderNo) => ({ orderNo, version: 2, closing: true })));
  expect(seen).toMatchObject({ complete: false, unknown: [] });
  expect(reads).toHaveLength(1);
  expect((await find(shopper, orderNos)).orders).toEqual(seen.orders);
  for (const order of seen.orders) expect(await shopper.readOrder(order.orderNo)).toEqual(order);
});

test('while MySQL is away those in Redis are shown, and of the others nothing is said', async () => {
  const shopper = await api.shopper();
  const [queued, forgotten] = [await shopper.buy(saleId), await buyStored(shopper)];
  await api.forget(forgotten);
  const { pool, ...parts } = await openMysqlAway();
  onTestFinished(() => pool.end());
  const withoutMysql = await (await openApp({ pool, ...parts })).shopper(shopper.userId);

  const seen = await find(withoutMysql, [queued, forgotten]);

  expect(seen).toMatchObject({ orders: [{ orderNo: queued }], complete: false, unknown: [] });
  const reply = await call(withoutMysql, [forgotten]);
  expect(refusalOf(reply)).toBe('503 status_unavailable');
  expect(reply.headers.get('retry-after')).toBe('1');
});

test('of numbers that may be lost orders five are judged in a call', async () => {
  const shopper = await api.shopper();
  const madeUp = Array.from({ length: 7 }, () => `${saleId}-0-9-${ulid()}`);
  let judged = 0;
  const { saleEpochs } = api.stores;
  const app = await openApp({
    saleEpochs: { ...saleEpochs, readLife: (id) => ((judged += 1), saleEpochs.readLife(id)) },
  });

  const seen = await find(await app.shopper(shopper.userId), madeUp);

  expect(seen).toMatchObject({ orders: [], complete: false, unknown: madeUp.slice(0, 5) });
  expect(judged).toBe(5);
});
