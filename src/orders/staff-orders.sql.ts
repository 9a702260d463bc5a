/** Orders as staff look for them: by the shop's reference, by user, or by sale. */

import { MAX_SALE_TIME_MS } from '../limits.ts';
import type { Pool } from '../mysql/connection.ts';
import { boundsOfSale, type OrderStatus } from './order.ts';
import { readOrders, selectOrders, type StoredOrder } from './rows.sql.ts';
import { list as listOfUser } from './user-orders.sql.ts';

export interface OrderSearch {
  by: 'reference' | 'userId' | 'saleId';
  value: string;
  /** Undefined: any. */
  status: OrderStatus | undefined;
  /** The number of the last order of the page before; undefined: from the first on. */
  after: string | undefined;
}

/** The next orders, up to `limit`: those of a user by their times, all others by their numbers. */
export async function list(pool: Pool, search: OrderSearch, limit: number): Promise<StoredOrder[]> {
  const { by, value, status, after = '' } = search;
  const hasStatus = status === undefined ? '' : 'AND status = ?';
  const statuses = status === undefined ? [] : [status];
  switch (by) {
    case 'reference':
      return selectOrders(pool, `reference = ? AND order_no > ? ${hasStatus} ORDER BY order_no LIMIT ?`, [
        value,
        after,
        ...statuses,
        limit,
      ]);
    case 'userId': {
      const [last] = after === '' ? [] : await readOrders(pool, [after]);
      const range = { fromMs: 0, untilMs: MAX_SALE_TIME_MS };
      return listOfUser(pool, { userId: value, ...range, after: last?.order, status }, limit);
    }
    case 'saleId':
      return selectOrders(
        pool,
        `sale_id = ? ${hasStatus} AND order_no > ? AND order_no < ? ORDER BY order_no LIMIT ?`,
        [value, ...statuses, ...boundsOfSale(value, after), limit],
        // Orders of one status may be rare among all.
        ` FORCE INDEX (${status === undefined ? 'PRIMARY' : 'orders_of_sale_status'})`,
      );
    default:
      return by satisfies never;
  }
}
