/** Rows of orders and of the stock ledger: read, locked, changed, each change with its event. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import {
  modify,
  selectRows,
  type Executor,
  type PoolConnection,
  type Pool,
  withConnection,
} from '../mysql/connection.ts';
import { jsonText } from './content.ts';
import { carriedText, orderStateSchema, type Order } from './content.ts';
import type { OrderState, OrderUnits } from './order.ts';

/** The columns of an order's state, as MySQL names them. */
export const stateColumns = {
  status: orderStateSchema.shape.status,
  version: orderStateSchema.shape.version,
  payment: orderStateSchema.shape.payment,
  closing_reason: orderStateSchema.shape.reason,
  refunded: z.int(),
  extended_until: z.date().nullable(),
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
  payment_window_ms, closing_reason, refunded, extended_until, workflow_started_at, reference, charges, carried`;

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
      windowEndsAtMs: Math.max(
        Math.max(row.workflow_started_at.getTime(), row.reserved_at.getTime()) + row.payment_window_ms,
        row.extended_until?.getTime() ?? 0,
      ),
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
    ...(row.extended_until && { extendedUntilMs: row.extended_until.getTime() }),
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
    `UPDATE orders SET status = ?, payment = ?, closing_reason = ?, refunded = ?, extended_until = ?, version = ?
     WHERE order_no = ? AND version = ?`,
    [
      state.status,
      state.payment,
      state.reason,
      state.refunded ?? 0,
      extendedUntilOf(state),
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
    `INSERT INTO order_events (order_no, version, status, payment, reason, refunded, extended_until)
     VALUES ?`,
    [
      events.map(({ orderNo, state }) => [
        orderNo,
        state.version,
        state.status,
        state.payment,
        state.reason,
        state.refunded ?? 0,
        extendedUntilOf(state),
      ]),
    ],
  );
}

/** As the column has it. */
export function extendedUntilOf({ extendedUntilMs }: OrderState): Date | null {
  return extendedUntilMs === undefined ? null : new Date(extendedUntilMs);
}

/** hold: available → held. sell: held → sold. release: held → available. return: sold → available. */
export type Movement = 'hold' | 'sell' | 'release' | 'return';

/** An order names a SKU that its sale does not have. */
export class UnknownSkuError extends Error {
  override name = 'UnknownSkuError';
}

const COUNTERS: Record<Movement, string> = {
  hold: 'held = held + ?',
  sell: 'sold = sold + ?, held = held - ?',
  release: 'held = held - ?',
  return: 'sold = sold - ?',
};

export interface Booking {
  orderNo: string;
  saleId: string;
  items: readonly OrderUnits[];
  /** Of a return: as in `GiveBack`. Nothing else has parts. */
  part?: string;
}

/**
 * Books one movement for each of the orders. It must be the last call in a transaction: every transaction
 * needs the counters' rows, so they are locked once per SKU, in SKU order, and only until the commit.
 * @throws UnknownSkuError, or the violation of the CHECK when more would be held than exists
 */
export async function bookMovement(
  connection: PoolConnection,
  movement: Movement,
  bookings: readonly Booking[],
): Promise<void> {
  const lines = bookings.flatMap(({ orderNo, saleId, items, part = '' }) =>
    items.map((item) => ({ orderNo, saleId, part, ...item })),
  );
  if (lines.length === 0) return;
  await modify(
    connection,
    'INSERT INTO stock_ledger (sale_id, sku, order_no, movement, part, quantity) VALUES ?',
    [lines.map((line) => [line.saleId, line.sku, line.orderNo, movement, line.part, line.quantity])],
  );
  for (const { saleId, sku, units } of sumBySku(lines)) {
    const amounts = movement === 'sell' ? [units, units] : [units];
    const changed = await modify(
      connection,
      `UPDATE skus SET ${COUNTERS[movement]} WHERE sale_id = ? AND sku = ?`,
      [...amounts, saleId, sku],
    );
    if (changed !== 1) throw new UnknownSkuError(`sale ${saleId} has no SKU ${sku}`);
  }
}

function sumBySku(lines: readonly { saleId: string; sku: string; quantity: number }[]) {
  const sums = new Map<string, { saleId: string; sku: string; units: number }>();
  for (const { saleId, sku, quantity } of lines) {
    const key = `${saleId} ${sku}`;
    const sum = sums.get(key) ?? { saleId, sku, units: 0 };
    sums.set(key, { ...sum, units: sum.units + quantity });
  }
  return [...sums.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, sum]) => sum);
}

// Until when no API believes the projections in Redis. Here, because an API whose link to Redis is cut can
// still reach the others through MySQL.

/**
 * For a connection, and for the answer. A read that hangs is given up soon, with its connection: the next one
 * takes another.
 */
const LOOK_MS = 500;

const leftRow = z.object({ left_ms: z.int() });

/**
 * For how long they are still doubted, in ms; 0: they are believed.
 * @param lookMs how long a read waits for a connection, and as long again for the answer
 */
export async function readDoubtLeftMs(pool: Pool, lookMs = LOOK_MS): Promise<number> {
  const [row] = await withConnection(
    pool,
    (connection) =>
      selectRows(
        connection,
        leftRow,
        `SELECT GREATEST(TIMESTAMPDIFF(MICROSECOND, NOW(3), doubted_until), 0) DIV 1000 AS left_ms
         FROM projection_doubts WHERE doubt_id = 1`,
      ),
    { waitMs: lookMs, workMs: lookMs },
  );
  return row?.left_ms ?? 0;
}

/** Doubts them from now on for at least so long. */
export async function recordDoubt(pool: Pool, forMs: number): Promise<void> {
  await modify(
    pool,
    `INSERT INTO projection_doubts (doubt_id, doubted_until) VALUES (1, NOW(3) + INTERVAL ? * 1000 MICROSECOND)
     ON DUPLICATE KEY UPDATE doubted_until = GREATEST(doubted_until, VALUES(doubted_until))`,
    [forMs],
  );
}
