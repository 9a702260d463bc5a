/**
 * The rows that Holdfast stores for orders, so many to a transaction, without what else it does: no look for
 * repeated, abandoned or early paid orders, and no lock of the sale.
 */

import type { PoolConnection } from 'mysql2/promise';
import {
  HOLD_STOCK,
  INSERT_EVENTS,
  INSERT_ITEMS,
  INSERT_LEDGER,
  INSERT_ORDERS,
  itemRows,
  orderRow,
} from './order-rows.ts';
import type { PeerOrder } from './peer.ts';

export interface RawBatch {
  orders: unknown[][];
  items: unknown[][];
  events: unknown[][];
  ledger: unknown[][];
  hold: unknown[];
}

/** @param orders of one sale and one SKU */
export function toRawBatch(orders: readonly PeerOrder[]): RawBatch {
  const dueAt = new Date();
  const lines = orders.flatMap((order) => order.items.map((item) => ({ ...order, ...item })));
  const units = lines.reduce((sum, { quantity }) => sum + quantity, 0);
  return {
    orders: orders.map((order) => orderRow(order, dueAt)),
    items: orders.flatMap(itemRows),
    events: orders.map(({ orderNo }) => [orderNo, 1, 'awaiting_payment', 'none']),
    ledger: lines.map((line) => [line.saleId, line.sku, line.orderNo, 'hold', line.quantity]),
    hold: [units, lines[0]?.saleId, lines[0]?.sku, units],
  };
}

export async function storeRawBatch(connection: PoolConnection, batch: RawBatch): Promise<void> {
  await connection.beginTransaction();
  await connection.query(INSERT_ORDERS, [batch.orders]);
  await connection.query(INSERT_ITEMS, [batch.items]);
  await connection.query(INSERT_EVENTS, [batch.events]);
  await connection.query(INSERT_LEDGER, [batch.ledger]);
  await connection.query(HOLD_STOCK, batch.hold);
  await connection.commit();
}
