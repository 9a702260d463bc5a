/** Orders of a user by their times, page by page. */

import type { Pool } from '../mysql/connection.ts';
import type { OrderStatus } from './order.ts';
import { selectOrders, type StoredOrder } from './rows.sql.ts';

/** Where a page of a user's orders ended. */
export interface UserOrderCursor {
  reservedAtMs: number;
  orderNo: string;
}

export interface UserOrdersSearch {
  userId: string;
  /** Undefined: of all sales. */
  saleId?: string | undefined;
  /** Unix ms at which the orders were accepted: from the first on, and before the second. */
  fromMs: number;
  untilMs: number;
  /** The last order of the page before; undefined: from the first on. */
  after: UserOrderCursor | undefined;
  /** Undefined: any. */
  status?: OrderStatus | undefined;
}

/** The next orders, up to `limit`: a range of the index by user and time, which ends with the number. */
export async function list(pool: Pool, search: UserOrdersSearch, limit: number): Promise<StoredOrder[]> {
  const { userId, saleId, fromMs, untilMs, after, status } = search;
  const isLater = after !== undefined && after.reservedAtMs >= fromMs;
  const since = new Date(isLater ? after.reservedAtMs : fromMs);
  return selectOrders(
    pool,
    `user_id = ? AND reserved_at >= ? AND reserved_at < ? AND (reserved_at > ? OR order_no > ?)
         ${saleId === undefined ? '' : 'AND sale_id = ?'} ${status === undefined ? '' : 'AND status = ?'} ORDER BY reserved_at, order_no LIMIT ?`,
    [
      userId,
      since,
      new Date(untilMs),
      since,
      isLater ? after.orderNo : '',
      ...(saleId === undefined ? [] : [saleId]),
      ...(status === undefined ? [] : [status]),
      limit,
    ],
  );
}
