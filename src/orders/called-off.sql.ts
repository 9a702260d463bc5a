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

/** Orders that were read for one page, whatever they contain. They take MySQL some dozens of ms. */
const READ_AT_ONCE = 10_000;

/** Orders that were called off, by their numbers. */
export interface CalledOffPage<T> {
  orders: T[];
  /** The next page begins after it; undefined: there are no more. */
  next: string | undefined;
}

/** Orders that were read, in the order of their numbers. */
export interface PageOfOpen {
  /** Still open, also those that are being ended already. */
  open: number;
  /** To be projected. */
  closed: OrderChange[];
  /** The next page begins after it; undefined: there are no more. */
  next: string | undefined;
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
const openRow = z.object({ orderNo: z.string(), total: z.int() });
const paidRow = z.object({
  orderNo: z.string(),
  payment: stateColumns.payment,
  isRequested: z.coerce.boolean(),
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
      const { orders, next } = await listOpen(pool, calledOff, after, most);
      const orderNos = orders.map(({ orderNo }) => orderNo);
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
        next,
      };
    },
    async (error) => {
      const { orders, next } = await listOpen(pool, calledOff, after, 1);
      if (!orders[0]) return { open: 0, closed: [], next };
      const { orderNo } = orders[0];
      const facts = { cause: 'step_failing', inputs: { orderNo, step: null } } as const;
      await parkWork(pool, 'order', orderNo, `it cannot be closed: ${String(error)}`, facts);
      return { open: 1, closed: [], next };
    },
  );
}

/** A page of the open orders, after this one, with their totals in minor units. */
export function listOpen(
  pool: Pool,
  calledOff: CalledOff,
  after: string,
  limit: number,
): Promise<CalledOffPage<z.infer<typeof openRow>>> {
  return listPage(pool, calledOff, { status: 'awaiting_payment', after, limit }, openRow, 'o.total');
}

/** A page of the paid orders, after this one. */
export function listPaid(
  pool: Pool,
  { jobId, ...calledOff }: CalledOff & { jobId: string },
  after: string,
  limit: number,
): Promise<CalledOffPage<PaidOrder>> {
  const isRequested = `EXISTS (SELECT 1 FROM refunds r
    WHERE r.order_no = o.order_no AND r.idempotency_key = ?) AS isRequested`;
  const columns = `o.payment, ${isRequested}`;
  return listPage(pool, calledOff, { status: 'paid', after, limit }, paidRow, columns, [keyOf({ jobId })]);
}

/**
 * Of a SKU that few orders have, a page has fewer than `limit`, or none: it ends with the orders that are
 * read for it.
 */
async function listPage<T extends z.ZodType<{ orderNo: string }>>(
  pool: Pool,
  { saleId, sku }: CalledOff,
  { status, after, limit }: { status: OrderState['status']; after: string; limit: number },
  row: T,
  columns: string,
  values: unknown[] = [],
): Promise<CalledOffPage<z.infer<T>>> {
  const from = 'orders o FORCE INDEX (orders_of_sale_status)';
  const which = 'o.sale_id = ? AND o.status = ? AND o.order_no > ?';
  const [last] =
    sku === ''
      ? []
      : await selectRows(
          pool,
          orderNoRow,
          `SELECT o.order_no FROM ${from} WHERE ${which} ORDER BY o.order_no LIMIT 1 OFFSET ?`,
          [saleId, status, after, READ_AT_ONCE - 1],
        );
  const orders = await selectRows(
    pool,
    row,
    `SELECT o.order_no AS orderNo, ${columns} FROM ${from} ${ofSku(sku)}
     WHERE ${which}${last ? ' AND o.order_no <= ?' : ''} ORDER BY o.order_no LIMIT ?`,
    [...values, ...(sku === '' ? [] : [sku]), saleId, status, after, ...(last ? [last.order_no] : []), limit],
  );
  return { orders, next: orders.length === limit ? orders.at(-1)?.orderNo : last?.order_no };
}

/** From the orders to their lines, never the other way: a line of another sale may name the same SKU. */
export function ofSku(sku: string): string {
  return sku === '' ? '' : 'STRAIGHT_JOIN order_items i ON i.order_no = o.order_no AND i.sku = ?';
}
