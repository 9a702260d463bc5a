/**
 * Orders of a sale, or of a SKU, that was called off: closed in the transaction that stores them, given the
 * wish to cancel a page at a time where they are open, and found where they were paid.
 */

import { z } from 'zod';
import { keyOf } from '../money/called-off.sql.ts';
import { applyBatchPayments } from '../money/inbox.sql.ts';
import {
  inTransaction,
  isUnavailable,
  modify,
  selectRows,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import { ANEW } from '../mysql/leases.ts';
import { park as parkWork } from '../parked/parked.sql.ts';
import type { Order } from './content.ts';
import { isFree, type OrderState } from './order.ts';
import { recordEvents, stateColumns, toState } from './rows.sql.ts';

/** What was called off. */
export interface CalledOff {
  saleId: string;
  /** Empty: the sale as a whole. */
  sku: string;
}

interface Changed {
  orderNo: string;
  state: OrderState;
}

/** Orders that were looked at, in the order of their numbers. */
export interface PageOfOpen {
  /** Still open, also those that are being ended already. */
  open: number;
  /** To be projected. */
  closed: Changed[];
  /** The last one; undefined: there are no more. */
  last: string | undefined;
}

/** A paid order, and what its job has done about it. */
export interface PaidOrder {
  orderNo: string;
  payment: OrderState['payment'];
  /** The job has asked its money back, also where that was withdrawn since. */
  isRequested: boolean;
}

const calledOffRow = z.object({ job_id: z.string(), sale_id: z.string(), sku: z.string() });
const orderNoRow = z.object({ order_no: z.string() });
const openRow = z.object({ order_no: z.string(), unbegun: z.coerce.boolean(), ...stateColumns });
const paidRow = z.object({
  order_no: z.string(),
  payment: stateColumns.payment,
  requested: z.coerce.boolean(),
});

/** No workflow has begun and none is being started: the ender ends it, many at a time. */
const TO_THE_ENDER = `engine_due_at = NULL, ${ANEW}, end_begun_at = NOW(3), end_due_at = NOW(3)`;
/** Its workflow is started, or signalled. */
const TO_THE_ENGINE = `engine_due_at = NOW(3), ${ANEW}`;

/**
 * Closes those of these orders that are called off, in the transaction that has stored them and locked their
 * sales. No payment of theirs counts any more. The job goes on for those that are kept: a free one is paid by
 * now, and one that was shown as paid, and that MySQL had lost, is paid again: it would stay shown so.
 * @param stored of sales of which something is called off
 * @returns the states of those that are closed
 */
export async function closeStored(
  connection: PoolConnection,
  stored: readonly Order[],
  stateOf: (order: Order) => OrderState,
  presence: 'started' | 'due' | 'claimed',
): Promise<Map<string, OrderState>> {
  if (stored.length === 0) return new Map();
  const jobs = await selectRows(
    connection,
    calledOffRow,
    'SELECT job_id, sale_id, sku FROM calling_offs WHERE sale_id IN (?)',
    [[...new Set(stored.map(({ saleId }) => saleId))]],
  );
  const isKept = (order: Order) => isFree(order) || order.shown?.status === 'paid';
  const jobsOf = ({ saleId, items }: Order) =>
    jobs.filter(
      (job) => job.sale_id === saleId && (job.sku === '' || items.some(({ sku }) => sku === job.sku)),
    );
  const calledOff = stored.filter((order) => jobsOf(order).length > 0);
  const goOn = calledOff.filter(isKept).flatMap((order) => jobsOf(order).map((job) => job.job_id));
  if (goOn.length > 0)
    await modify(connection, 'UPDATE calling_offs SET ended_at = NULL, news = TRUE WHERE job_id IN (?)', [
      goOn,
    ]);
  const open = calledOff.flatMap((order) => {
    return isKept(order) ? [] : [{ orderNo: order.orderNo, state: stateOf(order) }];
  });
  // The caller starts the workflows of all but those that are due, and they find the order closing.
  const closed = await close(connection, open, presence === 'due' ? TO_THE_ENDER : undefined);
  return new Map(closed.map(({ orderNo, state }) => [orderNo, state]));
}

/**
 * Gives a page of open orders the wish to cancel. One that has a payment goes on, and is refunded later.
 * After a failure it closes a page of half the size, until an order that cannot be closed is alone: that one
 * is parked, and counts as open.
 * @param readKept those of some orders that are not to be closed yet, and count as open
 */
export async function closePage(
  pool: Pool,
  calledOff: CalledOff,
  after: string,
  limit: number,
  readKept: (orderNos: readonly string[]) => Promise<ReadonlySet<string>>,
): Promise<PageOfOpen> {
  const orderNos = await listOpen(pool, calledOff, after, limit);
  const last = orderNos.length === limit ? orderNos.at(-1) : undefined;
  const [first] = orderNos;
  if (first === undefined) return { open: 0, closed: [], last };
  const kept = await readKept(orderNos);
  const toClose = orderNos.filter((orderNo) => !kept.has(orderNo));
  if (toClose.length === 0) return { open: kept.size, closed: [], last };
  try {
    const { open, closed } = await inTransaction(pool, (connection) => closeListed(connection, toClose));
    return { open: open + kept.size, closed, last };
  } catch (error) {
    if (isUnavailable(error)) throw error;
    if (orderNos.length > 1)
      return closePage(pool, calledOff, after, Math.ceil(orderNos.length / 2), readKept);
    const facts = { cause: 'step_failing', inputs: { orderNo: first, step: null } } as const;
    await parkWork(pool, 'order', first, `it cannot be closed: ${String(error)}`, facts);
    return { open: 1, closed: [], last: first };
  }
}

async function listOpen(
  pool: Pool,
  { saleId, sku }: CalledOff,
  after: string,
  limit: number,
): Promise<string[]> {
  const listed = await selectRows(
    pool,
    orderNoRow,
    `SELECT o.order_no FROM orders o FORCE INDEX (orders_of_sale_status) ${ofSku(sku)}
     WHERE o.sale_id = ? AND o.status = 'awaiting_payment' AND o.order_no > ? ORDER BY o.order_no LIMIT ?`,
    [...(sku === '' ? [] : [sku]), saleId, after, limit],
  );
  return listed.map((row) => row.order_no);
}

async function closeListed(
  connection: PoolConnection,
  orderNos: readonly string[],
): Promise<Pick<PageOfOpen, 'open' | 'closed'>> {
  const rows = await selectRows(
    connection,
    openRow,
    `SELECT order_no, status, version, payment, closing_reason, refunded, extended_until,
       workflow_started_at IS NULL AND start_tried_at IS NULL AS unbegun
     FROM orders WHERE order_no IN (?) AND status = 'awaiting_payment' ORDER BY order_no FOR UPDATE`,
    [orderNos],
  );
  const paid = await applyBatchPayments(
    connection,
    rows.map((row) => row.order_no),
  );
  const toClose = rows.filter((row) => {
    const state = paid.get(row.order_no) ?? toState(row);
    return state.payment === 'none' && state.reason === null;
  });
  const toChange = (row: (typeof rows)[number]) => ({ orderNo: row.order_no, state: toState(row) });
  const [unbegun, begun] = [toClose.filter((row) => row.unbegun), toClose.filter((row) => !row.unbegun)];
  const ended = await close(connection, unbegun.map(toChange), TO_THE_ENDER);
  const signalled = await close(connection, begun.map(toChange), TO_THE_ENGINE);
  return { open: rows.length, closed: [...ended, ...signalled] };
}

/** @param assignments by whom they are ended, where the caller does not see to it */
async function close(
  connection: PoolConnection,
  open: readonly Changed[],
  assignments: string | undefined,
): Promise<Changed[]> {
  if (open.length === 0) return [];
  await modify(
    connection,
    `UPDATE orders SET version = version + 1, closing_reason = 'called_off'${assignments ? `, ${assignments}` : ''}
     WHERE order_no IN (?)`,
    [open.map(({ orderNo }) => orderNo)],
  );
  const closed = open.map(({ orderNo, state }): Changed => {
    return { orderNo, state: { ...state, reason: 'called_off', version: state.version + 1 } };
  });
  await recordEvents(connection, closed);
  return closed;
}

/** A page of the paid orders, after this one, by their numbers. */
export async function listPaid(
  pool: Pool,
  { jobId, saleId, sku }: CalledOff & { jobId: string },
  after: string,
  limit: number,
): Promise<PaidOrder[]> {
  const rows = await selectRows(
    pool,
    paidRow,
    `SELECT o.order_no, o.payment, r.refund_id IS NOT NULL AS requested
     FROM orders o FORCE INDEX (orders_of_sale_status) ${ofSku(sku)}
     LEFT JOIN refunds r ON r.order_no = o.order_no AND r.idempotency_key = ?
     WHERE o.sale_id = ? AND o.status = 'paid' AND o.order_no > ? ORDER BY o.order_no LIMIT ?`,
    [...(sku === '' ? [] : [sku]), keyOf({ jobId }), saleId, after, limit],
  );
  return rows.map((row) => ({ orderNo: row.order_no, payment: row.payment, isRequested: row.requested }));
}

/** From the orders to their lines, never the other way: a line of another sale may name the same SKU. */
export function ofSku(sku: string): string {
  return sku === '' ? '' : 'STRAIGHT_JOIN order_items i ON i.order_no = o.order_no AND i.sku = ?';
}
