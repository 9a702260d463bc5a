/**
 * Orders that end without a workflow, and ends that Redis may not know yet. `end_due_at` says when an order
 * is due: while it is open its payment pages are to be voided, and once it has ended Redis is to follow.
 */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { withSmallerPages } from '../mysql/halving.ts';
import { fromNow, takeLease } from '../mysql/leases.ts';
import { changeOrders, FOLLOW_CLAIM_MS, type Outcome } from './change.sql.ts';
import type { LockedOrder } from './change.ts';
import { FINAL_STATUSES, type OrderChange } from './order.ts';
import { lockForChange, stateColumns, toState } from './rows.sql.ts';
import { listUnbegunSales, UNBEGUN } from './turns.sql.ts';

/**
 * For voiding the sessions of some orders at the provider: two calls of five seconds each, and their pace.
 */
const CLOSING_CLAIM_MS = 60_000;
/**
 * For so long sessions are tried to be voided, as by a workflow. Then the order ends: late money goes back.
 */
const CLOSING_PATIENCE_SECONDS = 60;

const endedRow = z.object({ order_no: z.string(), ...stateColumns });
const closingRow = z.object({ order_no: z.string(), overdue: z.coerce.boolean() });

interface PageOfEnds {
  /** Orders that were read; 0: none is due of the sales that had their turn. */
  taken: number;
  /** The sale that had the last turn. */
  saleId: string;
  /** Those that changed, for Redis to follow. */
  changed: OrderChange[];
}

export interface ClosingOrder {
  orderNo: string;
  /** Its sessions were to be voided a minute ago. */
  isOverdue: boolean;
}

/**
 * Claims ended orders of which Redis may not know yet: the process that ended them has died, or failed. The
 * claim runs out by itself.
 */
