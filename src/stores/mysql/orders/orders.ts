/** Stored orders, and the changes of their status, each conditional and under the lock of the order's row. */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { PROJECTION_TTL_MS } from '../../../domain/limits.ts';
import {
  isFinal,
  type ClosingReason,
  type FailureReason,
  type Order,
  type OrderState,
} from '../../../domain/order.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { now } from '../leases.ts';
import { applyPayment, makeSignalDue, settleEarlyPayments, settlePayments } from '../money/inbox.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import { lockOrder, readOrders, recordEvents, transition, type StoredOrder } from '../rows/order-rows.ts';
import { park, unpark } from '../rows/parked.ts';
import { bookMovement } from '../rows/stock-ledger.ts';
import { insertOrderRows } from './insert-order-rows.ts';
import { storeOrders, type StoreOutcome, type WorkflowPresence } from './store-orders.ts';

const sessionRow = z.object({ session_id: z.string() });

/** stored: a slow write had stored the order before, so it goes on. */
export type AbandonOutcome = { kind: 'abandoned'; state: OrderState } | { kind: 'stored'; state: OrderState };

/**
 * ended: the order is final, by this call or an earlier one. payment-received: a payment came first, so the
 * caller must mark the order paid. sessions-open: the shopper might still pay, so the caller must void the
 * sessions and cancel again.
 */
export type CancelOutcome = { kind: 'ended' | 'payment-received' | 'sessions-open'; state: OrderState };

/** `isNews`: this very call recorded the wish. */
export type WishRecorded = StoredOrder & { isNews: boolean };

/** An outbox entry that no relay can work on. */
export interface UnusableEntry {
  /** `Outbox.referenceOf` the entry. */
  reference: string;
  orderNo: string;
  cause: 'outbox_entry_unreadable' | 'order_refused' | 'paid_order_refused';
  reason: string;
}

export type Orders = ReturnType<typeof createOrders>;

export function createOrders(pool: Pool) {
  return {
    storeOrders: (orders: readonly Order[], presence: WorkflowPresence): Promise<Map<string, StoreOutcome>> =>
      storeOrders(pool, orders, presence),

    /** As `storeOrders`, for one order. */
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
     * Abandons an order that could not be stored: a tombstone in its place keeps any slow write from storing
     * it later. The tombstone leaves the idempotency key out, because another order may have it.
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

    /** awaiting_payment → cancelled, unless a payment came first. `force`: even with open sessions. */
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
     * Records that the shopper wants to cancel, where the order awaits payment and no payment has come. From
     * then on no payment session opens, and the workflow cancels the order.
     * @param staff where it is not the shopper who wants it
     * @returns the order as it is now
     */
    requestCancel: (orderNo: string, staff?: Decision): Promise<WishRecorded> =>
      inTransaction(pool, async (connection) => {
        const stored = await settlePayments(connection, await lockStoredOrder(connection, orderNo));
        const { status, payment, reason } = stored.state;
        if (status !== 'awaiting_payment' || payment !== 'none' || reason)
          return { ...stored, isNews: false };
        await makeSignalDue(connection, orderNo);
        const by = staff ? 'operator_request' : 'shopper_request';
        if (staff) {
          const detail = { before: status, after: 'cancelled' };
          await recordAction(connection, { ...staff, action: 'cancel_requested', subject: orderNo, detail });
        }
        return { ...(await transition(connection, stored, { reason: by })), isNews: true };
      }),

    /**
     * Parks the order for an operator: this step keeps failing, and its workflow goes on trying.
     * @param step the words by which the Web UI shows it; null: of a workflow from before it was recorded
     */
    park: (orderNo: string, reason: string, step: string | null): Promise<void> =>
      park(pool, 'order', orderNo, reason, { cause: 'step_failing', inputs: { orderNo, step } }),

    /**
     * Parks an ended order whose hold is missing in Redis; not one that ended so long ago that its hold has
     * expired, whose step is only repeated.
     */
    async parkLostHold(orderNo: string): Promise<void> {
      if (await hasEndedLongAgo(pool, orderNo)) return;
      const reason = 'it has ended, and the hold that was to be settled is not in Redis';
      await park(pool, 'order', orderNo, reason, { cause: 'hold_lost', inputs: { orderNo } });
    },

    /** Ends the parking once the order's step has succeeded. */
    unpark: (orderNo: string): Promise<void> => unpark(pool, 'order', orderNo),

    /** Parks an outbox entry whose order cannot be read, started or stored. */
    parkOutboxEntry: ({ reference, orderNo, cause, reason }: UnusableEntry): Promise<void> =>
      park(pool, 'outbox_entry', reference, reason, { cause, inputs: { orderNo } }),
  };
}

async function abandon(
  connection: PoolConnection,
  order: Order,
  reason: FailureReason,
): Promise<AbandonOutcome> {
  const { orderNo } = order;
  // What was shown of it is lost in MySQL, and must not be taken for newer.
  const version = (order.shown?.version ?? 0) + 1;
  const state: OrderState = { status: 'failed', version, payment: 'none', reason };
  // A tombstone must fit where the order did not, so the columns that are only recorded are left out.
  // The ticket stays spent.
  const empty = { ip: '', userAgent: '', reference: '', metadata: {}, charges: [] };
  const tombstone = { ...order, ...empty, idempotencyKey: null };
  const inserted = await insertOrderRows(connection, [tombstone], {
    batchId: ulid(),
    stateOf: () => state,
    startedAt: now,
    dueAt: null,
    triedAt: null,
  });
  if (inserted === 1) await recordEvents(connection, [{ orderNo, state }]);
  // A payment that came for the order must be refunded.
  const stored = await settleEarlyPayments(connection, await lockStoredOrder(connection, orderNo));
  return { kind: stored.state.status === 'failed' ? 'abandoned' : 'stored', state: stored.state };
}

async function lockStoredOrder(connection: PoolConnection, orderNo: string): Promise<StoredOrder> {
  const stored = await lockOrder(connection, orderNo);
  assert(stored, `order ${orderNo} is not stored`);
  return stored;
}

/**
 * Ends the order, as a step of its workflow: sets a final status, ends what is due of it and that it is
 * parked, and moves its stock.
 */
async function end(
  connection: PoolConnection,
  stored: StoredOrder,
  movement: 'sell' | 'release',
  change: Partial<Omit<OrderState, 'version'>>,
): Promise<OrderState> {
  const { state } = await transition(connection, stored, change);
  await modify(
    connection,
    'UPDATE orders SET engine_due_at = NULL, end_due_at = NULL, end_begun_at = NULL WHERE order_no = ?',
    [stored.order.orderNo],
  );
  await unpark(connection, 'order', stored.order.orderNo);
  await bookMovement(connection, movement, [stored.order]);
  return state;
}

async function hasEndedLongAgo(pool: Pool, orderNo: string): Promise<boolean> {
  const ends = await selectRows(
    pool,
    z.object({ version: z.int() }),
    `SELECT version FROM order_events WHERE order_no = ? AND status IN ('paid', 'cancelled', 'failed')
       AND occurred_at < NOW(3) - INTERVAL ? * 1000 MICROSECOND LIMIT 1`,
    [orderNo, PROJECTION_TTL_MS],
  );
  return ends.length > 0;
}

async function hasOpenSessions(connection: PoolConnection, orderNo: string): Promise<boolean> {
  const rows = await selectRows(
    connection,
    sessionRow,
    `SELECT session_id FROM payment_sessions WHERE order_no = ? AND status IN ('opening', 'open') LIMIT 1`,
    [orderNo],
  );
  return rows.length > 0;
}
