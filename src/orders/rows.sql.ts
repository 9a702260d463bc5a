/** Rows of orders and of the stock ledger: read, locked, changed, each change with its event. */

import { z } from 'zod';
import {
  modify,
  selectRows,
  type Executor,
  type PoolConnection,
  type Pool,
  withConnection,
} from '../mysql/connection.ts';
import type { LockedOrder } from './change.ts';
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
  may_run: z.coerce.boolean(),
  ending: z.coerce.boolean(),
  reference: z.string().nullable(),
  charges: chargesColumn,
  carried: jsonText(carriedText.inMysql.schema),
});

const itemRow = z.object({ order_no: z.string(), sku: z.string(), quantity: z.int(), unit_price: z.int() });

/** An order as MySQL has it. */
export interface StoredOrder extends LockedOrder {
  order: Order;
  /**
   * Unix time in ms at which its payment window ends, counted from the first start of its workflow; absent
   * before that.
   */
  windowEndsAtMs?: number;
}

const MAY_RUN = '(workflow_started_at IS NOT NULL OR start_tried_at IS NOT NULL)';
const IS_ENDING = 'end_begun_at IS NOT NULL';
const COLUMNS = `order_no, sale_id, user_id, idempotency_key, status, payment, version, total, currency, reserved_at,
  payment_window_ms, closing_reason, refunded, extended_until, workflow_started_at,
  ${MAY_RUN} AS may_run, ${IS_ENDING} AS ending, reference, charges, carried`;

export async function readOrders(reader: Executor, orderNos: readonly string[]): Promise<StoredOrder[]> {
  if (orderNos.length === 0) return [];
  return selectOrders(reader, 'order_no IN (?) ORDER BY order_no', [orderNos]);
}

/** Locks the rows of those of these orders that are stored, in the order of their numbers. */
export async function lockOrders(
  connection: PoolConnection,
  orderNos: readonly string[],
): Promise<StoredOrder[]> {
  if (orderNos.length === 0) return [];
  return selectOrders(connection, 'order_no IN (?) ORDER BY order_no FOR UPDATE', [orderNos]);
}

/** Undefined when the order is not stored. */
export async function lockOrder(
  connection: PoolConnection,
  orderNo: string,
): Promise<StoredOrder | undefined> {
  return (await lockOrders(connection, [orderNo]))[0];
}

/**
 * @param condition everything after WHERE, including a LIMIT or a lock
 * @param hint of the index, after a space, where the server would take another one
 */
export async function selectOrders(
  reader: Executor,
  condition: string,
  values: unknown[],
  hint = '',
): Promise<StoredOrder[]> {
  const sql = `SELECT ${COLUMNS} FROM orders${hint} WHERE ${condition}`;
  const rows = await selectRows(reader, orderRow, sql, values);
  const items = await readItems(reader, rows);
  return rows.map((row) => toStoredOrder(row, items.get(row.order_no) ?? []));
}

const lockedRow = orderRow.pick({
  order_no: true,
  sale_id: true,
  status: true,
  version: true,
  payment: true,
  closing_reason: true,
  refunded: true,
  extended_until: true,
  total: true,
  currency: true,
  reserved_at: true,
  payment_window_ms: true,
  may_run: true,
  ending: true,
});

/**
 * Locks orders that are to be changed and not shown, hundreds at once: without what only readers need.
 * @param from everything after FROM, with an index and a LIMIT
 */
export async function lockForChange(
  connection: PoolConnection,
  from: string,
  values: unknown[],
): Promise<LockedOrder[]> {
  const sql = `SELECT order_no, sale_id, status, payment, version, closing_reason, refunded, extended_until, total,
      currency, reserved_at, payment_window_ms, ${MAY_RUN} AS may_run, ${IS_ENDING} AS ending FROM ${from}`;
  const rows = await selectRows(connection, lockedRow, sql, values);
  const items = await readItems(connection, rows);
  return rows.map((row) => ({
    order: {
      orderNo: row.order_no,
      saleId: row.sale_id,
      items: items.get(row.order_no) ?? [],
      total: row.total,
      currency: row.currency,
      reservedAtMs: row.reserved_at.getTime(),
      paymentWindowMs: row.payment_window_ms,
    },
    state: toState(row),
    mayRun: row.may_run,
    isEnding: row.ending,
  }));
}

async function readItems(reader: Executor, orders: readonly { order_no: string }[]) {
  const items = new Map<string, Order['items']>();
  if (orders.length === 0) return items;
  const rows = await selectRows(
    reader,
    itemRow,
    // Without the index named, all items there are would be read: a page of keys looks like many rows.
    `SELECT order_no, sku, quantity, unit_price FROM order_items FORCE INDEX (PRIMARY)
     WHERE order_no IN (?) ORDER BY order_no, position`,
    [orders.map((row) => row.order_no)],
  );
  for (const { order_no: orderNo, sku, quantity, unit_price: unitPrice } of rows) {
    const item = { sku, quantity, unitPrice };
    const known = items.get(orderNo);
    if (known) known.push(item);
    else items.set(orderNo, [item]);
  }
  return items;
}

