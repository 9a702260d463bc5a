/** Erases a person from MySQL: their orders stay, under a random token. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool } from '../mysql/connection.ts';
import { FINAL_STATUSES } from '../orders/order.ts';
import { recordAction, type Decision } from '../parked/parked.sql.ts';
import { clearOrders } from './retention.sql.ts';

/** Orders of a person in one transaction. */
const BATCH = 200;

const tokenRow = z.object({ token: z.string() });
const orderRow = z.object({
  order_no: z.string(),
  sale_id: z.string(),
  idempotency_key: z.string().nullable(),
});
const orderNoRow = z.object({ order_no: z.string() });
const countRow = z.object({ orders: z.int() });
const skuRow = z.object({ sku: z.string() });
const ownedRow = z.object({ sku: z.string(), units: z.coerce.number() });

/** An order of the person that has ended. */
export interface EndedOrder {
  orderNo: string;
  saleId: string;
  /** Empty: it has none. */
  idempotencyKey: string;
}

/** The person's orders that have not ended. */
export async function listOpen(pool: Pool, userId: string): Promise<string[]> {
  const rows = await selectRows(
    pool,
    orderNoRow,
    'SELECT order_no FROM orders WHERE user_id = ? AND status NOT IN (?) ORDER BY order_no LIMIT ?',
    [userId, FINAL_STATUSES, BATCH],
  );
  return rows.map((row) => row.order_no);
}

/** Some of the person's orders that have ended, after this one; empty: from the first on. */
export async function listEnded(pool: Pool, userId: string, after: string): Promise<EndedOrder[]> {
  const rows = await selectRows(
    pool,
    orderRow,
    `SELECT order_no, sale_id, idempotency_key FROM orders
         WHERE user_id = ? AND status IN (?) AND order_no > ? ORDER BY order_no LIMIT ?`,
    [userId, FINAL_STATUSES, after, BATCH],
  );
  return rows.map((row) => ({
    orderNo: row.order_no,
    saleId: row.sale_id,
    idempotencyKey: row.idempotency_key ?? '',
  }));
}

/** The SKUs of a sale. */
export async function listSkus(pool: Pool, saleId: string): Promise<string[]> {
  const rows = await selectRows(pool, skuRow, 'SELECT sku FROM skus WHERE sale_id = ?', [saleId]);
  return rows.map((row) => row.sku);
}

/** The units that the person's orders in a sale count against limits, by SKU. */
export async function readOwned(pool: Pool, saleId: string, userId: string): Promise<Map<string, number>> {
  const rows = await selectRows(
    pool,
    ownedRow,
    `SELECT i.sku, SUM(i.quantity - i.limit_returned) AS units FROM orders o JOIN order_items i ON i.order_no = o.order_no
         WHERE o.sale_id = ? AND o.user_id = ? AND o.status = 'paid' AND i.quantity > i.limit_returned
         GROUP BY i.sku`,
    [saleId, userId],
  );
  return new Map(rows.map((row) => [row.sku, row.units]));
}

/** Whether an erasure of the person has begun and not ended. */
export async function isBegun(pool: Pool, userId: string): Promise<boolean> {
  const rows = await selectRows(pool, tokenRow, 'SELECT token FROM erasures WHERE user_id = ?', [userId]);
  return rows.length > 0;
}

/** The token of this erasure: the same one however often it is begun, until it has ended. */
export async function begin(pool: Pool, userId: string): Promise<string> {
  await modify(
    pool,
    'INSERT INTO erasures (user_id, token) VALUES (?, ?) ON DUPLICATE KEY UPDATE token = token',
    [userId, `erased-${ulid().toLowerCase()}`],
  );
  const [row] = await selectRows(pool, tokenRow, 'SELECT token FROM erasures WHERE user_id = ?', [userId]);
  if (!row) throw new Error('another process has ended this erasure');
  return row.token;
}

/**
 * Puts the token in the place of the person in these orders, and clears all that identifies them.
 * Idempotent.
 */
export function replace(pool: Pool, orderNos: readonly string[], token: string): Promise<void> {
  return inTransaction(pool, async (connection) => {
    await modify(
      connection,
      `UPDATE orders SET user_id = ?, idempotency_key = NULL, reference = NULL, carried = '{}'
           WHERE order_no IN (?)`,
      [token, orderNos],
    );
    await clearOrders(connection, orderNos);
    await modify(connection, `UPDATE payment_events SET raw_body = '' WHERE order_no IN (?)`, [orderNos]);
    // An endpoint may have repeated in its answer what it was sent.
    const endpoints = await selectRows(
      connection,
      z.object({ endpoint_id: z.int() }),
      'SELECT endpoint_id FROM push_endpoints',
    );
    if (endpoints.length === 0) return;
    await modify(
      connection,
      'UPDATE push_deliveries SET tries = NULL WHERE endpoint_id IN (?) AND line IN (?)',
      [endpoints.map((row) => row.endpoint_id), orderNos],
    );
  });
}

/**
 * Ends the erasure: forgets whose token it was, and writes down that it was done.
 * @returns how many orders have the token
 */
export function end(pool: Pool, userId: string, token: string, decision: Decision): Promise<number> {
  return inTransaction(pool, async (connection) => {
    await modify(connection, 'DELETE FROM erasures WHERE user_id = ?', [userId]);
    const [{ orders } = { orders: 0 }] = await selectRows(
      connection,
      countRow,
      'SELECT COUNT(*) AS orders FROM orders WHERE user_id = ?',
      [token],
    );
    await recordAction(connection, {
      ...decision,
      action: 'person_erased',
      subject: token,
      detail: { orders },
    });
    return orders;
  });
}
