/** Orders on their way from MySQL to Temporal: which are due, who has claimed them, which have arrived. */

import { inTransaction, modify, type Pool, type PoolConnection } from '../connection.ts';
import { selectOrders, type StoredOrder } from '../rows/order-rows.ts';

/** A claimed order is handed over within seconds; a relay that died leaves it to the next after this time. */
const CLAIM_MS = 30_000;
/** The window runs from the workflow's start, which may be a third of it after the reservation; the rest is for slow steps. */
const OVERDUE_GRACE_MS = 5 * 60_000;
/** Of an order that awaits payment: by now its workflow should have ended it. */
export const IS_OVERDUE = `deadline < NOW(3) - INTERVAL (payment_window_ms DIV 2 + ${OVERDUE_GRACE_MS}) * 1000 MICROSECOND`;

export type OrderClaims = ReturnType<typeof createOrderClaims>;

export function createOrderClaims(pool: Pool) {
  return {
    /**
     * Takes up to `limit` orders to be handed to Temporal, those with money first, then the longest due.
     * Each belongs to the caller until `complete`, or until the claim runs out.
     */
    take: (limit: number): Promise<StoredOrder[]> =>
      inTransaction(pool, async (connection) => {
        const withMoney = await selectDue(connection, 'received', limit);
        const others =
          withMoney.length < limit ? await selectDue(connection, 'none', limit - withMoney.length) : [];
        const claimed = [...withMoney, ...others];
        if (claimed.length > 0) await setDue(connection, claimed, new Date(Date.now() + CLAIM_MS));
        return claimed;
      }),

    /** Temporal has the order's workflow, and knows of money or a cancel where that was the reason. */
    async complete(orders: readonly StoredOrder[]): Promise<void> {
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
    async release(orders: readonly StoredOrder[]): Promise<void> {
      if (orders.length > 0)
        await inTransaction(pool, (connection) => setDue(connection, orders, new Date()));
    },

    /**
     * Orders that should have ended long ago and that nobody is about to hand over become due again: their workflow may have
     * been terminated, or Temporal may have lost it. For those that run as they should this changes nothing.
     * @returns how many
     */
    requeueOverdue: (limit: number): Promise<number> =>
      inTransaction(pool, (connection) =>
        modify(
          connection,
          `UPDATE orders SET engine_due_at = NOW(3)
           WHERE status = 'awaiting_payment' AND engine_due_at IS NULL AND ${IS_OVERDUE} LIMIT ?`,
          [limit],
        ),
      ),
  };
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
