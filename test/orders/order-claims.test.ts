/** Claims of due orders: what claims of refunds have not. `claims.test.ts` has the rest. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { ageClaim } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(async () => {
  // What is due is due in all sales: each test begins with nothing.
  await modify(stores.pool, 'UPDATE orders SET engine_due_at = NULL');
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  ({ saleId } = await stores.openSale(buildSale({ skus })));
});

async function storeAhead(count: number): Promise<Order[]> {
  const orders = Array.from({ length: count }, () => buildOrder({ saleId }));
  await stores.orders.storeOrders(orders, 'due');
  return orders;
}

const ageDue = (order: Order | undefined, seconds: number) =>
  ageClaim(stores.pool, 'start', order?.orderNo ?? '', seconds);

const claim = async (limit: number) =>
  (await stores.orderClaims.take(limit)).map(({ order }) => order.orderNo);

test('a claim has all that the workflow of its order needs', async () => {
  const [order] = await storeAhead(1);
  const state = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
  expect(await stores.orderClaims.take(10)).toEqual([{ order, state }]);
});

test('those with money come first, then the longest due, up to the limit', async () => {
  const orders = await storeAhead(4);
  const [young, old, middle, paid] = orders;
  await ageDue(young, 10);
  await ageDue(old, 30);
  await ageDue(middle, 20);
  if (paid) await pay(stores, paid);
  await ageDue(paid, 0);
  expect(await claim(3)).toEqual([paid?.orderNo, old?.orderNo, middle?.orderNo]);
  expect(await claim(3)).toEqual([young?.orderNo]);
});

test('those of a sale that is called off come after all other cancels', async () => {
  const [calledOff, unpaid, late] = await storeAhead(3);
  const close = (order: Order | undefined, reason: string) =>
    modify(stores.pool, 'UPDATE orders SET closing_reason = ? WHERE order_no = ?', [reason, order?.orderNo]);
  await close(calledOff, 'called_off');
  await close(unpaid, 'wait_timeout');
  await close(late, 'payment_timeout');
  await ageDue(calledOff, 60);
  expect(await claim(3)).toEqual([late?.orderNo, unpaid?.orderNo, calledOff?.orderNo]);
});

test('those of a sale that is called off leave half of the room to those that are to be started', async () => {
  const calledOff = await storeAhead(6);
  const orderNos = calledOff.map(({ orderNo }) => orderNo);
  await modify(stores.pool, `UPDATE orders SET closing_reason = 'called_off' WHERE order_no IN (?)`, [
    orderNos,
  ]);
  const [start] = await storeAhead(1);

  const first = await claim(5);
  expect(first).toHaveLength(5);
  expect(first).toContain(start?.orderNo);
  expect(await claim(5)).toHaveLength(2);
});

test('an order whose claim is completed is started and due no more', async () => {
  const [order] = await storeAhead(1);
  await stores.orderClaims.complete(await stores.orderClaims.take(1));
  const row = await selectOne(
    stores.pool,
    'SELECT workflow_started_at IS NOT NULL AS started, engine_due_at AS due FROM orders WHERE order_no = ?',
    [order?.orderNo],
  );
  expect(row).toEqual({ started: 1, due: null });
});

test('completing a claim twice keeps the time of the first start', async () => {
  const [order] = await storeAhead(1);
  const claimed = await stores.orderClaims.take(1);
  await stores.orderClaims.complete(claimed);
  await modify(stores.pool, `UPDATE orders SET workflow_started_at = '2026-01-01' WHERE order_no = ?`, [
    order?.orderNo,
  ]);
  await stores.orderClaims.complete(claimed);
  const row = await selectOne(
    stores.pool,
    'SELECT workflow_started_at AS at FROM orders WHERE order_no = ?',
    [order?.orderNo],
  );
  expect(row['at']).toEqual(new Date('2026-01-01T00:00:00Z'));
});

test('money begins a new place, whatever failed before', async () => {
  const [order] = await storeAhead(1);
  for (let tries = 0; tries < 3; tries += 1) {
    const claimed = await stores.orderClaims.take(1);
    await stores.orderClaims.release(claimed, claimed);
  }
  if (order) await pay(stores, order);
  const sql = 'SELECT engine_failures AS failures, engine_since AS since FROM orders WHERE order_no = ?';
  expect(await selectOne(stores.pool, sql, [order?.orderNo])).toEqual({ failures: 0, since: null });
});

test('a probe is none that failed thrice in a row, of whatever rank, unless nothing else is due', async () => {
  const [poison, other] = await storeAhead(2);
  if (poison) await pay(stores, poison);
  if (poison) await ageDue(poison, 0);
  for (let tries = 0; tries < 3; tries += 1) {
    const claimed = await stores.orderClaims.take(1);
    expect(claimed.map(({ order }) => order.orderNo)).toEqual([poison?.orderNo]);
    await stores.orderClaims.release(claimed, claimed);
  }
  const probe = async () =>
    (await stores.orderClaims.take(1, 1, Date.now(), true)).map(({ order }) => order.orderNo);
  expect(await probe()).toEqual([other?.orderNo]);
  expect(await probe()).toEqual([poison?.orderNo]);
});

test('a claim released late does not make an order due that has ended meanwhile', async () => {
  const [order] = await storeAhead(1);
  const claimed = await stores.orderClaims.take(1);
  await stores.orders.cancel(order?.orderNo ?? '', 'operator_request', { force: false });
  await stores.orderClaims.release(claimed);
  expect(await claim(1)).toEqual([]);
});

test('a running order becomes due by the wish to cancel and by money, after a grace for the direct way', async () => {
  const [cancelling, paid] = [buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.storeOrders([cancelling, paid], 'started');
  await stores.orders.requestCancel(cancelling.orderNo);
  await pay(stores, paid);
  for (const order of [cancelling, paid]) await ageDue(order, 0);
  expect(await claim(10)).toEqual([paid.orderNo, cancelling.orderNo]);
});

test('an order that has ended is not due', async () => {
  const [paid, cancelled] = await storeAhead(2);
  if (paid) await pay(stores, paid);
  await stores.orders.markPaid(paid?.orderNo ?? '');
  await stores.orders.cancel(cancelled?.orderNo ?? '', 'payment_timeout', { force: false });
  const due = 'SELECT order_no FROM orders WHERE sale_id = ? AND engine_due_at IS NOT NULL';
  expect(await select(stores.pool, due, [saleId])).toEqual([]);
});

test('what is parked twice waits for an operator once, with the first reason', async () => {
  const [order] = await storeAhead(1);
  const orderNo = order?.orderNo ?? '';
  await stores.orders.park(orderNo, 'first', null);
  await stores.orders.park(orderNo, 'x'.repeat(600), null);
  await stores.orders.parkOutboxEntry({
    reference: orderNo,
    orderNo,
    cause: 'outbox_entry_unreadable',
    reason: 'y'.repeat(600),
  });
  const parked = 'SELECT kind, LEFT(reason, 5) AS reason FROM parked WHERE reference = ? ORDER BY parked_id';
  expect(await select(stores.pool, parked, [orderNo])).toEqual([
    { kind: 'order', reason: 'first' },
    { kind: 'outbox_entry', reason: 'yyyyy' },
  ]);
});
