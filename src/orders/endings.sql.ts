/**
 * Ends orders that no workflow has begun once their deadline has passed: a page a transaction, each order as
 * `cancel` ends it. One whose payment page may be open becomes closing first, until its sessions are void.
 * What is left of an end is due, by MySQL's clock: sessions to void, and after the end its state to project.
 */

import { z } from 'zod';
import { applyBatchPayments } from '../money/inbox.sql.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Pool,
  type PoolConnection,
  isUnavailable,
} from '../mysql/connection.ts';
import { ANEW, fromNow, takeLease } from '../mysql/leases.ts';
import { unparkAll } from '../parked/parked.sql.ts';
import type { ClosingReason, OrderState } from './order.ts';
import { bookMovement, recordEvents, stateColumns, toState } from './rows.sql.ts';

/** Redis has the end of a page within a second. After this time another process projects it. */
const REDIS_CLAIM_MS = 10_000;
/**
 * For voiding the sessions of some orders at the provider, two calls of five seconds each, and their pace.
 */
const CLOSING_CLAIM_MS = 60_000;
/**
 * For so long sessions are tried to be voided, as by a workflow. Then the order ends: late money goes back.
 */
const CLOSING_PATIENCE_SECONDS = 60;

const REASON: ClosingReason = 'payment_timeout';

const orderRow = z.object({ order_no: z.string(), sale_id: z.string(), ...stateColumns });
const closingRow = z.object({ order_no: z.string(), overdue: z.coerce.boolean() });
const orderNoRow = z.object({ order_no: z.string() });
const itemRow = z.object({ order_no: z.string(), sku: z.string(), quantity: z.int() });

interface UnbegunOrder {
  orderNo: string;
  saleId: string;
  state: OrderState;
}

/** The state of an order as MySQL has it now. */
export interface EndChange {
  orderNo: string;
  state: OrderState;
}

interface PageOfEnds {
  /** Orders that were looked at: as many as the limit, where there may be more. */
  taken: number;
  /** The caller's to project, until `complete` or until the claim runs out. */
  ended: EndChange[];
  /** Their sessions are to be voided. */
  closing: EndChange[];
}

export interface ClosingOrder {
  orderNo: string;
  /** Its sessions were to be voided a minute ago. */
  isOverdue: boolean;
}

/**
 * Claims ended orders of which Redis may not know yet: the process that ended them has died, or failed.
 */
