/** Claims of due orders: relays take, complete and release them, and no two have the same. */

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());
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

/** As if it had become due so long ago. */
const ageDue = (order: Order | undefined, seconds: number) =>
  modify(
    stores.pool,
    'UPDATE orders SET engine_due_at = NOW(3) - INTERVAL ? SECOND WHERE order_no = ? AND engine_due_at IS NOT NULL',
    [seconds, order?.orderNo],
  );

const claim = async (limit: number) =>
  (await stores.orderClaims.take(limit)).map(({ order }) => order.orderNo);

test('orders stored ahead are claimed with all that their workflow needs, once', async () => {
  const [order] = await storeAhead(1);
  const state = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
  expect(await stores.orderClaims.take(10)).toEqual([{ order, state }]);
  expect(await stores.orderClaims.take(10)).toEqual([]);
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

test('two relays that claim at once never get the same order, and together get all', async () => {
  const orders = await storeAhead(60);
  const claims = await Promise.all(Array.from({ length: 6 }, () => claim(10)));
  const claimed = claims.flat();
  expect(new Set(claimed).size).toBe(claimed.length);
  const rest = await claim(100);
  expect(new Set([...claimed, ...rest])).toEqual(new Set(orders.map(({ orderNo }) => orderNo)));
  expect(claimed.length + rest.length).toBe(60);
});

test('a claim of a relay that died expires', async () => {
  const [order] = await storeAhead(1);
  await claim(1);
  const { seconds } = await selectOne(
    stores.pool,
    'SELECT TIMESTAMPDIFF(SECOND, NOW(3), engine_due_at) AS seconds FROM orders WHERE order_no = ?',
    [order?.orderNo],
  );
  expect(seconds).toBeGreaterThan(0);
  expect(seconds).toBeLessThanOrEqual(30);
  await ageDue(order, 0);
  expect(await claim(1)).toEqual([order?.orderNo]);
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

test('money that came while an order was claimed keeps it due', async () => {
  const [order, quiet] = await storeAhead(2);
  const claimed = await stores.orderClaims.take(2);
  if (order) await pay(stores, order);
  await stores.orderClaims.complete(claimed);
  await ageDue(order, 0);
  await ageDue(quiet, 0);
  expect(await claim(10)).toEqual([order?.orderNo]);
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

test('released claims can be claimed again at once', async () => {
  const orders = await storeAhead(3);
  await stores.orderClaims.release(await stores.orderClaims.take(3));
  expect(new Set(await claim(3))).toEqual(new Set(orders.map(({ orderNo }) => orderNo)));
});

test('what was not tried, and what failed once or twice, keeps its place; a third failure in a row loses it', async () => {
  const orders = await storeAhead(4);
  const [poison, ...others] = orders.map(({ orderNo }) => orderNo);
  for (const [i, order] of orders.entries()) await ageDue(order, 40 - i);
  const { take, release, complete } = stores.orderClaims;
  const tryFirst = async (): Promise<string | undefined> => {
    const claimed = await take(3);
    await release(claimed, claimed.slice(0, 1));
    return claimed[0]?.order.orderNo;
  };

  expect([await tryFirst(), await tryFirst(), await tryFirst()]).toEqual([poison, poison, poison]);
  expect(await claim(4)).toEqual([...others, poison]);

  // From then on each failure is one in a row, until one try succeeds.
  for (const [i, order] of orders.entries()) await ageDue(order, 40 - i);
  expect(await tryFirst()).toBe(poison);
  const again = await take(4);
  expect(again.map(({ order }) => order.orderNo)).toEqual([...others, poison]);
  await complete(again);
  await stores.orderClaims.requeue(orders.map(({ orderNo }) => orderNo));
  for (const [i, order] of orders.entries()) await ageDue(order, 40 - i);
  expect([await tryFirst(), await tryFirst()]).toEqual([poison, poison]);
});

test('an order whose relay died has its first place again once its claim was taken and released', async () => {
  const [first, second] = await storeAhead(2);
  await ageDue(first, 60);
  await ageDue(second, 30);
  await claim(1);
  // Its claim runs out, by then behind the other.
  await ageDue(first, 0);
  const claimed = await stores.orderClaims.take(2);
  expect(claimed.map(({ order }) => order.orderNo)).toEqual([second?.orderNo, first?.orderNo]);

  await stores.orderClaims.release(claimed);

  expect(await claim(2)).toEqual([first?.orderNo, second?.orderNo]);
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

test('completing and releasing no claims does nothing', async () => {
  await storeAhead(1);
  await stores.orderClaims.complete([]);
  await stores.orderClaims.release([]);
  expect(await claim(10)).toHaveLength(1);
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
