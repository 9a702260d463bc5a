/**
 * Orders of a sale, or of a SKU, that was called off: closed in the transaction that stores them, given the
 * wish to cancel a page at a time where they are open, and found where they were paid.
 */

import { z } from 'zod';
import { keyOf } from '../money/called-off.sql.ts';
import { modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { withSmallerPages } from '../mysql/halving.ts';
import { park as parkWork } from '../parked/parked.sql.ts';
import { changeLocked, changeOrders } from './change.sql.ts';
import type { LockedOrder } from './change.ts';
import type { Order } from './content.ts';
import { isFree, type OrderChange, type OrderState } from './order.ts';
import { lockForChange, stateColumns } from './rows.sql.ts';

/** What was called off. */
export interface CalledOff {
  saleId: string;
  /** Empty: the sale as a whole. */
  sku: string;
}

/** Orders that were looked at, in the order of their numbers. */
export interface PageOfOpen {
  /** Still open, also those that are being ended already. */
  open: number;
  /** To be projected. */
  closed: OrderChange[];
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
const paidRow = z.object({
  order_no: z.string(),
  payment: stateColumns.payment,
  requested: z.coerce.boolean(),
});

const CALL_OFF = { kind: 'close', reason: 'called_off' } as const;

/**
 * Closes those of these orders that are called off, in the transaction that has stored them and locked their
 * sales. No payment of theirs counts any more. The job goes on for those that are kept: a free one is paid by
 * now, and one that was shown as paid, and that MySQL had lost, is paid again: it would stay shown so.
 * @param stored of sales of which something is called off
 * @returns those that are closed, by orderNo
 */
export async function closeStored<T extends LockedOrder & { order: Order }>(
  connection: PoolConnection,
  stored: readonly T[],
): Promise<Map<string, T>> {
  if (stored.length === 0) return new Map();
  const jobs = await selectRows(
    connection,
    calledOffRow,
    'SELECT job_id, sale_id, sku FROM calling_offs WHERE sale_id IN (?)',
    [[...new Set(stored.map(({ order }) => order.saleId))]],
  );
  const isKept = ({ order }: T) => isFree(order) || order.shown?.status === 'paid';
  const jobsOf = ({ order: { saleId, items } }: T) =>
    jobs.filter(
      (job) => job.sale_id === saleId && (job.sku === '' || items.some(({ sku }) => sku === job.sku)),
    );
  const calledOff = stored.filter((order) => jobsOf(order).length > 0);
  const goOn = calledOff.filter(isKept).flatMap((order) => jobsOf(order).map((job) => job.job_id));
  if (goOn.length > 0)
    await modify(connection, 'UPDATE calling_offs SET ended_at = NULL, news = TRUE WHERE job_id IN (?)', [
      goOn,
    ]);
  const open = calledOff.filter((order) => !isKept(order));
  const { outcomes } = await changeLocked(connection, open, CALL_OFF);
  return new Map(outcomes.map((one) => [one.order.orderNo, one]));
}

/**
 * Gives a page of open orders the cancel request. One that is paid goes on, and is refunded later. An order
 * that cannot be closed is parked, and counts as open.
 * @param readKept those of some orders that are not to be closed yet, and count as open
 */
export function closeOpen(
  pool: Pool,
  calledOff: CalledOff,
  after: string,
  limit: number,
  readKept: (orderNos: readonly string[]) => Promise<ReadonlySet<string>>,
): Promise<PageOfOpen> {
  return withSmallerPages(
    limit,
    async (most) => {
      const orderNos = await listOpen(pool, calledOff, after, most);
      const last = orderNos.length === most ? orderNos.at(-1) : undefined;
      const kept = orderNos.length > 0 ? await readKept(orderNos) : new Set();
      const toClose = orderNos.filter((orderNo) => !kept.has(orderNo));
      const lock = (connection: PoolConnection) =>
        lockForChange(
          connection,
          `orders WHERE order_no IN (?) AND status = 'awaiting_payment' ORDER BY order_no FOR UPDATE`,
          [toClose],
        );
      const outcomes = toClose.length > 0 ? await changeOrders(pool, lock, CALL_OFF) : [];
      const closed = outcomes.filter(({ isNews }) => isNews);
      return {
        open: kept.size + outcomes.length,
        closed: closed.map(({ order: { orderNo }, state }) => ({ orderNo, state })),
        last,
      };
    },
    async (error) => {
      const [orderNo] = await listOpen(pool, calledOff, after, 1);
      if (orderNo === undefined) return { open: 0, closed: [], last: undefined };
      const facts = { cause: 'step_failing', inputs: { orderNo, step: null } } as const;
      await parkWork(pool, 'order', orderNo, `it cannot be closed: ${String(error)}`, facts);
      return { open: 1, closed: [], last: orderNo };
    },
  );
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
