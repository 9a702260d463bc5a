/**
 * Deadlines: extended by staff, which MySQL decides under the order's lock and Redis follows by version; and
 * announced to the shop when they are near.
 */

import type { Logger } from 'pino';
import { z } from 'zod';
import type { OrderNews, OrderNewsType } from '../events/event.ts';
import { MAX_PAYMENT_WINDOW_MS } from '../limits.ts';
import { applyPayments } from '../money/inbox.sql.ts';
import {
  inTransaction,
  isUnavailable,
  modify,
  selectRows,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import { readClockMs } from '../mysql/leases.ts';
import { recordAction, type Decision } from '../parked/parked.sql.ts';
import { orderDeadlineMs } from './order.ts';
import { lockOrder, readOrders, transition, type StoredOrder } from './rows.sql.ts';

/**
 * extended: by this call, or it had this deadline already. not-open: it is paid, closing, or has ended.
 * out-of-range: the deadline may be later than `afterMs`, and not after `untilMs` (Unix ms).
 */
export type ExtendOutcome =
  | { kind: 'extended'; stored: StoredOrder; isNews: boolean }
  | { kind: 'not-open'; stored: Pick<StoredOrder, 'order' | 'state'> }
  | { kind: 'out-of-range'; afterMs: number; untilMs: number }
  | { kind: 'not-stored' };

const ruleRow = z.object({ expiring_notice_ms: z.int().nullable() });
const RULE = 'SELECT expiring_notice_ms FROM sales WHERE sale_id = ?';
const orderNoRow = z.object({ order_no: z.string() });
const markRow = z.object({ ending: z.coerce.boolean() });

/**
 * Staff give the shopper more time to pay: until a time, so that a repeat adds nothing. The order's workflow
 * learns of it when it comes to cancel the order, and the ender goes by MySQL.
 */
export function extend(
  pool: Pool,
  orderNo: string,
  untilMs: number,
  staff: Decision,
): Promise<ExtendOutcome> {
  return inTransaction(pool, async (connection): Promise<ExtendOutcome> => {
    const locked = await lockOrder(connection, orderNo);
    if (!locked) return { kind: 'not-stored' };
    const stored = await applyPayments(connection, locked);
    const { order, state } = stored;
    if (!(await isOpen(connection, stored))) return { kind: 'not-open', stored };
    const deadlineMs = orderDeadlineMs(order, state);
    if (untilMs === deadlineMs) return { kind: 'extended', stored, isNews: false };
    const nowMs = await readClockMs(connection);
    const afterMs = Math.max(deadlineMs, nowMs);
    const latestMs = order.reservedAtMs + MAX_PAYMENT_WINDOW_MS;
    if (untilMs <= afterMs || untilMs > latestMs) return { kind: 'out-of-range', afterMs, untilMs: latestMs };
    const extended = await transition(connection, stored, { extendedUntilMs: untilMs });
    const rule = await selectRows(connection, ruleRow, RULE, [order.saleId]);
    await modify(
      connection,
      'UPDATE orders SET deadline = extended_until, expiring_due_at = ? WHERE order_no = ?',
      [expiringDueAt(untilMs, rule[0]?.expiring_notice_ms), orderNo],
    );
    const [before, after] = [deadlineMs, untilMs].map((ms) => new Date(ms).toISOString());
    const detail = { before, after };
    await recordAction(connection, { ...staff, action: 'deadline_extended', subject: orderNo, detail });
    return { kind: 'extended', stored: extended, isNews: true };
  });
}

/** Not one whose end without a workflow has begun. */
async function isOpen(connection: PoolConnection, { order, state }: StoredOrder): Promise<boolean> {
  const { status, payment, reason } = state;
  if (status !== 'awaiting_payment' || payment !== 'none' || reason !== null) return false;
  const sql = 'SELECT end_begun_at IS NOT NULL AS ending FROM orders WHERE order_no = ?';
  const [mark] = await selectRows(connection, markRow, sql, [order.orderNo]);
  return mark?.ending === false;
}

/**
 * What is left of an extended deadline, in ms; 0: it is over, was not extended, or the order ends anyway.
 * The deadline is by Redis' clock. Of these two the one that is behind decides, as for a payment session.
 */
export async function readExtensionLeftMs(
  connection: PoolConnection,
  { state: { extendedUntilMs, reason } }: StoredOrder,
): Promise<number> {
  if (extendedUntilMs === undefined || reason !== null) return 0;
  const nowMs = Math.min(await readClockMs(connection), Date.now());
  return Math.max(0, extendedUntilMs - nowMs);
}

/** When the shop is to be told that an order's deadline is near. @param noticeMs none: it is not told */
export function expiringDueAt(deadlineMs: number, noticeMs: number | null | undefined): Date | null {
  return noticeMs === null || noticeMs === undefined ? null : new Date(deadlineMs - noticeMs);
}

/**
 * Records `order.expiring` for orders whose deadlines are near: once a deadline, and again after an
 * extension. It is no change of an order, and says by its version how it stood. Not for one that is paid,
 * closing, or past its deadline by then.
 *
 * After a failure it tells of half as many, until an order that cannot be read is alone: that one is not told
 * of at this deadline.
 * @returns how many orders were looked at: as many as the limit, where there may be more
 */
export async function announceExpiring(pool: Pool, limit: number, log: Logger): Promise<number> {
  let due: string[] = [];
  try {
    return await inTransaction(pool, async (connection) => {
      due = await lockExpiring(connection, limit);
      await announce(connection, due);
      return due.length;
    });
  } catch (error) {
    const [orderNo] = due;
    if (isUnavailable(error) || orderNo === undefined) throw error;
    if (due.length > 1) return announceExpiring(pool, Math.ceil(due.length / 2), log);
    log.error({ err: error, orderNo }, 'the shop is not told of an order whose deadline is near');
    await modify(
      pool,
      'UPDATE orders SET expiring_due_at = NULL WHERE order_no = ? AND expiring_due_at <= NOW(3)',
      [orderNo],
    );
    return 1;
  }
}

async function lockExpiring(connection: PoolConnection, limit: number): Promise<string[]> {
  const rows = await selectRows(
    connection,
    orderNoRow,
    `SELECT order_no FROM orders FORCE INDEX (orders_expiring) WHERE expiring_due_at <= NOW(3)
     ORDER BY expiring_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
    [limit],
  );
  return rows.map((row) => row.order_no);
}

async function announce(connection: PoolConnection, orderNos: readonly string[]): Promise<void> {
  if (orderNos.length === 0) return;
  await modify(connection, 'UPDATE orders SET expiring_due_at = NULL WHERE order_no IN (?)', [orderNos]);
  const nowMs = await readClockMs(connection);
  const expiring = (await readOrders(connection, orderNos)).filter(({ order, state }) => {
    const isUnpaid = state.status === 'awaiting_payment' && state.payment === 'none';
    return isUnpaid && state.reason === null && orderDeadlineMs(order, state) > nowMs;
  });
  await recordExpiring(connection, expiring);
}

/** What the shop reads is made of the order when it is read, so that no person stays in an event. */
async function recordExpiring(connection: PoolConnection, expiring: readonly StoredOrder[]): Promise<void> {
  if (expiring.length === 0) return;
  const type: OrderNewsType = 'order.expiring';
  await modify(connection, 'INSERT INTO shop_events (type, sale_id, subject, data) VALUES ?', [
    expiring.map(({ order: { orderNo, saleId }, state }) => [
      type,
      saleId,
      orderNo,
      JSON.stringify({ orderNo, state } satisfies OrderNews),
    ]),
  ]);
}
