/** Sales take turns: where many orders of one sale wait, the orders of others do not wait for all of them. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { listUnbegunSales } from '../../src/orders/turns.sql.ts';
import { ageClaim } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const WINDOW_MS = 60_000;
const NONE: ReadonlySet<string> = new Set();

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
// Nothing of an earlier test waits.
beforeEach(() =>
  modify(stores.pool, `UPDATE orders SET status = 'failed', engine_due_at = NULL, end_due_at = NULL`),
);

async function openSale(saleId: string): Promise<string> {
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  await stores.openSale(buildSale({ saleId, skus }));
  return saleId;
}

/** @param dueForSeconds since when they wait for a start */
async function storeWaiting(saleId: string, count: number, dueForSeconds = 0): Promise<void> {
  const orders = Array.from({ length: count }, () => buildOrder({ saleId }));
  await stores.orders.storeOrders(orders, 'due');
  for (const { orderNo } of orders) await ageClaim(stores.pool, 'start', orderNo, dueForSeconds);
}

async function storeLate(saleId: string, count: number): Promise<void> {
  const reservedAtMs = Date.now() - 2 * WINDOW_MS;
  const orders = Array.from({ length: count }, (_, i) =>
    buildOrder({ saleId, reservedAtMs: reservedAtMs + i, paymentWindowMs: WINDOW_MS }),
  );
  await stores.orders.storeOrders(orders, 'due');
}

async function startsOf(limit: number, after = '', without = NONE): Promise<string[]> {
  const claimed = await stores.orderClaims.take(limit, limit, Date.now(), false, { after, without });
  return claimed.map(({ order }) => order.saleId);
}

test('a sale whose orders came later has half of the starts', async () => {
  const [rush, quiet] = [await openSale('turn-a'), await openSale('turn-b')];
  await storeWaiting(rush, 12, 60);
  await storeWaiting(quiet, 3);
  const sales = await startsOf(8);
  expect(sales.filter((saleId) => saleId === quiet)).toHaveLength(3);
  expect(sales.filter((saleId) => saleId === rush)).toHaveLength(5);
});

test('with room for one start, two sales have it one after the other', async () => {
  const [one, other] = [await openSale('turn-c'), await openSale('turn-d')];
  await storeWaiting(one, 4, 60);
  await storeWaiting(other, 4);
  const first = await startsOf(1);
  const second = await startsOf(1, first[0]);
  const third = await startsOf(1, second[0]);
  expect([...first, ...second, ...third]).toEqual([one, other, one]);
});

test('a sale in a burst has no starts, and the other sale has all', async () => {
  const [burst, quiet] = [await openSale('turn-e'), await openSale('turn-f')];
  await storeWaiting(burst, 5, 60);
  await storeWaiting(quiet, 2);
  expect(await startsOf(10, '', new Set([burst]))).toEqual([quiet, quiet]);
  expect(await startsOf(10, '', new Set([burst]))).toEqual([]);
  expect(await startsOf(10)).toEqual([burst, burst, burst, burst, burst]);
});

test('an order that is overdue ends in the second page, however many of another sale are overdue', async () => {
  const [rush, quiet] = [await openSale('turn-g'), await openSale('turn-h')];
  await storeLate(rush, 30);
  await storeLate(quiet, 1);
  const first = await stores.endings.endPage(Date.now(), 10);
  expect([first.saleId, first.taken]).toEqual([rush, 10]);
  const second = await stores.endings.endPage(Date.now(), 10, first.saleId);
  expect([second.saleId, second.taken]).toEqual([quiet, 1]);
  const third = await stores.endings.endPage(Date.now(), 10, second.saleId);
  expect([third.saleId, third.taken]).toEqual([rush, 10]);
});

test('of more than fifty sales, the fifty-first has its turn in the next pass', async () => {
  const names = Array.from({ length: 52 }, (_, i) => `turn-x-${String(i).padStart(2, '0')}`);
  for (const saleId of names) {
    await openSale(saleId);
    await storeWaiting(saleId, 1);
  }
  const first = await listUnbegunSales(stores.pool, '');
  expect(first).toEqual(names.slice(0, 50));
  const second = await listUnbegunSales(stores.pool, first.at(-1) ?? '');
  expect(second.slice(0, 3)).toEqual([names[50], names[51], names[0]]);
  expect(new Set(second).size).toBe(50);
});
