/** Payment sessions in MySQL: an order has one open session at a time, and none once it must not be paid. */

import { beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay, sign } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

async function storedOrder(overrides: Partial<Order> = {}): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId, ...overrides });
  await stores.orders.storeOrder(order, 'started');
  return order;
}

const begin = ({ orderNo }: Order) => stores.paymentSessions.begin('sandbox', orderNo, sign);

async function begun(order: Order) {
  const outcome = await begin(order);
  if (outcome.kind !== 'begun') throw new Error(outcome.kind);
  return outcome.session;
}

const opened = (providerSessionId: string, url: string) => ({ providerSessionId, url, expiresAtMs: null });

const statusesOf = async ({ orderNo }: Order) =>
  (
    await select(stores.pool, 'SELECT status FROM payment_sessions WHERE order_no = ? ORDER BY session_id', [
      orderNo,
    ])
  ).map(({ status }) => status);

test('a session is recorded for the order’s total and until its deadline, before the provider knows', async () => {
  const order = await storedOrder();
  expect(await begun(order)).toMatchObject({
    orderNo: order.orderNo,
    providerSessionId: null,
    url: null,
    amount: 4_900,
    currency: 'EUR',
    expiresAtMs: order.reservedAtMs + order.paymentWindowMs,
    signedOrder: `signed ${order.orderNo}`,
  });
  expect(await statusesOf(order)).toEqual(['opening']);
});

test('an order has one session at a time: beginning again returns the same', async () => {
  const order = await storedOrder();
  const session = await begun(order);
  expect(await begun(order)).toEqual(session);
  expect(await stores.paymentSessions.listOpen(order.orderNo)).toEqual([session]);
});

test('what the session carries is fixed when it is recorded, whatever signing would return later', async () => {
  const order = await storedOrder();
  const session = await begun(order);
  const again = await stores.paymentSessions.begin('sandbox', order.orderNo, () => Promise.resolve('other'));
  expect(again).toEqual({ kind: 'begun', session });
  const row = await selectOne(
    stores.pool,
    'SELECT signed_order, created_at FROM payment_sessions WHERE session_id = ?',
    [session.sessionId],
  );
  expect(row).toEqual({ signed_order: session.signedOrder, created_at: new Date(session.createdAtMs) });
});

test('no session is recorded for an order that cannot be signed', async () => {
  const order = await storedOrder();
  const failing = stores.paymentSessions.begin('sandbox', order.orderNo, () =>
    Promise.reject(new Error('no secret')),
  );
  await expect(failing).rejects.toThrow('no secret');
  expect(await statusesOf(order)).toEqual([]);
});

test('requests at once get the same session', async () => {
  const order = await storedOrder();
  const sessions = await Promise.all(Array.from({ length: 6 }, () => begun(order)));
  expect(new Set(sessions.map(({ sessionId }) => sessionId)).size).toBe(1);
  expect(await statusesOf(order)).toEqual(['opening']);
});

test('what the provider answered is kept, and returned to later requests', async () => {
  const order = await storedOrder();
  const { sessionId } = await begun(order);
  const record = (id: string) =>
    stores.paymentSessions.recordOpened(sessionId, opened(id, `https://pay.example/${id}`));
  expect([await record('ps_1'), await record('ps_2')]).toEqual([true, true]);
  expect(await begun(order)).toMatchObject({
    sessionId,
    providerSessionId: 'ps_1',
    url: 'https://pay.example/ps_1',
  });
});

test.each(['voided', 'paid'] as const)('a session that is %s is open no more', async (end) => {
  const order = await storedOrder();
  const { sessionId } = await begun(order);
  await stores.paymentSessions.recordOpened(sessionId, opened('ps_1', 'https://pay.example/1'));
  await stores.paymentSessions.recordClosed(sessionId, end);
  expect(await stores.paymentSessions.listOpen(order.orderNo)).toEqual([]);
  expect(await statusesOf(order)).toEqual([end]);
});

test('a session that was voided is not opened by a late answer of the provider', async () => {
  const order = await storedOrder();
  const { sessionId } = await begun(order);
  await stores.paymentSessions.recordClosed(sessionId, 'voided');
  const late = opened('ps_1', 'https://pay.example/1');
  expect(await stores.paymentSessions.recordOpened(sessionId, late)).toBe(false);
  expect(await statusesOf(order)).toEqual(['voided']);
});

test('after a session was voided the shopper can begin another', async () => {
  const order = await storedOrder();
  const first = await begun(order);
  await stores.paymentSessions.recordClosed(first.sessionId, 'voided');
  const second = await begun(order);
  expect(second.sessionId).not.toBe(first.sessionId);
});

test('no session begins once a cancel was asked for', async () => {
  const order = await storedOrder();
  await stores.orders.requestCancel(order.orderNo);
  expect(await begin(order)).toMatchObject({
    kind: 'not-payable',
    stored: { state: { status: 'awaiting_payment', reason: 'shopper_request' } },
  });
  expect(await statusesOf(order)).toEqual([]);
});

test('no session begins while the order is being cancelled, though one is open still', async () => {
  const order = await storedOrder();
  await begun(order);
  const outcome = await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  expect(outcome.kind).toBe('sessions-open');
  expect((await begin(order)).kind).toBe('not-payable');
});

test('no session begins for an order that has ended', async () => {
  const order = await storedOrder();
  await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  expect(await begin(order)).toMatchObject({
    kind: 'not-payable',
    stored: { state: { status: 'cancelled' } },
  });
});

test('no session begins for an order that is paid', async () => {
  const order = await storedOrder();
  await pay(stores, order);
  expect(await begin(order)).toMatchObject({
    kind: 'not-payable',
    stored: { state: { status: 'paid' } },
  });
});

test('no session begins past the deadline', async () => {
  const order = await storedOrder({ reservedAtMs: Date.now() - 60_000, paymentWindowMs: 60_000 });
  expect((await begin(order)).kind).toBe('not-payable');
});

test('no session begins for an order that is not stored', async () => {
  expect(await begin(buildOrder())).toEqual({ kind: 'not-stored' });
});

test('a session and a cancel at once: the order is cancelled only where no session is open', async () => {
  const orders = await Promise.all(Array.from({ length: 8 }, () => storedOrder()));
  for (const order of orders) {
    const [session, cancel] = await Promise.all([
      begin(order),
      stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false }),
    ]);
    expect(cancel.kind).toBe(session.kind === 'begun' ? 'sessions-open' : 'ended');
  }
});
