/**
 * An order as the rows that other designs write: the order, its items, and the movement of its stock. The
 * columns are those of Holdfast's tables. Nothing of the product is imported here: the peers go on writing
 * the same rows, however the product describes its orders.
 */

import { ulid } from 'ulidx';
import type { PeerOrder } from './peer.ts';

export const INSERT_ORDERS = `INSERT INTO orders (order_no, sale_id, user_id, idempotency_key, status, payment, version,
  epoch, batch_id, total, currency, carried, reserved_at, payment_window_ms, deadline, engine_due_at) VALUES ?`;
export const INSERT_ITEMS =
  'INSERT INTO order_items (order_no, position, sku, quantity, unit_price) VALUES ?';
export const INSERT_EVENTS = 'INSERT INTO order_events (order_no, version, status, payment) VALUES ?';
export const INSERT_LEDGER = 'INSERT INTO stock_ledger (sale_id, sku, order_no, movement, quantity) VALUES ?';
/** Changes no row when fewer are left. */
export const HOLD_STOCK =
  'UPDATE skus SET held = held + ? WHERE sale_id = ? AND sku = ? AND held + sold + ? <= total';

const BATCH_ID = ulid();

/** @param engineDueAt null for a design that has no engine to hand the order to */
export function orderRow(order: PeerOrder, engineDueAt: Date | null): unknown[] {
  return [
    order.orderNo,
    order.saleId,
    order.userId,
    order.idempotencyKey,
    'awaiting_payment',
    'none',
    1,
    1,
    BATCH_ID,
    order.total,
    order.currency,
    JSON.stringify({ ip: order.ip, userAgent: order.userAgent }),
    new Date(order.reservedAtMs),
    order.paymentWindowMs,
    new Date(order.reservedAtMs + order.paymentWindowMs),
    engineDueAt,
  ];
}

export function itemRows({ orderNo, items }: PeerOrder): unknown[][] {
  return items.map((item, position) => [orderNo, position, item.sku, item.quantity, item.unitPrice]);
}
