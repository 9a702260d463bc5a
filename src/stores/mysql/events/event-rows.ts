/** Reads numbered events: changes of orders and events of the shop, in the order of their sequence. */

import { z } from 'zod';
import type { OrderChange } from '../../../domain/event.ts';
import type { OrderState } from '../../../domain/order.ts';
import { selectRows, type Pool } from '../connection.ts';
import { readOrders as readStored, stateColumns, toState, type StoredOrder } from '../rows/order-rows.ts';

/** A change of an order, as it was recorded with it. */
export interface OrderEventRow extends OrderChange {
  kind: 'order';
  sequence: number;
  orderNo: string;
  occurredAt: Date;
}

/** Any other event. */
export interface ShopEventRow {
  kind: 'shop';
  sequence: number;
  /** Of those in `SHOP_EVENT_TYPES`, or a newer one of another version: it must not end the feed for all. */
  type: string;
  saleId: string | null;
  /** As its consumers get it. */
  data: Record<string, unknown>;
  /** Of `data` as JSON. */
  bytes: number;
  occurredAt: Date;
}

export type EventRow = OrderEventRow | ShopEventRow;

/** The state that an order got by a numbered change. */
export interface NumberedState {
  sequence: number;
  orderNo: string;
  state: OrderState;
}

export interface EventRange {
  /** Sequences: of the last event that is known, and of the last that is wanted. */
  after: number;
  upTo: number;
  max: number;
  /** Of the shop's events together; the first of them may have more. */
  maxBytes: number;
}

export interface EventList {
  rows: EventRow[];
  /** Up to this sequence all events are in `rows`, but for those that were deleted by hand. */
  readTo: number;
}

/** The state that a version of the order had, in the columns of `order_events`. */
const orderEventRow = z.object({
  sequence: z.int(),
  order_no: z.string(),
  occurred_at: z.date(),
  status: stateColumns.status,
  version: stateColumns.version,
  payment: stateColumns.payment,
  reason: stateColumns.closing_reason,
  refunded: stateColumns.refunded,
  status_before: stateColumns.status.nullable(),
  payment_before: stateColumns.payment.nullable(),
  reason_before: stateColumns.closing_reason,
  refunded_before: stateColumns.refunded.nullable(),
});

const stateRow = z.object({
  sequence: z.int(),
  order_no: z.string(),
  ...stateColumns,
  old: z.coerce.boolean(),
});

const shopEventRow = z.object({
  sequence: z.int(),
  type: z.string(),
  sale_id: z.string().nullable(),
  data: z.string(),
  occurred_at: z.date(),
});

const sizeRow = z.object({ sequence: z.int(), bytes: z.int() });

const dataJson = z.record(z.string(), z.unknown());

/**
 * The events after `after` and up to `upTo`, at most `max`. Up to the last sequence all are there; those
 * beyond it might be committed between the two reads, and there would be a gap.
 */
export async function list(pool: Pool, range: EventRange): Promise<EventList> {
  const { upTo, max } = range;
  const [ofOrders, ofShop] = await Promise.all([listOrderEvents(pool, range), listShopEvents(pool, range)]);
  const all = [...ofOrders, ...ofShop.rows].toSorted((a, b) => a.sequence - b.sequence);
  const rows = all.filter(({ sequence }) => sequence <= ofShop.readTo).slice(0, max);
  const last = rows.at(-1);
  return { rows, readTo: rows.length === max && last ? last.sequence : Math.min(ofShop.readTo, upTo) };
}

/**
 * The states that orders got by the events after this one, at most `max`, up to the first that is younger
 * than `ageMs`. One statement sees the numbers without a gap.
 */
export async function listStates(
  pool: Pool,
  after: number,
  max: number,
  ageMs: number,
): Promise<NumberedState[]> {
  const rows = await selectRows(
    pool,
    stateRow,
    `SELECT sequence, order_no, status, version, payment, reason AS closing_reason, refunded,
           occurred_at <= NOW(3) - INTERVAL ? * 1000 MICROSECOND AS old
         FROM order_events WHERE sequence > ? ORDER BY sequence LIMIT ?`,
    [ageMs, after, max],
  );
  const young = rows.findIndex(({ old }) => !old);
  return rows.slice(0, young < 0 ? rows.length : young).map(({ sequence, order_no: orderNo, ...row }) => ({
    sequence,
    orderNo,
    state: toState(row),
  }));
}

/** The orders by number; their content never changes, but for the person when it is erased. */
export async function readOrders(pool: Pool, orderNos: readonly string[]): Promise<Map<string, StoredOrder>> {
  const stored = await readStored(pool, orderNos);
  return new Map(stored.map((one) => [one.order.orderNo, one]));
}

async function listOrderEvents(pool: Pool, { after, upTo, max }: EventRange): Promise<OrderEventRow[]> {
  const rows = await selectRows(
    pool,
    orderEventRow,
    `SELECT e.sequence, e.order_no, e.occurred_at, e.status, e.version, e.payment, e.reason, e.refunded,
       b.status AS status_before, b.payment AS payment_before, b.reason AS reason_before,
       b.refunded AS refunded_before
     FROM order_events e LEFT JOIN order_events b ON b.order_no = e.order_no AND b.version = e.version - 1
     WHERE e.sequence > ? AND e.sequence <= ? ORDER BY e.sequence LIMIT ?`,
    [after, upTo, max],
  );
  return rows.map((row) => ({
    kind: 'order',
    sequence: row.sequence,
    orderNo: row.order_no,
    occurredAt: row.occurred_at,
    state: toState({ ...row, closing_reason: row.reason }),
    before: stateBefore(row),
  }));
}

function stateBefore({ version, ...row }: z.infer<typeof orderEventRow>): OrderState | null {
  const { status_before: status, payment_before: payment, reason_before: reason } = row;
  const refunded = row.refunded_before ?? 0;
  return (
    status && payment && toState({ status, payment, closing_reason: reason, refunded, version: version - 1 })
  );
}

/** What does not fit is not read: the server says first how large each is. */
async function listShopEvents(
  pool: Pool,
  { after, upTo, max, maxBytes }: EventRange,
): Promise<{ rows: ShopEventRow[]; readTo: number }> {
  const sizes = await selectRows(
    pool,
    sizeRow,
    `SELECT sequence, LENGTH(data) AS bytes FROM shop_events
     WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
    [after, upTo, max],
  );
  if (sizes.length === 0) return { rows: [], readTo: upTo };
  let total = 0;
  // The first fits, whatever its size, or the reader would never get beyond it.
  const tooMuch = sizes.find(({ bytes }, i) => {
    total += bytes;
    return i > 0 && total > maxBytes;
  });
  const readTo = tooMuch ? tooMuch.sequence - 1 : upTo;
  const rows = await selectRows(
    pool,
    shopEventRow,
    `SELECT sequence, type, sale_id, data, occurred_at FROM shop_events
     WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
    [after, readTo, max],
  );
  return { rows: rows.map(toShopEvent), readTo };
}

function toShopEvent(row: z.infer<typeof shopEventRow>): ShopEventRow {
  return {
    kind: 'shop',
    sequence: row.sequence,
    type: row.type,
    saleId: row.sale_id,
    data: dataJson.parse(JSON.parse(row.data)),
    bytes: Buffer.byteLength(row.data),
    occurredAt: row.occurred_at,
  };
}
