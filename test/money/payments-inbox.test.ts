/** The payment inbox: every notice is recorded once, and decides what becomes of its payment and order. */

import { beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildNotice, buildPayment, pay } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

async function storedOrder(): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'started');
  return order;
}

const paymentsOf = async (order: Order): Promise<unknown[]> =>
  (
    await select(stores.pool, 'SELECT status FROM payments WHERE order_no = ? ORDER BY payment_id', [
      order.orderNo,
    ])
  ).map(({ status }) => status);

/** Why each of the order's payments goes back, and whether its refund is due for the relay now. */
const refundsOf = async (order: Order): Promise<unknown[]> =>
  (
    await select(
      stores.pool,
      `SELECT refund_reason, engine_due_at <= NOW(3) AS due FROM payments WHERE order_no = ? ORDER BY payment_id`,
      [order.orderNo],
    )
  ).map(({ refund_reason: reason, due }) => (due === 1 ? reason : null));

const inboxOf = (order: Order) =>
  select(stores.pool, 'SELECT kind, raw_body FROM payment_events WHERE order_no = ?', [order.orderNo]);

test('a payment of a stored order is recorded, and pays for the order, in one step', async () => {
  const order = await storedOrder();
  const body = '{"amount":4900, "kept": "as it came"}';
  const stored = await stores.payments.receive('sandbox', buildNotice(buildPayment(order)), body);
  expect(stored).toMatchObject({
    isEnd: true,
    order,
    state: { status: 'paid', version: 2, payment: 'applied', reason: null },
  });
  expect(await inboxOf(order)).toEqual([{ kind: 'payment_succeeded', raw_body: Buffer.from(body) }]);
  expect(await paymentsOf(order)).toEqual(['applied']);
});

test('the same notice again changes nothing, one after the other and at once', async () => {
  const order = await storedOrder();
  const notice = buildNotice(buildPayment(order));
  const first = await stores.payments.receive('sandbox', notice, '{}');
  const again = await Promise.all(
    Array.from({ length: 6 }, () => stores.payments.receive('sandbox', notice, '{"other":1}')),
  );
  if (!first) throw new Error('no order');
  const { isEnd, ...same } = first;
  expect(isEnd).toBe(true);
  for (const answer of again) expect(answer).toEqual(same);
  expect(await inboxOf(order)).toEqual([{ kind: 'payment_succeeded', raw_body: Buffer.from('{}') }]);
  expect(await paymentsOf(order)).toEqual(['applied']);
});

test('two notices of one payment are both kept, and the payment counts once', async () => {
  const order = await storedOrder();
  const payment = buildPayment(order);
  await stores.payments.receive('sandbox', buildNotice(payment), '{}');
  await stores.payments.receive('sandbox', buildNotice(payment), '{}');
  expect(await inboxOf(order)).toHaveLength(2);
  expect(await paymentsOf(order)).toEqual(['applied']);
});

test.each([{ amount: 4_899 }, { amount: 4_901 }, { currency: 'USD' }])(
  'money of the wrong amount or currency (%o) waits for an operator and pays for nothing',
  async (wrong) => {
    const order = await storedOrder();
    expect(await pay(stores, order, wrong)).toMatchObject({ state: { payment: 'none', version: 1 } });
    expect(await paymentsOf(order)).toEqual(['parked']);
    const { provider_payment_id: paymentId } = await selectOne(
      stores.pool,
      'SELECT provider_payment_id FROM payments WHERE order_no = ?',
      [order.orderNo],
    );
    const parked = await selectOne(
      stores.pool,
      `SELECT reason FROM parked WHERE kind = 'payment' AND reference = ?`,
      [String(paymentId)],
    );
    expect(parked['reason']).toContain(order.orderNo);
  },
);

test('after a wrong amount the right one still pays the order', async () => {
  const order = await storedOrder();
  await pay(stores, order, { amount: 1 });
  expect(await pay(stores, order)).toMatchObject({ isEnd: true, state: { status: 'paid' } });
  expect(await paymentsOf(order)).toEqual(['parked', 'applied']);
});

test('a second payment is to be refunded', async () => {
  const order = await storedOrder();
  const { isEnd: _, ...paid } = (await pay(stores, order)) ?? {};
  expect(await pay(stores, order)).toEqual(paid);
  expect(await paymentsOf(order)).toEqual(['applied', 'refund_due']);
  expect(await refundsOf(order)).toEqual([null, 'duplicate_payment']);
});

