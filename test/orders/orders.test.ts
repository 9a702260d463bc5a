/** The changes of an order in MySQL: abandon, a payment, markPaid, cancel and requestCancel. */

import { beforeAll, describe, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildPayment, pay, sign } from '../support/payment-notices.ts';
import { everything, expectBooksToBalance, select, selectOne, waitForStatement } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const gently = { force: false };

async function newOrder() {
  const { saleId } = await stores.openSale(buildSale());
  return buildOrder({ saleId });
}

async function storedOrder() {
  const order = await newOrder();
  await stores.orders.storeOrder(order, 'started');
  return order;
}

async function lamps(saleId: string) {
  await expectBooksToBalance(stores, saleId);
  const [lamp] = await stores.sales.readStock(saleId);
  return { held: lamp?.held, sold: lamp?.sold };
}

const versionsOf = async (orderNo: string) =>
  (
    await select(stores.pool, 'SELECT version FROM order_events WHERE order_no = ? ORDER BY version', [
      orderNo,
    ])
  ).map(({ version }) => version);

describe('abandon', () => {
  test('leaves a tombstone that no slow write can turn into an order', async () => {
    const order = await newOrder();
    const state = { status: 'failed', version: 1, payment: 'none', reason: 'store_unavailable' };
    expect(await stores.orders.abandon(order, 'store_unavailable')).toEqual({ kind: 'abandoned', state });
    const storing = await stores.orders.storeOrder(order, 'started');
    expect(storing).toEqual({ kind: 'abandoned', state });
    expect((await stores.orders.read(order.orderNo))?.state).toEqual(state);
    expect(await lamps(order.saleId)).toEqual({ held: 0, sold: 0 });
  });

  test('waits for a write that hangs half-way, and lets the order live when it commits', async () => {
    const order = await newOrder();
    const blocker = await stores.pool.getConnection();
    try {
      await blocker.beginTransaction();
      await blocker.query('SELECT held FROM skus WHERE sale_id = ? FOR UPDATE', [order.saleId]);
      // The order's row is written; the counters, which come last, are not to be had.
      const storing = stores.orders.storeOrders([order], 'started');
      await waitForStatement(stores.pool, 'UPDATE skus SET held%');
      const abandoning = stores.orders.abandon(order, 'store_unavailable');
      await waitForStatement(stores.pool, 'INSERT INTO orders%');
      await blocker.commit();

      expect((await storing).get(order.orderNo)?.kind).toBe('stored');
      expect(await abandoning).toMatchObject({ kind: 'stored', state: { status: 'awaiting_payment' } });
    } finally {
      blocker.release();
    }
    expect(await lamps(order.saleId)).toEqual({ held: 1, sold: 0 });
  });

  test('returns stored where the slow write came first, and changes nothing', async () => {
    const order = await storedOrder();
    const before = await everything(stores.pool, order.saleId);
    expect(await stores.orders.abandon(order, 'store_unavailable')).toMatchObject({
      kind: 'stored',
      state: { status: 'awaiting_payment' },
    });
    expect(await everything(stores.pool, order.saleId)).toEqual(before);
  });

  test('returns the same when it is repeated, with the first reason', async () => {
    const order = await newOrder();
    const first = await stores.orders.abandon(order, 'stock_exhausted');
    expect(await stores.orders.abandon(order, 'store_unavailable')).toEqual(first);
    expect(await versionsOf(order.orderNo)).toEqual([1]);
  });

  test('leaves the idempotency key to the order that it belongs to', async () => {
    const order = await storedOrder();
    const duplicate = buildOrder({ saleId: order.saleId, idempotencyKey: order.idempotencyKey });
    expect(await stores.orders.abandon(duplicate, 'duplicate_request')).toMatchObject({ kind: 'abandoned' });
  });

  test('sends money back that came before', async () => {
    const order = await newOrder();
    await pay(stores, order);
    await stores.orders.abandon(order, 'store_unavailable');
    expect(
      await select(stores.pool, 'SELECT status, refund_reason FROM payments WHERE order_no = ?', [
        order.orderNo,
      ]),
    ).toEqual([{ status: 'refund_due', refund_reason: 'order_ended' }]);
  });
});

