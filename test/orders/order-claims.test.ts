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
  await modify(stores.pool, `UPDATE orders SET engine_due_at = NULL, status = 'failed'`);
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
  expect(await stores.orderClaims.take(10)).toEqual([{ order, state, mayRun: false, isEnding: false }]);
});

test('ended orders come first, then those that a person wants cancelled, then the longest due, up to the limit', async () => {
  const [young, old, middle] = await storeAhead(3);
  const [paid, cancelled, wanted] = [buildOrder({ saleId }), buildOrder({ saleId }), buildOrder({ saleId })];
  const running = [paid, cancelled, wanted];
  await stores.orders.storeOrders([paid, wanted], 'started');
  await stores.orders.storeOrder(cancelled, 'claimed');
  await pay(stores, paid);
  await stores.endings.endOne(cancelled.orderNo, { force: false });
  await stores.orders.requestCancel(wanted.orderNo);
  await ageDue(young, 10);
  await ageDue(old, 30);
  await ageDue(middle, 20);
  for (const order of running) await ageDue(order, 0);

  expect(await claim(4)).toEqual([paid.orderNo, cancelled.orderNo, wanted.orderNo, old?.orderNo]);
  expect(await claim(3)).toEqual([middle?.orderNo, young?.orderNo]);
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

test('a cancel request begins a new place, whatever failed before', async () => {
  const [order] = await storeAhead(1);
  for (let tries = 0; tries < 3; tries += 1) {
    const claimed = await stores.orderClaims.take(1);
    await stores.orderClaims.release(claimed, claimed);
  }
  await stores.orders.requestCancel(order?.orderNo ?? '');
  const sql = 'SELECT engine_failures AS failures, engine_since AS since FROM orders WHERE order_no = ?';
  expect(await selectOne(stores.pool, sql, [order?.orderNo])).toEqual({ failures: 0, since: null });
});

test('a probe is none that failed thrice in a row, of whatever rank, unless nothing else is due', async () => {
  const [other] = await storeAhead(1);
  const poison = buildOrder({ saleId });
  await stores.orders.storeOrder(poison, 'started');
  await pay(stores, poison);
  await ageDue(poison, 0);
  for (let tries = 0; tries < 3; tries += 1) {
    const claimed = await stores.orderClaims.take(1);
    expect(claimed.map(({ order }) => order.orderNo)).toEqual([poison.orderNo]);
    await stores.orderClaims.release(claimed, claimed);
  }
  const probe = async () =>
    (await stores.orderClaims.take(1, 1, Date.now(), true)).map(({ order }) => order.orderNo);
  expect(await probe()).toEqual([other?.orderNo]);
  expect(await probe()).toEqual([poison.orderNo]);
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

test('an order that has ended before its start was tried is not due', async () => {
  const [paid, cancelled] = await storeAhead(2);
  if (paid) await pay(stores, paid);
  if (cancelled) await stores.endings.endOne(cancelled.orderNo, { force: false });
  const due = 'SELECT order_no FROM orders WHERE sale_id = ? AND engine_due_at IS NOT NULL';
  expect(await select(stores.pool, due, [saleId])).toEqual([]);
});

const dueOf = ({ orderNo }: Order) =>
  selectOne(
    stores.pool,
    `SELECT TIMESTAMPDIFF(SECOND, start_tried_at, engine_due_at) AS afterTry, engine_due_at <= NOW(3) AS due,
       workflow_started_at IS NOT NULL AS begun FROM orders WHERE order_no = ?`,
    [orderNo],
  );

test('an order that is paid while it is being started is signalled once that start can succeed no more', async () => {
  const [order] = await storeAhead(1);
  if (!order) throw new Error('an order');
  await stores.orderClaims.take(1);
  await pay(stores, order);
  expect(await dueOf(order)).toEqual({ afterTry: 30, due: 0, begun: 0 });
});

test('the start of an order that was paid meanwhile makes its signal due at once', async () => {
  const [order] = await storeAhead(1);
  if (!order) throw new Error('an order');
  const claimed = await stores.orderClaims.take(1);
  await pay(stores, order);

  await stores.orderClaims.complete(claimed);

  const signal = await stores.orderClaims.take(1);
  expect(signal).toMatchObject([{ order: { orderNo: order.orderNo }, state: { status: 'paid' } }]);
  await stores.orderClaims.complete(signal);
  expect(await stores.orderClaims.take(1)).toEqual([]);
});

test('who holds an old claim changes nothing more about an order that was paid meanwhile', async () => {
  const [order] = await storeAhead(1);
  if (!order) throw new Error('an order');
  const claimed = await stores.orderClaims.take(1);
  await pay(stores, order);
  const rowOf = () => selectOne(stores.pool, 'SELECT * FROM orders WHERE order_no = ?', [order.orderNo]);
  const paid = await rowOf();

  await stores.orderClaims.release(claimed);
  await stores.orderClaims.release(claimed, claimed);
  expect(await rowOf()).toEqual(paid);

  // MySQL knows that its workflow has begun.
  await modify(stores.pool, 'UPDATE orders SET workflow_started_at = NOW(3) WHERE order_no = ?', [
    order.orderNo,
  ]);
  const begun = await rowOf();
  await stores.orderClaims.complete(claimed);
  expect(await rowOf()).toEqual(begun);
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