test('of payments that come at once exactly one is the order’s', async () => {
  const order = await storedOrder();
  await Promise.all(Array.from({ length: 5 }, () => pay(stores, order)));
  expect((await paymentsOf(order)).filter((status) => status === 'applied')).toHaveLength(1);
  expect((await paymentsOf(order)).filter((status) => status === 'refund_due')).toHaveLength(4);
});

test('money after the order was cancelled is to be refunded, and the order stays cancelled', async () => {
  const order = await storedOrder();
  await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  expect(await pay(stores, order)).toMatchObject({ state: { status: 'cancelled', payment: 'none' } });
  expect(await paymentsOf(order)).toEqual(['refund_due']);
  expect(await refundsOf(order)).toEqual(['order_ended']);
});

test('money after the order was abandoned is to be refunded', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await stores.orders.abandon(order, 'store_unavailable');
  expect(await pay(stores, order)).toMatchObject({ state: { status: 'failed', payment: 'none' } });
  expect(await paymentsOf(order)).toEqual(['refund_due']);
  expect(await refundsOf(order)).toEqual(['order_ended']);
});

test('money for an order that is not stored is kept until it is', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  expect(await pay(stores, order)).toBeUndefined();
  expect(await inboxOf(order)).toHaveLength(1);
  expect(await paymentsOf(order)).toEqual(['received']);
});

test('a wrong amount that came before its order is parked when the order is stored', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await pay(stores, order, { amount: 1 });
  await stores.orders.storeOrder(order, 'due');
  expect(await paymentsOf(order)).toEqual(['parked']);
  expect((await stores.orders.read(order.orderNo))?.state).toMatchObject({ payment: 'none', version: 1 });
});

test('a failed payment is kept and leaves the order as it is', async () => {
  const order = await storedOrder();
  const notice = { kind: 'payment_failed', eventId: `f-${order.orderNo}`, orderNo: order.orderNo } as const;
  expect(await stores.payments.receive('sandbox', notice, '{}')).toMatchObject({ state: { version: 1 } });
  expect((await inboxOf(order)).map(({ kind }) => kind)).toEqual(['payment_failed']);
  expect(await paymentsOf(order)).toEqual([]);
});

test('a failed attempt that is reported after the payment changes nothing', async () => {
  const order = await storedOrder();
  const { isEnd: _, ...paid } = (await pay(stores, order)) ?? {};
  const notice = { kind: 'payment_failed', eventId: `f-${order.orderNo}`, orderNo: order.orderNo } as const;
  expect(await stores.payments.receive('sandbox', notice, '{}')).toEqual({ ...paid, isNewFailure: true });
  expect(await paymentsOf(order)).toEqual(['applied']);
});

test('a notice that moves no money is kept all the same', async () => {
  const eventId = `i-${buildOrder().orderNo}`;
  const notice = { kind: 'ignored', eventId, type: 'customer.created' } as const;
  expect(await stores.payments.receive('sandbox', notice, '{}')).toBeUndefined();
  const kept = await selectOne(
    stores.pool,
    'SELECT kind, order_no FROM payment_events WHERE provider_event_id = ?',
    [eventId],
  );
  expect(kept).toEqual({ kind: 'ignored', order_no: null });
});

test('money learned of in another way counts once together with its notice', async () => {
  const order = await storedOrder();
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  await stores.payments.record('sandbox', payment);
  await stores.payments.receive('sandbox', buildNotice(payment), '{}');
  expect(await paymentsOf(order)).toEqual(['applied']);
  expect((await stores.orders.read(order.orderNo))?.state).toMatchObject({ status: 'paid', version: 2 });
});

test.each(['an invoice of another shop', 'x'.repeat(3_000)])(
  'money that names no order (%.30s) is recorded and waits for an operator',
  async (reference) => {
    const order = buildOrder({ orderNo: reference });
    expect(await pay(stores, order)).toBeUndefined();
    const payment = await selectOne(
      stores.pool,
      'SELECT status, provider_payment_id FROM payments WHERE order_no = ?',
      [reference.slice(0, 255)],
    );
    expect(payment['status']).toBe('parked');
    const parked = `SELECT COUNT(*) AS parked FROM parked WHERE kind = 'payment' AND reference = ?`;
    expect(await selectOne(stores.pool, parked, [payment['provider_payment_id']])).toEqual({ parked: 1 });
  },
);
