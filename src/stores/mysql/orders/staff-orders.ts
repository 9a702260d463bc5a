/** Orders as staff look for them: by the shop's reference, by user, or by sale. */

import type { OrderStatus } from '../../../domain/order.ts';
import type { Pool } from '../connection.ts';
import { readOrders, selectOrders, type StoredOrder } from '../rows/order-rows.ts';

export interface OrderSearch {
  by: 'reference' | 'userId' | 'saleId';
  value: string;
  /** Undefined: any. */
  status: OrderStatus | undefined;
  /** The number of the last order of the page before; undefined: from the first on. */
  after: string | undefined;
}

export type StaffOrders = ReturnType<typeof createStaffOrders>;

export function createStaffOrders(pool: Pool) {
  return {
    /** The next orders, up to `limit`: those of a user by their times, all others by their numbers. */
    async list(search: OrderSearch, limit: number): Promise<StoredOrder[]> {
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
          // A range of the index by user and time, which ends with the number.
          const [last] = after === '' ? [] : await readOrders(pool, [after]);
          const sinceMs = last?.order.reservedAtMs ?? 0;
          const since = new Date(sinceMs);
          return selectOrders(
            pool,
            `user_id = ? AND reserved_at >= ? AND (reserved_at > ? OR order_no > ?) ${hasStatus}
             ORDER BY reserved_at, order_no LIMIT ?`,
            [value, since, since, after, ...statuses, limit],
          );
        }
        case 'saleId':
          // Without a status the pattern makes it a range of the primary key.
          return selectOrders(
            pool,
            `sale_id = ? ${hasStatus} AND order_no > ? AND order_no LIKE ? ORDER BY order_no LIMIT ?`,
            [value, ...statuses, after, `${value}-%`, limit],
          );
        default:
          return by satisfies never;
      }
    },
  };
}
