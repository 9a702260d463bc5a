/** Stored orders: the changes of their status, each a conditional step under the lock of the order's row. */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import {
  isFinal,
  orderDeadlineMs,
  parseOrderNo,
  type ClosingReason,
  type FailureReason,
  type Order,
  type OrderState,
} from '../../../domain/order.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import {
  applyPayment,
  makeSignalDue,
  settleEarlyPayments,
  settlePayments,
} from '../money/settle-payments.ts';
import { lockOrder, readOrders, recordEvents, transition, type StoredOrder } from '../rows/order-rows.ts';
import { park, unpark } from '../rows/parked.ts';
import { bookMovement } from '../rows/stock-ledger.ts';
import { storeOrders, type StoreOutcome, type WorkflowPresence } from './store-orders.ts';

/** stored: a slow write came first, so the order lives and goes on. */
export type AbandonOutcome = { kind: 'abandoned'; state: OrderState } | { kind: 'stored'; state: OrderState };

/**
 * ended: the order is final, now or before. payment-received: money came first, mark it paid.
 * sessions-open: shoppers might still pay; void their sessions, then cancel again.
 */
export type CancelOutcome = { kind: 'ended' | 'payment-received' | 'sessions-open'; state: OrderState };

export type Orders = ReturnType<typeof createOrders>;

export function createOrders(pool: Pool) {
  return {
    storeOrders: (orders: readonly Order[], presence: WorkflowPresence): Promise<Map<string, StoreOutcome>> =>
      storeOrders(pool, orders, presence),

    /** As `storeOrders`, of one. */
    async storeOrder(order: Order, presence: WorkflowPresence): Promise<StoreOutcome> {
      const outcome = (await storeOrders(pool, [order], presence)).get(order.orderNo);
      assert(outcome, `order ${order.orderNo} was stored without an outcome`);
      return outcome;
    },

    /** Undefined when the order is not stored. */
    async read(orderNo: string): Promise<StoredOrder | undefined> {
      return (await readOrders(pool, [orderNo]))[0];
    },

    /**
     * Gives up an order that could not be stored: a tombstone in its place keeps any slow write from storing it later.
     * Its idempotency key stays free of the tombstone, for it may be another order's.
     */
    abandon: (order: Order, reason: FailureReason): Promise<AbandonOutcome> =>
      inTransaction(pool, (connection) => abandon(connection, order, reason)),

    /** awaiting_payment → paid, where a payment has been received; otherwise the order stays as it is. */
    markPaid: (orderNo: string): Promise<OrderState> =>
      inTransaction(pool, async (connection) => {
        const stored = await settlePayments(connection, await lockStoredOrder(connection, orderNo));
        const { status, payment } = stored.state;
        if (status !== 'awaiting_payment' || payment !== 'received') return stored.state;
        await applyPayment(connection, orderNo);
        return end(connection, stored, 'sell', { status: 'paid', payment: 'applied', reason: null });
      }),

    /** awaiting_payment → cancelled, unless money came first. `force`: sessions still open no longer hold it up. */
    cancel: (orderNo: string, reason: ClosingReason, { force }: { force: boolean }): Promise<CancelOutcome> =>
      inTransaction(pool, async (connection) => {
        const stored = await settlePayments(connection, await lockStoredOrder(connection, orderNo));
        if (isFinal(stored.state.status)) return { kind: 'ended', state: stored.state };
        if (stored.state.payment === 'received') return { kind: 'payment-received', state: stored.state };
        const closing = stored.state.reason ? stored : await transition(connection, stored, { reason });
        if (!force && (await hasOpenSessions(connection, orderNo))) {
          return { kind: 'sessions-open', state: closing.state };
        }
        return { kind: 'ended', state: await end(connection, closing, 'release', { status: 'cancelled' }) };
      }),

    /**
     * Records that the shopper wants to cancel. From then on no payment session opens; the workflow does the rest.
     * Answers the order as it is now: the wish is recorded where it awaits payment and no money has come.
     */
    requestCancel: (orderNo: string): Promise<StoredOrder> =>
      inTransaction(pool, async (connection) => {
        const stored = await settlePayments(connection, await lockStoredOrder(connection, orderNo));
        const { status, payment, reason } = stored.state;
        if (status !== 'awaiting_payment' || payment !== 'none' || reason) return stored;
        await makeSignalDue(connection, orderNo);
        return transition(connection, stored, { reason: 'shopper_request' });
      }),

    /** Leaves the order to a person, visibly; its workflow goes on trying. */
    park: (orderNo: string, reason: string): Promise<void> => park(pool, 'order', orderNo, reason),

    /** The order has settled after all. */
    unpark: (orderNo: string): Promise<void> => unpark(pool, 'order', orderNo),

    /** Leaves an outbox entry that names no order to a person. */
    parkOutboxEntry: (entryId: string, reason: string): Promise<void> =>
      park(pool, 'outbox_entry', entryId, reason),
  };
}

async function abandon(
  connection: PoolConnection,
  order: Order,
  reason: FailureReason,
): Promise<AbandonOutcome> {
  const { orderNo } = order;
  const batchId = ulid();
  const state: OrderState = { status: 'failed', version: 1, payment: 'none', reason };
  const inserted = await modify(
    connection,
    `INSERT INTO orders (order_no, sale_id, user_id, idempotency_key, status, payment, version, epoch, batch_id, total,
       currency, ip, user_agent, reserved_at, payment_window_ms, deadline, closing_reason, workflow_started_at)
     VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NOW(3))
     ON DUPLICATE KEY UPDATE order_no = order_no`,
    [
      orderNo,
      order.saleId,
      order.userId,
      state.status,
      state.payment,
      state.version,
      parseOrderNo(orderNo)?.epoch,
      batchId,
      order.total,
      order.currency,
      // A tombstone must fit where the order did not: what is only recorded is left out.
      '',
      '',
      new Date(order.reservedAtMs),
      order.paymentWindowMs,
      new Date(orderDeadlineMs(order)),
      reason,
    ],
  );
  if (inserted === 1) await recordEvents(connection, [{ orderNo, state }]);
  // Money that came for it must go back.
  const stored = await settleEarlyPayments(connection, await lockStoredOrder(connection, orderNo));
  return { kind: stored.state.status === 'failed' ? 'abandoned' : 'stored', state: stored.state };
}

async function lockStoredOrder(connection: PoolConnection, orderNo: string): Promise<StoredOrder> {
  const stored = await lockOrder(connection, orderNo);
  assert(stored, `order ${orderNo} is not stored`);
  return stored;
}

/** The order's end: final status, nothing more to hand over, stock moved. */
async function end(
  connection: PoolConnection,
  stored: StoredOrder,
  movement: 'sell' | 'release',
  change: Partial<Omit<OrderState, 'version'>>,
): Promise<OrderState> {
  const { state } = await transition(connection, stored, change);
  await modify(connection, 'UPDATE orders SET engine_due_at = NULL WHERE order_no = ?', [
    stored.order.orderNo,
  ]);
  await bookMovement(connection, movement, [stored.order]);
  return state;
}

async function hasOpenSessions(connection: PoolConnection, orderNo: string): Promise<boolean> {
  const rows = await selectRows(
    connection,
    z.object({ session_id: z.string() }),
    `SELECT session_id FROM payment_sessions WHERE order_no = ? AND status IN ('opening', 'open') LIMIT 1`,
    [orderNo],
  );
  return rows.length > 0;
}
