/** An idempotency key belongs to one order for a day, in MySQL as in Redis; after that it is free again. */

import { beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { expectBooksToBalance, kindsOf, select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const NOW_MS = Date.now();

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const openSale = async (): Promise<string> => (await stores.openSale(buildSale())).saleId;

/** Ada's orders with one key, in the order of their numbers, accepted so long ago. */
function ordersOfOneKey(saleId: string, agesMs: readonly number[]): Order[] {
  const orders = agesMs.map((ageMs) =>
    buildOrder({ saleId, idempotencyKey: 'k', reservedAtMs: NOW_MS - ageMs }),
  );
  // Numbers of one millisecond are in no order.
  const orderNos = orders.map(({ orderNo }) => orderNo).toSorted();
  return orders.map((order, i) => ({ ...order, orderNo: orderNos[i] ?? order.orderNo }));
}

async function store(batch: readonly Order[]): Promise<string[]> {
  return kindsOf(await stores.orders.storeOrders(batch, 'due'), [...batch]);
}

/** The key of each of these orders, as MySQL has it. */
async function keysOf(orders: readonly Order[]): Promise<unknown[]> {
  const rows = await select(
    stores.pool,
    'SELECT order_no, idempotency_key FROM orders WHERE order_no IN (?)',
    [orders.map(({ orderNo }) => orderNo)],
  );
  const keys = new Map(rows.map((row) => [row['order_no'], row['idempotency_key']]));
  return orders.map(({ orderNo }) => keys.get(orderNo));
}

async function expectStoredOnce(saleId: string, units: number): Promise<void> {
  expect((await stores.sales.readStock(saleId))[0]).toMatchObject({ held: units });
  await expectBooksToBalance(stores, saleId);
}

test('a shopper who uses a key again after a day gets an order that is stored', async () => {
  const saleId = await openSale();
  const first = await acceptOrder(stores, saleId, { idempotencyKey: 'k' });
  expect(await store([first])).toEqual(['stored']);
  await stores.pool.query('UPDATE orders SET reserved_at = reserved_at - INTERVAL 1 DAY WHERE order_no = ?', [
    first.orderNo,
  ]);
  await stores.redis.del(saleKeys({ saleId, shard: 0 }).idem('ada', 'k'));
  const second = await acceptOrder(stores, saleId, { idempotencyKey: 'k' });
  expect(await store([second])).toEqual(['stored']);
  expect(await keysOf([first, second])).toEqual([null, 'k']);
  // A relay that comes again with either changes nothing.
  expect(await store([first, second])).toEqual(['stored', 'stored']);
  await expectStoredOnce(saleId, 2);
});

test('within a day the second order with a key is a duplicate, to the millisecond', async () => {
  const saleId = await openSale();
  const [first, second] = ordersOfOneKey(saleId, [DAY_MS - 1, 0]);
  if (!first || !second) throw new Error('two orders');
  expect(await store([first])).toEqual(['stored']);
  expect(await store([second])).toEqual(['duplicate_request']);
  expect(await keysOf([first, second])).toEqual(['k', undefined]);
  await expectStoredOnce(saleId, 1);
});

test('orders of one key that are a day apart are stored from one batch, beside those that are not', async () => {
  const saleId = await openSale();
  const days = ordersOfOneKey(saleId, [2 * DAY_MS, DAY_MS, DAY_MS / 2, 0]);
  const others = Array.from({ length: 4 }, () => buildOrder({ saleId }));
  const kinds = await store([...others.slice(0, 2), ...days, ...others.slice(2)]);
  expect(kinds).toEqual([
    'stored',
    'stored',
    'stored',
    'stored',
    'duplicate_request',
    'stored',
    'stored',
    'stored',
  ]);
  expect(await keysOf(days)).toEqual([null, null, undefined, 'k']);
  await expectStoredOnce(saleId, 7);
});

test('an order that is stored a day late leaves the key to the younger one', async () => {
  const saleId = await openSale();
  const [late, young] = ordersOfOneKey(saleId, [DAY_MS, 0]);
  if (!late || !young) throw new Error('two orders');
  expect(await store([young])).toEqual(['stored']);
  expect(await store([late])).toEqual(['stored']);
  expect(await keysOf([late, young])).toEqual([null, 'k']);
  await expectStoredOnce(saleId, 2);
});

test('a batch that is halved for an order that cannot be stored takes the key for the others', async () => {
  const saleId = await openSale();
  const [first, second] = ordersOfOneKey(saleId, [DAY_MS, 0]);
  if (!first || !second) throw new Error('two orders');
  await store([first]);
  const unfit = buildOrder({ saleId, items: [{ sku: 'sofa', quantity: 1, unitPrice: 1 }] });
  const other = buildOrder({ saleId });
  expect(await store([unfit, second, other])).toEqual(['unknown_sku', 'stored', 'stored']);
  expect(await keysOf([first, second])).toEqual([null, 'k']);
  await expectStoredOnce(saleId, 3);
});

test('of several callers who take the key at once for two orders, one order gets it', async () => {
  const saleId = await openSale();
  const [old, ...young] = ordersOfOneKey(saleId, [DAY_MS, 0, 0]);
  if (!old) throw new Error('three orders');
  await store([old]);
  const answers = await Promise.all([...young, ...young].map((order) => store([order])));
  const kinds = young.map((_, i) => [answers[i]?.[0], answers[i + young.length]?.[0]]);
  for (const [one, other] of kinds) expect(other).toBe(one);
  expect(new Set(kinds.flat())).toEqual(new Set(['stored', 'duplicate_request']));
  await expectStoredOnce(saleId, 2);
});
