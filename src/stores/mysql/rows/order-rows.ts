/** Reads and locks rows of `orders`, and changes a stored order's state, which happens here alone. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { carriedText, orderStateSchema, type Order } from '../../../domain/content.ts';
import type { OrderState } from '../../../domain/order.ts';
import { jsonText, modify, selectRows, type Executor, type PoolConnection } from '../connection.ts';

/** The columns of an order's state, as MySQL names them. */
export const stateColumns = {
  status: orderStateSchema.shape.status,
  version: orderStateSchema.shape.version,
  payment: orderStateSchema.shape.payment,
  closing_reason: orderStateSchema.shape.reason,
  refunded: z.int(),
};

/** Null: it has none. */
export const chargesColumn = jsonText(carriedText.inRedis.schema.shape.charges).nullable();

const orderRow = z.object({
  order_no: z.string(),
  sale_id: z.string(),
  user_id: z.string(),
  idempotency_key: z.string().nullable(),
  ...stateColumns,
  total: z.int(),
  currency: z.string(),
  reserved_at: z.date(),
  payment_window_ms: z.int(),
  workflow_started_at: z.date().nullable(),
  reference: z.string().nullable(),
  charges: chargesColumn,
  carried: jsonText(carriedText.inMysql.schema),
});

const itemRow = z.object({ order_no: z.string(), sku: z.string(), quantity: z.int(), unit_price: z.int() });

/** An order as MySQL has it. */
export interface StoredOrder {
  order: Order;
  state: OrderState;
  /**
   * Unix time in ms at which its payment window ends, counted from the first start of its workflow; absent
   * before that.
   */
  windowEndsAtMs?: number;
}

const COLUMNS = `order_no, sale_id, user_id, idempotency_key, status, payment, version, total, currency, reserved_at,
  payment_window_ms, closing_reason, refunded, workflow_started_at, reference, charges, carried`;

export async function readOrders(reader: Executor, orderNos: readonly string[]): Promise<StoredOrder[]> {
  if (orderNos.length === 0) return [];
  return selectOrders(reader, 'order_no IN (?) ORDER BY order_no', [orderNos]);
}

/** Locks the order's row for the rest of the transaction; undefined when the order is not stored. */
export async function lockOrder(
  connection: PoolConnection,
  orderNo: string,
): Promise<StoredOrder | undefined> {
  const [stored] = await selectOrders(connection, 'order_no = ? FOR UPDATE', [orderNo]);
  return stored;
}

/** @param condition everything after WHERE, including a LIMIT or a lock */
export async function selectOrders(
  reader: Executor,
  condition: string,
  values: unknown[],
): Promise<StoredOrder[]> {
  const rows = await selectRows(reader, orderRow, `SELECT ${COLUMNS} FROM orders WHERE ${condition}`, values);
  if (rows.length === 0) return [];
  const items = await selectRows(
    reader,
    itemRow,
    'SELECT order_no, sku, quantity, unit_price FROM order_items WHERE order_no IN (?) ORDER BY order_no, position',
    [rows.map((row) => row.order_no)],
  );
  const byOrder = new Map(rows.map((row): [string, z.infer<typeof itemRow>[]] => [row.order_no, []]));
  for (const item of items) byOrder.get(item.order_no)?.push(item);
  return rows.map((row) => toStoredOrder(row, byOrder.get(row.order_no) ?? []));
}

function toStoredOrder(row: z.infer<typeof orderRow>, items: z.infer<typeof itemRow>[]): StoredOrder {
  return {
    order: {
      orderNo: row.order_no,
      saleId: row.sale_id,
      userId: row.user_id,
      items: items.map((item) => ({ sku: item.sku, quantity: item.quantity, unitPrice: item.unit_price })),
      total: row.total,
      currency: row.currency,
      idempotencyKey: row.idempotency_key ?? '',
      reservedAtMs: row.reserved_at.getTime(),
      paymentWindowMs: row.payment_window_ms,
      ...(row.reference !== null && { reference: row.reference }),
      ...(row.charges && { charges: row.charges }),
      ...row.carried,
    },
    state: toState(row),
    ...(row.workflow_started_at && {
      // Not before the deadline that the shopper was shown, where MySQL's clock is behind that of Redis.
      windowEndsAtMs:
        Math.max(row.workflow_started_at.getTime(), row.reserved_at.getTime()) + row.payment_window_ms,
    }),
  };
}

const stateRow = z.object(stateColumns);

export function toState(row: z.infer<typeof stateRow>): OrderState {
  return {
    status: row.status,
    version: row.version,
    payment: row.payment,
    reason: row.closing_reason,
    ...(row.refunded > 0 && { refunded: row.refunded }),
  };
}

/**
 * Changes the state of a locked order: its version grows by one, and the transition is recorded.
 * @returns the order with its new state
 */
export async function transition(
  connection: PoolConnection,
  stored: StoredOrder,
  change: Partial<Omit<OrderState, 'version'>>,
): Promise<StoredOrder> {
  const state = { ...stored.state, ...change, version: stored.state.version + 1 };
  const { orderNo } = stored.order;
  const changed = await modify(
    connection,
    `UPDATE orders SET status = ?, payment = ?, closing_reason = ?, refunded = ?, version = ?
     WHERE order_no = ? AND version = ?`,
    [
      state.status,
      state.payment,
      state.reason,
      state.refunded ?? 0,
      state.version,
      orderNo,
      stored.state.version,
    ],
  );
  assert.equal(changed, 1, `order ${orderNo} changed although its row was locked`);
  await recordEvents(connection, [{ orderNo, state }]);
  return { ...stored, state };
}

export async function recordEvents(
  connection: PoolConnection,
  events: readonly { orderNo: string; state: OrderState }[],
): Promise<void> {
  await modify(
    connection,
    'INSERT INTO order_events (order_no, version, status, payment, reason, refunded) VALUES ?',
    [
      events.map(({ orderNo, state }) => [
        orderNo,
        state.version,
        state.status,
        state.payment,
        state.reason,
        state.refunded ?? 0,
      ]),
    ],
  );
}
