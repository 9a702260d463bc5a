/** Stored orders: the changes of their status, each a conditional step under the lock of the order's row. */

import { strict as assert } from 'node:assert';
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
} from '../domain/order.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from './mysql.ts';
import {
  lockOrder,
  readOrders,
  recordEvents,
  selectOrders,
  transition,
  type StoredOrder,
} from './order-rows.ts';
import { park, unpark } from './parked.ts';
import { applyPayment, makeDue, settlePayments } from './payment-rows.ts';
import { bookMovement } from './stock-ledger.ts';
import { storeOrders, type StoreOutcome, type WorkflowPresence } from './store-orders.ts';

/** stored: a slow write came first, so the order lives and goes on. */
export type AbandonOutcome = { kind: 'abandoned'; state: OrderState } | { kind: 'stored'; state: OrderState };

/**
 * ended: the order is final, now or before. payment-received: money came first, mark it paid.
 * sessions-open: shoppers might still pay; void their sessions, then cancel again.
 */
export type CancelOutcome = { kind: 'ended' | 'payment-received' | 'sessions-open'; state: OrderState };

/** A claimed order is handed over within seconds; a relay that died leaves it to the next after this time. */
const CLAIM_MS = 30_000;
/** The window runs from the workflow's start, which may be a third of it after the reservation; the rest is for slow steps. */
const OVERDUE_GRACE_MS = 5 * 60_000;

export type Orders = ReturnType<typeof createOrders>;

export function createOrders(pool: Pool) {
  return {
    storeOrders: (orders: readonly Order[], presence: WorkflowPresence): Promise<Map<string, StoreOutcome>> =>
      storeOrders(pool, orders, presence),

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
        const stored = await settlePayments(connection, await mustLock(connection, orderNo));
        const { status, payment } = stored.state;
        if (status !== 'awaiting_payment' || payment !== 'received') return stored.state;
        await applyPayment(connection, orderNo);
        return end(connection, stored, 'sell', { status: 'paid', payment: 'applied', reason: null });
      }),

    /** awaiting_payment → cancelled, unless money came first. `force`: sessions still open no longer hold it up. */
    cancel: (orderNo: string, reason: ClosingReason, { force }: { force: boolean }): Promise<CancelOutcome> =>
      inTransaction(pool, async (connection) => {
        const stored = await settlePayments(connection, await mustLock(connection, orderNo));
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
        const stored = await settlePayments(connection, await mustLock(connection, orderNo));
        const { status, payment, reason } = stored.state;
        if (status !== 'awaiting_payment' || payment !== 'none' || reason) return stored;
        await makeDue(connection, orderNo);
        return transition(connection, stored, { reason: 'shopper_request' });
      }),

    /**
     * Takes up to `limit` orders to be handed to Temporal, those with money first, then the longest due.
     * Each belongs to the caller until `handedOver`, or until the claim runs out.
     */
    claimDue: (limit: number): Promise<StoredOrder[]> =>
      inTransaction(pool, async (connection) => {
        const withMoney = await selectDue(connection, 'received', limit);
        const others =
          withMoney.length < limit ? await selectDue(connection, 'none', limit - withMoney.length) : [];
        const claimed = [...withMoney, ...others];
        if (claimed.length > 0) await setDue(connection, claimed, new Date(Date.now() + CLAIM_MS));
        return claimed;
      }),

    /** Temporal has the order's workflow, and knows of money or a cancel where that was the reason. */
    async handedOver(orders: readonly StoredOrder[]): Promise<void> {
      if (orders.length === 0) return;
      // Money that came since then changed the version, and made the order due anew.
      const unchanged = orders.map(({ order, state }) => [order.orderNo, state.version]);
      await inTransaction(pool, (connection) =>
        modify(
          connection,
          `UPDATE orders SET workflow_started_at = COALESCE(workflow_started_at, NOW(3)), engine_due_at = NULL
         WHERE (order_no, version) IN (?)`,
          [unchanged],
        ),
      );
    },

    /** Gives claimed orders back at once: they could not be handed over now. */
    async returnClaims(orders: readonly StoredOrder[]): Promise<void> {
      if (orders.length > 0)
        await inTransaction(pool, (connection) => setDue(connection, orders, new Date()));
    },

    /** Leaves the order to a person, visibly; its workflow goes on trying. */
    park: (orderNo: string, reason: string): Promise<void> => park(pool, 'order', orderNo, reason),

    /** The order has settled after all. */
    unpark: (orderNo: string): Promise<void> => unpark(pool, 'order', orderNo),

    /**
     * Orders that should have ended long ago and that nobody is about to hand over become due again: their workflow may have
     * been terminated, or Temporal may have lost it. For those that run as they should this changes nothing.
     * @returns how many
     */
    wakeOverdue: (limit: number): Promise<number> =>
      inTransaction(pool, (connection) =>
        modify(
          connection,
          `UPDATE orders SET engine_due_at = NOW(3)
           WHERE status = 'awaiting_payment' AND engine_due_at IS NULL
             AND deadline < NOW(3) - INTERVAL (payment_window_ms DIV 2 + ${OVERDUE_GRACE_MS}) * 1000 MICROSECOND
           LIMIT ?`,
          [limit],
        ),
      ),

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
  const stored = await settlePayments(connection, await mustLock(connection, orderNo));
  return { kind: stored.state.status === 'failed' ? 'abandoned' : 'stored', state: stored.state };
}

async function mustLock(connection: PoolConnection, orderNo: string): Promise<StoredOrder> {
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

/** Rows that other relays are claiming are skipped; the index is in this order, so only `limit` rows are locked. */
function selectDue(
  connection: PoolConnection,
  payment: 'received' | 'none',
  limit: number,
): Promise<StoredOrder[]> {
  return selectOrders(
    connection,
    `payment = ? AND engine_due_at <= NOW(3) ORDER BY engine_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
    [payment, limit],
  );
}

async function setDue(
  connection: PoolConnection,
  orders: readonly StoredOrder[],
  dueAt: Date,
): Promise<void> {
  await modify(
    connection,
    'UPDATE orders SET engine_due_at = ? WHERE order_no IN (?) AND engine_due_at IS NOT NULL',
    [dueAt, orders.map(({ order }) => order.orderNo)],
  );
}