export function takeEnded(pool: Pool, limit: number): Promise<OrderChange[]> {
  return inTransaction(pool, async (connection) => {
    const ended: OrderChange[] = [];
    for (const status of FINAL_STATUSES) {
      const rows = await selectRows(
        connection,
        endedRow,
        `SELECT order_no, status, version, payment, closing_reason, refunded, extended_until
         FROM orders FORCE INDEX (orders_to_end) WHERE status = ? AND end_due_at <= NOW(3)
         ORDER BY end_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
        [status, limit - ended.length],
      );
      for (const row of rows) ended.push({ orderNo: row.order_no, state: toState(row) });
    }
    if (ended.length > 0) await takeLease(connection, LEASED, ended.map(orderNoOf), FOLLOW_CLAIM_MS);
    return ended;
  });
}

/**
 * Redis has the end of these orders.
 * @param byWorkflow so has their workflow, which is not signalled any more
 */
export async function completeFollow(
  pool: Pool,
  orderNos: readonly string[],
  byWorkflow: boolean,
): Promise<void> {
  if (orderNos.length === 0) return;
  await modify(
    pool,
    `UPDATE orders SET end_due_at = NULL${byWorkflow ? ', engine_due_at = NULL' : ''}
     WHERE order_no IN (?) AND status IN (?)`,
    [orderNos, FINAL_STATUSES],
  );
}

/**
 * Claims closing orders whose sessions are to be voided, and those that are to be ended alone.
 * @param dueForSeconds only those that no process has taken for so long
 */
export function takeClosing(pool: Pool, limit: number, dueForSeconds = 0): Promise<ClosingOrder[]> {
  return inTransaction(pool, async (connection) => {
    const rows = await selectRows(
      connection,
      closingRow,
      `SELECT order_no, end_begun_at < NOW(3) - INTERVAL ? SECOND AS overdue
       FROM orders FORCE INDEX (orders_to_end)
       WHERE status = 'awaiting_payment' AND end_due_at <= NOW(3) - INTERVAL ? SECOND
         AND workflow_started_at IS NULL
       ORDER BY end_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
      [CLOSING_PATIENCE_SECONDS, dueForSeconds, limit],
    );
    const closing = rows.map((row) => ({ orderNo: row.order_no, isOverdue: row.overdue }));
    if (closing.length > 0) await takeLease(connection, LEASED, closing.map(orderNoOf), CLOSING_CLAIM_MS);
    return closing;
  });
}

/**
 * Ends a closing order, unless its workflow has begun.
 * @param force even with open sessions
 * @returns the change, where it has ended by this call
 */
export async function endOne(
  pool: Pool,
  orderNo: string,
  { force }: { force: boolean },
): Promise<OrderChange | undefined> {
  const [outcome] = await changeOrders(
    pool,
    (connection) =>
      lockForChange(connection, 'orders WHERE order_no = ? AND workflow_started_at IS NULL FOR UPDATE', [
        orderNo,
      ]),
    { kind: 'cancel', reason: 'payment_timeout', force, byWorkflow: false },
  );
  return outcome?.isNews === true ? toChange(outcome) : undefined;
}

/** Ends the claim of a closing order: it is due again after so long. */
export async function putOff(pool: Pool, orderNo: string, forMs: number): Promise<void> {
  await modify(
    pool,
    `UPDATE orders SET end_due_at = ? WHERE order_no = ? AND status = 'awaiting_payment'
       AND end_due_at IS NOT NULL`,
    [fromNow(forMs), orderNo],
  );
}

const LEASED = { table: 'orders', key: 'order_no', until: 'end_due_at' };
const orderNoOf = ({ orderNo }: { orderNo: string }): string => orderNo;
const toChange = ({ order: { orderNo }, state }: Outcome): OrderChange => ({ orderNo, state });

/**
 * Ends a page of orders of one sale whose deadline has passed by `nowMs`, and closes those with an open
 * payment page.
 * @param after the sale that had the last turn
 */
export async function endPage(pool: Pool, nowMs: number, limit: number, after = ''): Promise<PageOfEnds> {
  let last = after;
  for (const saleId of await listUnbegunSales(pool, after)) {
    const page = await endPageOf(pool, saleId, nowMs, limit);
    if (page.taken > 0) return page;
    last = saleId;
  }
  return { taken: 0, changed: [], saleId: last };
}

function endPageOf(pool: Pool, saleId: string, nowMs: number, limit: number): Promise<PageOfEnds> {
  const overdue = (most: number) => (connection: PoolConnection) =>
    lockOverdue(connection, saleId, nowMs, most);
  return withSmallerPages(
    limit,
    async (most) => {
      const wish = { kind: 'cancel', reason: 'payment_timeout', force: false, byWorkflow: false } as const;
      const outcomes = await changeOrders(pool, overdue(most), wish);
      const changed = outcomes.filter(({ isNews }) => isNews).map(toChange);
      return { taken: outcomes.length, changed, saleId };
    },
    async () => ({ taken: await setAside(pool, overdue(1)), changed: [], saleId }),
  );
}

/** Not those whose start is claimed, as their workflow is being started, nor those whose end has begun. */
function lockOverdue(
  connection: PoolConnection,
  saleId: string,
  nowMs: number,
  limit: number,
): Promise<LockedOrder[]> {
  return lockForChange(
    connection,
    `orders${UNBEGUN.hint} WHERE ${UNBEGUN.where} AND sale_id = ? AND deadline <= ?
       AND (engine_due_at IS NULL OR engine_due_at <= NOW(3))
     ORDER BY deadline LIMIT ? FOR UPDATE SKIP LOCKED`,
    [saleId, new Date(nowMs), limit],
  );
}

/** An order that cannot be ended holds up no other: it is tried again alone, and parked. */
function setAside(pool: Pool, lock: (connection: PoolConnection) => Promise<LockedOrder[]>): Promise<number> {
  return inTransaction(pool, async (connection) => {
    const orderNos = (await lock(connection)).map(({ order }) => order.orderNo);
    if (orderNos.length > 0)
      await modify(
        connection,
        'UPDATE orders SET end_begun_at = NOW(3), end_due_at = NOW(3) WHERE order_no IN (?)',
        [orderNos],
      );
    return orderNos.length;
  });
}