function toStoredOrder(row: z.infer<typeof orderRow>, items: Order['items']): StoredOrder {
  return {
    order: {
      orderNo: row.order_no,
      saleId: row.sale_id,
      userId: row.user_id,
      items,
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
    mayRun: row.may_run,
    isEnding: row.ending,
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

export async function recordEvents(
  connection: PoolConnection,
  events: readonly { orderNo: string; state: OrderState }[],
): Promise<void> {
  if (events.length === 0) return;
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
type Movement = 'hold' | 'sell' | 'release' | 'return';

/** An order names a SKU that its sale does not have. */
export class UnknownSkuError extends Error {
  override name = 'UnknownSkuError';
}

/** What one unit of a movement adds to the counters of its SKU. */
const COUNTED: Record<Movement, { held: number; sold: number }> = {
  hold: { held: 1, sold: 0 },
  sell: { held: -1, sold: 1 },
  release: { held: -1, sold: 0 },
  return: { held: 0, sold: -1 },
};

export interface Booking {
  movement: Movement;
  orderNo: string;
  saleId: string;
  items: readonly OrderUnits[];
  /** Of a return: as in `GiveBack`. Nothing else has parts. */
  part?: string;
}

/** What jobs count of an order that they called off: that it was cancelled, or that a payment came late. */
export interface JobCount {
  counter: 'cancelled' | 'late';
  saleId: string;
  items: readonly OrderUnits[];
  /** Minor units. */
  amount: number;
}

/**
 * Books the movements of a transaction. It must be the transaction's last call: every transaction needs the
 * counters' rows, so they are locked once per SKU, in the order of sale and SKU, and only until the commit.
 * Jobs are counted for before, as other transactions lock their rows earlier.
 * @throws UnknownSkuError, or the violation of the CHECK when more would be held than exists
 */
export async function bookMovements(
  connection: PoolConnection,
  booked: readonly (Booking | JobCount)[],
): Promise<void> {
  await countForJobs(
    connection,
    booked.filter((one) => 'counter' in one),
  );
  const lines = booked
    .filter((one) => 'movement' in one)
    .flatMap(({ items, part = '', ...booking }) => items.map((item) => ({ ...booking, part, ...item })));
  if (lines.length === 0) return;
  await modify(
    connection,
    'INSERT INTO stock_ledger (sale_id, sku, order_no, movement, part, quantity) VALUES ?',
    [lines.map((line) => [line.saleId, line.sku, line.orderNo, line.movement, line.part, line.quantity])],
  );
  for (const { saleId, sku, held, sold } of sumBySku(lines)) {
    // MySQL counts a row that stays as it is as not changed.
    if (held === 0 && sold === 0) continue;
    const changed = await modify(
      connection,
      'UPDATE skus SET held = held + ?, sold = sold + ? WHERE sale_id = ? AND sku = ?',
      [held, sold, saleId, sku],
    );
    if (changed !== 1) throw new UnknownSkuError(`sale ${saleId} has no SKU ${sku}`);
  }
}

/** For the job of the sale as a whole, and for those of the order's SKUs: most have none. */
async function countForJobs(connection: PoolConnection, counts: readonly JobCount[]): Promise<void> {
  const sums = new Map<string, { values: [number, number]; counter: string; saleId: string; sku: string }>();
  for (const { counter, saleId, items, amount } of counts)
    for (const sku of ['', ...items.map((item) => item.sku)]) {
      const key = [saleId, sku, counter].join(' ');
      const sum = sums.get(key) ?? { values: [0, 0], counter, saleId, sku };
      sums.set(key, { ...sum, values: [sum.values[0] + 1, sum.values[1] + amount] });
    }
  for (const [, { values, counter, saleId, sku }] of [...sums].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    await modify(
      connection,
      `UPDATE calling_offs SET ${counter}_orders = ${counter}_orders + ?, ${counter}_amount = ${counter}_amount + ?
       WHERE sale_id = ? AND sku = ?`,
      [...values, saleId, sku],
    );
}

function sumBySku(lines: readonly { saleId: string; sku: string; movement: Movement; quantity: number }[]) {
  const sums = new Map<string, { saleId: string; sku: string; held: number; sold: number }>();
  for (const { saleId, sku, movement, quantity } of lines) {
    const key = `${saleId} ${sku}`;
    const sum = sums.get(key) ?? { saleId, sku, held: 0, sold: 0 };
    sum.held += quantity * COUNTED[movement].held;
    sum.sold += quantity * COUNTED[movement].sold;
    sums.set(key, sum);
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
