/** Deadlines that staff extend: MySQL decides under the order's lock, and Redis follows by version. */

import { z } from 'zod';
import { MAX_PAYMENT_WINDOW_MS } from '../limits.ts';
import { applyPayments } from '../money/inbox.sql.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { readClockMs } from '../mysql/leases.ts';
import { recordAction, type Decision } from '../parked/parked.sql.ts';
import { orderDeadlineMs } from './order.ts';
import { lockOrder, transition, type StoredOrder } from './rows.sql.ts';

/**
 * extended: by this call, or it had this deadline already. not-open: it is paid, closing, or has ended.
 * out-of-range: the deadline may be later than `afterMs`, and not after `untilMs` (Unix ms).
 */
export type ExtendOutcome =
  | { kind: 'extended'; stored: StoredOrder; isNews: boolean }
  | { kind: 'not-open'; stored: Pick<StoredOrder, 'order' | 'state'> }
  | { kind: 'out-of-range'; afterMs: number; untilMs: number }
  | { kind: 'not-stored' };

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
    await modify(connection, 'UPDATE orders SET deadline = extended_until WHERE order_no = ?', [orderNo]);
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