describe('a payment', () => {
  test('sells what was held, once', async () => {
    const order = await storedOrder();
    const payment = buildPayment(order);
    const paid = { status: 'paid', version: 2, payment: 'applied', reason: null };
    expect((await pay(stores, order, payment))?.state).toEqual(paid);
    expect((await pay(stores, order, payment))?.state).toEqual(paid);
    expect(await lamps(order.saleId)).toEqual({ held: 0, sold: 1 });
    expect(await versionsOf(order.orderNo)).toEqual([1, 2]);
  });

  test('pays for an order that is to be cancelled, also while its payment pages are being voided', async () => {
    const [wanted, voiding] = [await storedOrder(), await storedOrder()];
    await stores.orders.requestCancel(wanted.orderNo);
    await stores.paymentSessions.begin('sandbox', voiding.orderNo, sign);
    const { kind } = await stores.orders.cancel(voiding.orderNo, 'payment_timeout', gently);
    expect(kind).toBe('sessions-open');
    for (const order of [wanted, voiding]) {
      const paid = { status: 'paid', version: 3, payment: 'applied', reason: null };
      expect((await pay(stores, order))?.state).toEqual(paid);
      expect(await lamps(order.saleId)).toEqual({ held: 0, sold: 1 });
    }
  });

  test('ends all that was due for its order, with the leases, and that it was parked', async () => {
    const { saleId } = await stores.openSale(buildSale({ expiringNoticeMs: 60_000 }));
    const order = buildOrder({ saleId });
    await stores.orders.storeOrder(order, 'due');
    await stores.orders.park(order.orderNo, 'for the test', null);
    // As after two failed starts, while it is claimed again and its payment pages are being voided.
    await modify(
      stores.pool,
      `UPDATE orders SET engine_since = NOW(3), engine_failures = 2, end_begun_at = NOW(3), end_due_at = NOW(3)
       WHERE order_no = ?`,
      [order.orderNo],
    );

    await pay(stores, order);

    expect(
      await selectOne(
        stores.pool,
        `SELECT engine_due_at, engine_since, engine_failures, expiring_due_at, end_due_at > NOW(3) AS to_follow
         FROM orders WHERE order_no = ?`,
        [order.orderNo],
      ),
    ).toEqual({
      engine_due_at: null,
      engine_since: null,
      engine_failures: 0,
      expiring_due_at: null,
      to_follow: 1,
    });
    const parked = 'SELECT resolved_at IS NOT NULL AS resolved FROM parked WHERE reference = ?';
    expect(await select(stores.pool, parked, [order.orderNo])).toEqual([{ resolved: 1 }]);
    expect(await stores.endings.takeClosing(10)).toEqual([]);
  });
});

describe('markPaid', () => {
  test('returns the order as its payment has made it, and changes nothing', async () => {
    const [open, paid, cancelled] = [await storedOrder(), await storedOrder(), await storedOrder()];
    await pay(stores, paid);
    await stores.orders.cancel(cancelled.orderNo, 'payment_timeout', gently);
    for (const [order, state] of [
      [open, { status: 'awaiting_payment', version: 1 }],
      [paid, { status: 'paid', version: 2, payment: 'applied' }],
      [cancelled, { status: 'cancelled' }],
    ] as const) {
      const before = await everything(stores.pool, order.saleId);
      expect(await stores.orders.markPaid(order.orderNo)).toMatchObject(state);
      expect(await everything(stores.pool, order.saleId)).toEqual(before);
    }
  });

  test('fails loudly for an order that is not stored', async () => {
    await expect(stores.orders.markPaid(buildOrder().orderNo)).rejects.toThrow('is not stored');
  });
});