export function takeEnded(pool: Pool, limit: number): Promise<EndChange[]> {
  return inTransaction(pool, async (connection) => {
    const rows = await selectRows(
      connection,
      orderRow,
      `SELECT ${COLUMNS} FROM orders FORCE INDEX (orders_to_end)
           WHERE workflow_started_at IS NULL AND status = 'cancelled' AND payment = 'none' AND end_due_at <= NOW(3)
           ORDER BY end_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
      [limit],
    );
    const ended = rows.map(toUnbegun);
    if (ended.length > 0) await takeLease(connection, LEASED, ended.map(orderNoOf), REDIS_CLAIM_MS);
    return ended.map(({ orderNo, state }) => ({ orderNo, state }));
  });
}

/** Redis has the end of these orders. */
export async function complete(pool: Pool, orderNos: readonly string[]): Promise<void> {
  if (orderNos.length === 0) return;
  await modify(pool, `UPDATE orders SET end_due_at = NULL WHERE order_no IN (?) AND status = 'cancelled'`, [
    orderNos,
  ]);
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
           WHERE ${IS_UNBEGUN} AND end_due_at <= NOW(3) - INTERVAL ? SECOND
           ORDER BY end_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
      [CLOSING_PATIENCE_SECONDS, dueForSeconds, limit],
    );
    const closing = rows.map((row) => ({ orderNo: row.order_no, isOverdue: row.overdue }));
    if (closing.length > 0) await takeLease(connection, LEASED, closing.map(orderNoOf), CLOSING_CLAIM_MS);
    return closing;
  });
}

/**
 * Ends a closing order, unless a payment came first: that one is its workflow's, which is due.
 * @param force even with open sessions
 * @returns its new state; undefined where nothing changed, as its workflow has begun
 */
export function endClosing(
  pool: Pool,
  orderNo: string,
  { force }: { force: boolean },
): Promise<EndChange | undefined> {
  return inTransaction(pool, async (connection) => {
    const [row] = await selectRows(
      connection,
      orderRow,
      `SELECT ${COLUMNS} FROM orders WHERE order_no = ? AND workflow_started_at IS NULL
             AND status = 'awaiting_payment' FOR UPDATE`,
      [orderNo],
    );
    if (!row) return undefined;
    const order = toUnbegun(row);
    const paid = (await applyBatchPayments(connection, [orderNo])).get(orderNo) ?? order.state;
    if (paid.payment !== 'none') {
      await modify(
        connection,
        'UPDATE orders SET end_due_at = NULL, end_begun_at = NULL WHERE order_no = ?',
        [orderNo],
      );
      return { orderNo, state: paid };
    }
    if (!force && (await findWithSessions(connection, [orderNo])).size > 0) return undefined;
    const [ended] = await endAll(connection, [order]);
    return ended;
  });
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
const COLUMNS = 'order_no, sale_id, status, version, payment, closing_reason, refunded, extended_until';
/** One with a payment is its workflow's. As the first columns of the index `orders_to_end`. */
const IS_UNBEGUN = `workflow_started_at IS NULL AND status = 'awaiting_payment' AND payment = 'none'`;

function toUnbegun(row: z.infer<typeof orderRow>): UnbegunOrder {
  return { orderNo: row.order_no, saleId: row.sale_id, state: toState(row) };
}

/** After a failure it ends a page of half the size, until an order that cannot be ended is alone. */
export async function endPage(pool: Pool, nowMs: number, limit: number): Promise<PageOfEnds> {
  try {
    return await inTransaction(pool, (connection) => endDue(connection, nowMs, limit));
  } catch (error) {
    if (isUnavailable(error)) throw error;
    if (limit > 1) return endPage(pool, nowMs, Math.ceil(limit / 2));
    return inTransaction(pool, (connection) => setAside(connection, nowMs));
  }
}

async function endDue(connection: PoolConnection, nowMs: number, limit: number): Promise<PageOfEnds> {
  const due = await lockDue(connection, nowMs, limit);
  const orderNos = due.map(orderNoOf);
  // A payment that has come since makes the order its workflow's. One of a wrong amount is parked.
  const paid = await applyBatchPayments(connection, orderNos);
  const unpaid = due.filter(({ orderNo }) => (paid.get(orderNo)?.payment ?? 'none') === 'none');
  const withSessions = await findWithSessions(connection, unpaid.map(orderNoOf));
  const closing = await closeAll(
    connection,
    unpaid.filter(({ orderNo }) => withSessions.has(orderNo)),
  );
  const ended = await endAll(
    connection,
    unpaid.filter(({ orderNo }) => !withSessions.has(orderNo)),
  );
  return { taken: due.length, ended, closing };
}

/** Not those whose start is claimed, as their workflow is being started, nor those whose end has begun. */
async function lockDue(connection: PoolConnection, nowMs: number, limit: number): Promise<UnbegunOrder[]> {
  const rows = await selectRows(
    connection,
    orderRow,
    `SELECT ${COLUMNS} FROM orders FORCE INDEX (orders_to_end)
     WHERE ${IS_UNBEGUN} AND end_due_at IS NULL AND deadline <= ?
       AND (engine_due_at IS NULL OR engine_due_at <= NOW(3))
     ORDER BY deadline LIMIT ? FOR UPDATE SKIP LOCKED`,
    [new Date(nowMs), limit],
  );
  return rows.map(toUnbegun);
}

async function setAside(connection: PoolConnection, nowMs: number): Promise<PageOfEnds> {
  const orderNos = (await lockDue(connection, nowMs, 1)).map(orderNoOf);
  if (orderNos.length > 0)
    await modify(
      connection,
      'UPDATE orders SET end_begun_at = NOW(3), end_due_at = NOW(3) WHERE order_no IN (?)',
      [orderNos],
    );
  return { taken: orderNos.length, ended: [], closing: [] };
}

/** No session opens from now on, and none but this way is to end the orders. */
async function closeAll(connection: PoolConnection, orders: readonly UnbegunOrder[]): Promise<EndChange[]> {
  if (orders.length === 0) return [];
  const orderNos = orders.map(orderNoOf);
  await modify(
    connection,
    // Each assignment sees those before it.
    `UPDATE orders SET version = version + (closing_reason IS NULL),
       closing_reason = COALESCE(closing_reason, ?), engine_due_at = NULL, ${ANEW},
       end_begun_at = NOW(3), end_due_at = NOW(3) WHERE order_no IN (?)`,
    [REASON, orderNos],
  );
  const closing = orders.map(toClosing);
  const changed = closing.filter(({ state }, i) => state !== orders[i]?.state);
  if (changed.length > 0) await recordEvents(connection, changed);
  return closing;
}

/**
 * Ends locked orders, and leases them to the caller. One whose workflow may have been started, without an
 * answer, is due, so that the workflow is signalled.
 */
async function endAll(connection: PoolConnection, orders: readonly UnbegunOrder[]): Promise<EndChange[]> {
  if (orders.length === 0) return [];
  const orderNos = orders.map(orderNoOf);
  const changed = await modify(
    connection,
    // Each assignment sees those before it.
    `UPDATE orders SET version = version + 1 + (closing_reason IS NULL),
       closing_reason = COALESCE(closing_reason, ?), status = 'cancelled',
       engine_due_at = IF(start_tried_at IS NULL, NULL, NOW(3)), ${ANEW},
       end_begun_at = COALESCE(end_begun_at, NOW(3)), end_due_at = ? WHERE order_no IN (?)`,
    [REASON, fromNow(REDIS_CLAIM_MS), orderNos],
  );
  if (changed !== orders.length) throw new Error(`${changed} of ${orders.length} locked orders changed`);
  const ends = orders.map((order) => {
    const { state } = toClosing(order);
    const end: OrderState = { ...state, status: 'cancelled', version: state.version + 1 };
    return { order, closing: state, end };
  });
  await recordEvents(
    connection,
    ends.flatMap(({ order: { orderNo, state }, closing, end }) => [
      ...(closing === state ? [] : [{ orderNo, state: closing }]),
      { orderNo, state: end },
    ]),
  );
  await unparkAll(connection, 'order', orderNos);
  const items = await readItems(connection, orderNos);
  await bookMovement(
    connection,
    'release',
    orders.map(({ orderNo, saleId }) => ({ orderNo, saleId, items: items.get(orderNo) ?? [] })),
  );
  return ends.map(({ order: { orderNo }, end }) => ({ orderNo, state: end }));
}

/** An order that is closing already keeps its reason, and its very state. */
function toClosing({ orderNo, state }: UnbegunOrder): EndChange {
  if (state.reason !== null) return { orderNo, state };
  return { orderNo, state: { ...state, reason: REASON, version: state.version + 1 } };
}

async function findWithSessions(
  connection: PoolConnection,
  orderNos: readonly string[],
): Promise<Set<string>> {
  if (orderNos.length === 0) return new Set();
  const rows = await selectRows(
    connection,
    orderNoRow,
    `SELECT DISTINCT order_no FROM payment_sessions FORCE INDEX (sessions_of_order)
     WHERE order_no IN (?) AND status IN ('opening', 'open')`,
    [orderNos],
  );
  return new Set(rows.map((row) => row.order_no));
}

async function readItems(connection: PoolConnection, orderNos: readonly string[]) {
  const rows = await selectRows(
    connection,
    itemRow,
    // Without the index named, all items there are would be read: a page of keys looks like many rows.
    `SELECT order_no, sku, quantity FROM order_items FORCE INDEX (PRIMARY)
     WHERE order_no IN (?) ORDER BY order_no, position`,
    [orderNos],
  );
  const items = new Map<string, { sku: string; quantity: number }[]>();
  for (const { order_no: orderNo, sku, quantity } of rows)
    items.set(orderNo, [...(items.get(orderNo) ?? []), { sku, quantity }]);
  return items;
}
