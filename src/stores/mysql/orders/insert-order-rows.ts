/** Inserts rows into `orders`: stored orders, and the tombstones of abandoned ones. */

import {
  holdEpochOf,
  orderDeadlineMs,
  type Order,
  type OrderState,
  type ShopData,
} from '../../../domain/order.ts';
import { shopDataOf } from '../../../domain/shop-data.ts';
import { modify, type PoolConnection } from '../connection.ts';
import type { Moment } from '../leases.ts';

/**
 * An order as it is to be inserted. Without an idempotency key the row does not take part in its unique key.
 */
type NewOrder = Omit<Order, 'idempotencyKey' | 'items'> & { idempotencyKey: string | null };

/** The columns that are the same for all rows of one insert. */
export interface SharedColumns {
  /** Identifies the rows that this very insert wrote. */
  batchId: string;
  stateOf: (order: Pick<Order, 'shown'>) => OrderState;
  /** When the orders' workflows started; null: not yet. */
  startedAt: Moment | null;
  /** When the relay is to start the orders' workflows; null: never. */
  dueAt: Moment | null;
  /** When the caller is about to start them; null: it is not. */
  triedAt: Moment | null;
}

/**
 * Inserts the orders. A row that exists under the same number or the same request stays as it is.
 * @returns the number of inserted rows
 */
export async function insertOrderRows(
  connection: PoolConnection,
  orders: readonly NewOrder[],
  { batchId, stateOf, startedAt, dueAt, triedAt }: SharedColumns,
): Promise<number> {
  if (orders.length === 0) return 0;
  // Not INSERT IGNORE, which would also swallow truncations and out-of-range values.
  return modify(
    connection,
    `INSERT INTO orders (order_no, sale_id, user_id, idempotency_key, status, payment, version, closing_reason,
       epoch, batch_id, total, currency, ip, user_agent, reserved_at, payment_window_ms, deadline,
       workflow_started_at, engine_due_at, start_tried_at, reference, metadata, charges, ticket_id,
       ticket_ends_at)
     VALUES ? ON DUPLICATE KEY UPDATE order_no = order_no`,
    [
      orders.map((order) => {
        const state = stateOf(order);
        return [
          order.orderNo,
          order.saleId,
          order.userId,
          order.idempotencyKey,
          state.status,
          state.payment,
          state.version,
          state.reason,
          holdEpochOf(order),
          batchId,
          order.total,
          order.currency,
          order.ip,
          order.userAgent,
          new Date(order.reservedAtMs),
          order.paymentWindowMs,
          new Date(orderDeadlineMs(order)),
          startedAt,
          dueAt,
          triedAt,
          ...shopColumns(order),
        ];
      }),
    ],
  );
}

function shopColumns(order: ShopData) {
  const { reference, metadata, charges, ticket } = shopDataOf(order);
  return [
    reference ?? null,
    metadata ? JSON.stringify(metadata) : null,
    charges ? JSON.stringify(charges) : null,
    ticket?.id ?? null,
    ticket ? new Date(ticket.endsAtMs) : null,
  ];
}