describe('cancel', () => {
  test('ends the order and gives its stock back, once', async () => {
    const order = await storedOrder();
    const first = await stores.orders.cancel(order.orderNo, 'payment_timeout', gently);
    expect(first).toMatchObject({ kind: 'ended', state: { status: 'cancelled', reason: 'payment_timeout' } });
    expect(await stores.orders.cancel(order.orderNo, 'operator_request', gently)).toEqual(first);
    expect(await lamps(order.saleId)).toEqual({ held: 0, sold: 0 });
  });

  test('returns ended for a paid order, which stays paid, also with force', async () => {
    const order = await storedOrder();
    await pay(stores, order);
    for (const force of [false, true])
      expect(await stores.orders.cancel(order.orderNo, 'payment_timeout', { force })).toMatchObject({
        kind: 'ended',
        state: { status: 'paid', version: 2, reason: null },
      });
    expect(await lamps(order.saleId)).toEqual({ held: 0, sold: 1 });
  });

  test('waits for open sessions, goes on once they are void, and keeps its reason', async () => {
    const order = await storedOrder();
    const begun = await stores.paymentSessions.begin('sandbox', order.orderNo, sign);
    if (begun.kind !== 'begun') throw new Error(begun.kind);
    for (const _ of [1, 2]) {
      expect(await stores.orders.cancel(order.orderNo, 'payment_timeout', gently)).toMatchObject({
        kind: 'sessions-open',
        state: { status: 'awaiting_payment', version: 2, reason: 'payment_timeout' },
      });
    }
    await stores.paymentSessions.recordClosed(begun.session.sessionId, 'voided');
    expect(await stores.orders.cancel(order.orderNo, 'operator_request', gently)).toMatchObject({
      kind: 'ended',
      state: { status: 'cancelled', reason: 'payment_timeout' },
    });
  });

  test('with force ends the order although a session is open', async () => {
    const order = await storedOrder();
    await stores.paymentSessions.begin('sandbox', order.orderNo, sign);
    expect(await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true })).toMatchObject({
      kind: 'ended',
      state: { status: 'cancelled' },
    });
  });

  test('and a payment at once end in exactly one way, for order, stock and money', async () => {
    for (const order of await Promise.all(Array.from({ length: 8 }, storedOrder))) {
      const [{ kind, state }] = await Promise.all([
        stores.orders.cancel(order.orderNo, 'payment_timeout', gently),
        pay(stores, order),
      ]);
      expect(kind).toBe('ended');
      const { status } = state;
      expect((await stores.orders.read(order.orderNo))?.state.status).toBe(status);
      const payments = await select(stores.pool, 'SELECT status FROM payments WHERE order_no = ?', [
        order.orderNo,
      ]);
      expect(payments).toEqual([{ status: status === 'paid' ? 'applied' : 'refund_due' }]);
      expect(await lamps(order.saleId)).toEqual({ held: 0, sold: status === 'paid' ? 1 : 0 });
    }
  });
});

describe('requestCancel', () => {
  test('records the wish once; the order still awaits payment and holds its stock', async () => {
    const order = await storedOrder();
    const state = { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'shopper_request' };
    expect(await stores.orders.requestCancel(order.orderNo)).toMatchObject({ state });
    expect(await stores.orders.requestCancel(order.orderNo)).toMatchObject({ state });
    expect(await lamps(order.saleId)).toEqual({ held: 1, sold: 0 });
  });

  test('comes too late for an order that is paid', async () => {
    const order = await storedOrder();
    await pay(stores, order);
    expect(await stores.orders.requestCancel(order.orderNo)).toMatchObject({
      isNews: false,
      state: { status: 'paid', version: 2, reason: null },
    });
  });

  test('changes nothing about an order that has ended', async () => {
    const order = await storedOrder();
    await stores.orders.cancel(order.orderNo, 'payment_timeout', gently);
    expect(await stores.orders.requestCancel(order.orderNo)).toMatchObject({
      state: { status: 'cancelled', reason: 'payment_timeout' },
    });
  });
});
