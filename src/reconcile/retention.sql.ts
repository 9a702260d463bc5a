/** Removes what is kept no longer, in batches: contacts, signed orders, notices, parked work, deliveries. */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { fromNow } from '../mysql/leases.ts';
import { carriedText } from '../orders/content.ts';
import { FINAL_STATUSES, parseOrderNo } from '../orders/order.ts';

/** Rows that one statement changes: few enough to hold their locks for milliseconds. */
const BATCH = 500;
/** Payments about which something is still to be done. There are few at a time. */
const PENDING_MAX = 10_000;

const orderNoRow = z.object({ order_no: z.string() });
const noticeRow = z.object({ entry_id: z.int(), old: z.coerce.boolean() });
const doneRow = z.object({ done: z.coerce.boolean() });

/**
 * Whether nothing needs the sale's data in Redis any more: it has been over for so long, none of its
 * orders is open, and no money of it waits for a decision, a refund or a return.
 */
export async function isRedisDone(pool: Pool, saleId: string, keepMs: number): Promise<boolean> {
  const [row] = await selectRows(
    pool,
    doneRow,
    `SELECT closes_at < NOW(3) - INTERVAL (? + payment_window_ms) * 1000 MICROSECOND
           AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.status = 'awaiting_payment' AND o.sale_id = s.sale_id) AS done
         FROM sales s WHERE s.sale_id = ?`,
    [keepMs, saleId],
  );
  if (row?.done !== true) return false;
  const pending = await selectRows(
    pool,
    orderNoRow,
    `SELECT order_no FROM payments WHERE status IN ('received', 'refund_due')
         UNION SELECT order_no FROM payments WHERE engine_due_at > '2000-01-01' LIMIT ?`,
    [PENDING_MAX],
  );
  const isOfSale = pending.some(({ order_no: orderNo }) => parseOrderNo(orderNo)?.saleId === saleId);
  return pending.length < PENDING_MAX && !isOfSale;
}

/** From here on nothing makes the sale's data in Redis again. Idempotent. */
export async function noteRedisCleaned(pool: Pool, saleId: string): Promise<void> {
  await modify(
    pool,
    'UPDATE sales SET redis_cleaned_at = COALESCE(redis_cleaned_at, NOW(3)) WHERE sale_id = ?',
    [saleId],
  );
}

/**
 * Clears ip and user agent of orders that have ended, the longest ago first, and their signed orders.
 * @returns how many; fewer than a batch: there are no more
 */
export function clearContacts(pool: Pool, olderThanMs: number): Promise<Batch> {
  return inTransaction(pool, async (connection) => {
    const rows = await selectRows(
      connection,
      orderNoRow,
      `SELECT order_no FROM orders WHERE contact_kept = TRUE AND reserved_at < ? AND status IN (?)
           ORDER BY reserved_at LIMIT ?`,
      [fromNow(-olderThanMs), FINAL_STATUSES, BATCH],
    );
    const orderNos = rows.map((row) => row.order_no);
    await clearOrders(connection, orderNos);
    return batchOf(orderNos.length);
  });
}

/**
 * Clears the raw bodies of old notices.
 * @param after the entry at which the batch before ended; 0: begins
 */
export async function clearNotices(
  pool: Pool,
  after: number,
  olderThanMs: number,
): Promise<Batch & { last: number }> {
  const rows = await selectRows(
    pool,
    noticeRow,
    'SELECT entry_id, received_at < ? AS old FROM payment_events WHERE entry_id > ? ORDER BY entry_id LIMIT ?',
    [fromNow(-olderThanMs), after, BATCH],
  );
  // They are numbered as they came, so the first that is not old ends the batch.
  const firstNew = rows.findIndex((row) => !row.old);
  const old = (firstNew === -1 ? rows : rows.slice(0, firstNew)).map((row) => row.entry_id);
  if (old.length > 0) {
    await modify(pool, `UPDATE payment_events SET raw_body = '' WHERE entry_id IN (?)`, [old]);
  }
  return { ...batchOf(old.length), last: old.at(-1) ?? after };
}

/**
 * Deletes parked work that the rules have settled long ago. What operators settled stays, as by it the
 * rules know not to park it again; and payments, as the audit asks whether they ever were parked.
 */
export async function deleteParked(pool: Pool, olderThanMs: number): Promise<Batch> {
  const deleted = await modify(
    pool,
    `DELETE FROM parked WHERE resolved_at < ? AND COALESCE(settled_by, 'rules') = 'rules' AND kind <> 'payment'
         ORDER BY resolved_at LIMIT ?`,
    [fromNow(-olderThanMs), BATCH],
  );
  return batchOf(deleted);
}

/** Deletes deliveries to endpoints that ended long ago. */
export async function deleteDeliveries(pool: Pool, olderThanMs: number): Promise<Batch> {
  const deleted = await modify(
    pool,
    'DELETE FROM push_deliveries WHERE ended_at < ? ORDER BY ended_at LIMIT ?',
    [fromNow(-olderThanMs), BATCH],
  );
  return batchOf(deleted);
}

/** Small rows that no other statement changes any more, so that a sale of an hour is one batch. */
const POINTS_BATCH = 10_000;

/** Deletes the figures of a sale over time. Its totals stay with it, as a late refund changes them. */
export async function deletePoints(pool: Pool, saleId: string): Promise<Batch> {
  const sql = 'DELETE FROM sale_figures WHERE sale_id = ? AND step > 0 LIMIT ?';
  const cleared = await modify(pool, sql, [saleId, POINTS_BATCH]);
  return { cleared, isFull: cleared === POINTS_BATCH };
}

/** What a batch cleared, and whether there may be more. */
export interface Batch {
  cleared: number;
  isFull: boolean;
}

const batchOf = (cleared: number): Batch => ({ cleared, isFull: cleared === BATCH });

/** Clears what orders have of a person, but who it is. */
export async function clearOrders(connection: PoolConnection, orderNos: readonly string[]): Promise<void> {
  if (orderNos.length === 0) return;
  await modify(
    connection,
    // A text that a hand made no JSON must not keep all others from being cleared.
    `UPDATE orders SET carried = IF(JSON_VALID(carried), JSON_REMOVE(carried, ?), '{}'), contact_kept = FALSE
         WHERE order_no IN (?)`,
    [carriedText.inMysql.contact, orderNos],
  );
  await modify(connection, 'UPDATE payment_sessions SET signed_order = NULL WHERE order_no IN (?)', [
    orderNos,
  ]);
  // `updated_at` would say that something about the money has changed.
  await modify(
    connection,
    'UPDATE payments SET signed_order = NULL, updated_at = updated_at WHERE order_no IN (?)',
    [orderNos],
  );
}
