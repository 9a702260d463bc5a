/**
 * Deadlines: extended by staff, which MySQL decides under the order's lock and Redis follows by version; and
 * announced to the shop when they are near.
 */

import type { Logger } from 'pino';
import { z } from 'zod';
import type { OrderNews, OrderNewsType } from '../events/event.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Pool,
  type PoolConnection,
  withConnection,
} from '../mysql/connection.ts';
import { withSmallerPages } from '../mysql/halving.ts';
import { readClockMs } from '../mysql/leases.ts';
import { recordAction, type Decision } from '../parked/parked.sql.ts';
import { changeOrders } from './change.sql.ts';
import { orderDeadlineMs } from './order.ts';
import { lockOrders, readOrders, type StoredOrder } from './rows.sql.ts';

/**
 * extended: by this call, or it had this deadline already. not-open: it is paid, closing, or has ended.
 * out-of-range: the deadline may be later than `afterMs`, and not after `untilMs` (Unix ms).
 */
export type ExtendOutcome =
  | { kind: 'extended'; stored: StoredOrder; isNews: boolean }
  | { kind: 'not-open'; stored: Pick<StoredOrder, 'order' | 'state'> }
  | { kind: 'out-of-range'; afterMs: number; untilMs: number }
  | { kind: 'not-stored' };

const deadlineRow = z.object({ deadline: z.date(), expiring_notice_ms: z.int().nullable() });
const orderNoRow = z.object({ order_no: z.string() });

/**
 * Staff give the shopper more time to pay: until a time, so that a repeat adds nothing. The order's workflow
 * learns of it when it comes to cancel the order, and the ender goes by MySQL.
 */
export async function extend(
  pool: Pool,
  orderNo: string,
  untilMs: number,
  staff: Decision,
): Promise<ExtendOutcome> {
  const nowMs = await withConnection(pool, readClockMs);
  const [outcome] = await changeOrders(
    pool,
    (connection) => lockOrders(connection, [orderNo]),
    { kind: 'extend', untilMs, nowMs },
    async (connection, [extended]) => {
      if (extended?.decided.kind === 'changed') await moveDeadline(connection, extended, staff);
    },
  );
  if (!outcome) return { kind: 'not-stored' };
  const { decided } = outcome;
  if (decided.kind === 'out-of-range') return decided;
  if (decided.kind === 'not-open') return { kind: 'not-open', stored: outcome };
  return { kind: 'extended', stored: outcome, isNews: decided.kind === 'changed' };
}

async function moveDeadline(
  connection: PoolConnection,
  { order, state }: StoredOrder,
  staff: Decision,
): Promise<void> {
  const deadlineMs = orderDeadlineMs(order, state);
  const [before] = await selectRows(
    connection,
    deadlineRow,
    `SELECT o.deadline, s.expiring_notice_ms FROM orders o JOIN sales s ON s.sale_id = o.sale_id
     WHERE o.order_no = ?`,
    [order.orderNo],
  );
  await modify(
    connection,
    'UPDATE orders SET deadline = extended_until, expiring_due_at = ? WHERE order_no = ?',
    [expiringDueAt(deadlineMs, before?.expiring_notice_ms), order.orderNo],
  );
  const detail = { before: before?.deadline.toISOString(), after: new Date(deadlineMs).toISOString() };
  await recordAction(connection, { ...staff, action: 'deadline_extended', subject: order.orderNo, detail });
}

/** When the shop is to be told that an order's deadline is near. @param noticeMs none: it is not told */
export function expiringDueAt(deadlineMs: number, noticeMs: number | null | undefined): Date | null {
  return noticeMs === null || noticeMs === undefined ? null : new Date(deadlineMs - noticeMs);
}

/**
 * Records `order.expiring` for orders whose deadlines are near: once a deadline, and again after an
 * extension. It is no change of an order, and says by its version how it stood. Not for one that is paid,
 * closing, or past its deadline by then. An order that cannot be read is not announced at this deadline.
 * @returns how many orders were looked at: as many as the limit, where there may be more
 */
export function announceExpiring(pool: Pool, limit: number, log: Logger): Promise<number> {
  let due: string[] = [];
  return withSmallerPages(
    limit,
    (most) =>
      inTransaction(pool, async (connection) => {
        due = [];
        due = await lockExpiring(connection, most);
        await announce(connection, due);
        return due.length;
      }),
    async (error) => {
      const [orderNo] = due;
      if (orderNo === undefined) throw error;
      log.error({ err: error, orderNo }, 'the shop is not told of an order whose deadline is near');
      await modify(
        pool,
        'UPDATE orders SET expiring_due_at = NULL WHERE order_no = ? AND expiring_due_at <= NOW(3)',
        [orderNo],
      );
      return 1;
    },
  );
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
    const isOpen = state.status === 'awaiting_payment' && state.reason === null;
    return isOpen && orderDeadlineMs(order, state) > nowMs;
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
