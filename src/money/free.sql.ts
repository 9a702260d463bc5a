/** The payments of orders that cost nothing: rows of 0, which no provider has. */

import { modify, type PoolConnection } from '../mysql/connection.ts';
import type { Order } from '../orders/content.ts';
import { NO_PROVIDER } from './payment.ts';

/**
 * Pays for free orders in the transaction that stores them. So refunds, limits, the settlement and the audit
 * find with them what they find with any paid order. Their orderNo is the payment's id.
 */
export async function payFree(
  connection: PoolConnection,
  orders: readonly Pick<Order, 'orderNo' | 'currency'>[],
): Promise<void> {
  if (orders.length === 0) return;
  await modify(
    connection,
    `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status, applied_at)
     VALUES ${orders.map(() => `(?, ?, ?, 0, ?, 'applied', NOW(3))`).join(', ')}`,
    orders.flatMap(({ orderNo, currency }) => [NO_PROVIDER, orderNo, orderNo, currency]),
  );
}
