/** Orders long past their deadline that have not ended: they become due again, or are parked. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Order } from '../../../../src/domain/order.ts';
import { buildOrder, buildSale } from '../../../support/factories.ts';
import { select } from '../../../support/rows.ts';
import { openTestStores, type TestStores } from '../../../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

async function storeStarted(): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'started');
  return order;
}

const HOUR_AGO = `NOW(3) - INTERVAL 61 MINUTE`;

test('an order long past its deadline that was not settled is due again', async () => {
  const [overdue, open] = [await storeStarted(), await storeStarted()];
  await stores.pool.query(`UPDATE orders SET deadline = ${HOUR_AGO} WHERE order_no = ?`, [overdue.orderNo]);

  expect(await stores.orderClaims.requeueOverdue(10)).toBe(1);

  const due = await stores.orderClaims.take(10);
  expect(due.map(({ order }) => order.orderNo)).toEqual([overdue.orderNo]);
  expect(due.map(({ order }) => order.orderNo)).not.toContain(open.orderNo);
});

test('an order that has ended is never overdue', async () => {
  const order = await storeStarted();
  await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  await stores.pool.query(`UPDATE orders SET deadline = ${HOUR_AGO} WHERE order_no = ?`, [order.orderNo]);
  expect(await stores.orderClaims.requeueOverdue(10)).toBe(0);
});

test('an order that does not fit the columns can still be abandoned', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId, ip: 'x'.repeat(400), userAgent: 'y'.repeat(4_000) });
  const outcome = await stores.orders.storeOrder(order, 'started');
  expect(outcome).toEqual({ kind: 'refused', reason: 'invalid_order' });
  expect(await stores.orders.abandon(order, 'invalid_order')).toMatchObject({ kind: 'abandoned' });
});

test('what settled after all waits for no operator, and parked anew it has its new reason', async () => {
  const { orderNo } = buildOrder();
  await stores.orders.park(orderNo, 'first');
  await stores.orders.unpark(orderNo);
  const waiting = `SELECT reason FROM parked WHERE reference = ? AND resolved_at IS NULL`;
  expect(await select(stores.pool, waiting, [orderNo])).toEqual([]);
  await stores.orders.park(orderNo, 'second');
  expect(await select(stores.pool, waiting, [orderNo])).toEqual([{ reason: 'second' }]);
});
