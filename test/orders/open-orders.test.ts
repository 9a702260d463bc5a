/** Open orders as a walk over them sees them, and those that become due again. */

import { beforeAll, expect, test } from 'vitest';
import type { OpenOrder } from '../../src/orders/claims.sql.ts';
import type { Order } from '../../src/orders/content.ts';
import { ageDeadline } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

async function storeStarted(): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'started');
  return order;
}

const dueAt = (orderNo: string, at: string) =>
  stores.pool.query(`UPDATE orders SET engine_due_at = ${at} WHERE order_no = ?`, [orderNo]);

/** Each with its deadline so many minutes ahead. */
async function storeWithDeadlines(...minutes: number[]): Promise<string[]> {
  const orderNos: string[] = [];
  for (const ahead of minutes) {
    const { orderNo } = await storeStarted();
    await ageDeadline(stores.pool, orderNo, -60 * ahead);
    orderNos.push(orderNo);
  }
  return orderNos;
}

test('open orders are listed by their deadlines, page by page, and none twice', async () => {
  const [late, soon, overdue] = await storeWithDeadlines(60, 10, -61);
  const alike = await storeWithDeadlines(30, 30, 30);
  await stores.pool.query('UPDATE orders SET deadline = ? WHERE order_no IN (?)', [
    new Date(Date.now() + 30 * 60_000),
    alike,
  ]);

  const listed: OpenOrder[] = [];
  for (;;) {
    const page = await stores.orderClaims.listOpen(listed.at(-1), 2);
    listed.push(...page);
    if (page.length < 2) break;
  }

  expect(listed.map(({ orderNo }) => orderNo)).toEqual([overdue, soon, ...alike.toSorted(), late]);
  expect(listed.filter(({ isOverdue }) => isOverdue).map(({ orderNo }) => orderNo)).toEqual([overdue]);
  for (const { orderNo } of listed) await stores.orders.cancel(orderNo, 'payment_timeout', { force: true });
  expect(await stores.orderClaims.listOpen(undefined, 10)).toEqual([]);
});

test('of open orders those wait whose workflow has begun, and of which nothing is due or claimed', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [waiting, due, claimed] = await storeWithDeadlines(1, 2, 3);
  await dueAt(due ?? '', 'NOW(3)');
  await dueAt(claimed ?? '', 'NOW(3) + INTERVAL 10 MINUTE');
  const backlog = buildOrder({ saleId });
  await stores.orders.storeOrder(backlog, 'due');
  const ended = await storeStarted();
  await stores.orders.cancel(ended.orderNo, 'payment_timeout', { force: false });

  const listed = await stores.orderClaims.listOpen(undefined, 10);

  expect(listed.filter(({ isWaiting }) => isWaiting).map(({ orderNo }) => orderNo)).toEqual([waiting]);
  const all = [waiting, due, claimed, backlog.orderNo, ended.orderNo].map(String);
  const requeued = await Promise.all([stores.orderClaims.requeue(all), stores.orderClaims.requeue(all)]);
  expect(requeued.flat()).toEqual([waiting]);
  expect(await stores.orderClaims.requeue([])).toEqual([]);
});

test('an order that does not fit the columns can still be abandoned', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId, reference: 'x'.repeat(400), userAgent: 'y'.repeat(70_000) });
  const outcome = await stores.orders.storeOrder(order, 'started');
  expect(outcome).toEqual({ kind: 'refused', reason: 'invalid_order' });
  expect(await stores.orders.abandon(order, 'invalid_order')).toMatchObject({ kind: 'abandoned' });
});

test('what settled after all waits for no operator, and parked anew it has its new reason', async () => {
  const { orderNo } = buildOrder();
  await stores.orders.park(orderNo, 'first', null);
  await stores.orders.unpark(orderNo);
  const waiting = `SELECT reason FROM parked WHERE reference = ? AND resolved_at IS NULL`;
  expect(await select(stores.pool, waiting, [orderNo])).toEqual([]);
  await stores.orders.park(orderNo, 'second', null);
  expect(await select(stores.pool, waiting, [orderNo])).toEqual([{ reason: 'second' }]);
});
