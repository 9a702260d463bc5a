/** Reads numbered events: changes of orders and events of the shop, in the order of their sequence. */

import { z } from 'zod';
import { SHOP_EVENT_TYPES, type OrderChange, type ShopEventType } from '../../../domain/event.ts';
import type { OrderState } from '../../../domain/order.ts';
import { selectRows, type Pool } from '../connection.ts';
import { readOrders, stateColumns, toState, type StoredOrder } from '../rows/order-rows.ts';

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
  eventId: number;
  type: ShopEventType;
  saleId: string | null;
  /** As its consumers get it. */
  data: Record<string, unknown>;
  occurredAt: Date;
}

export type EventRow = OrderEventRow | ShopEventRow;

export type EventRows = ReturnType<typeof createEventRows>;

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

const shopEventRow = z.object({
  sequence: z.int(),
  event_id: z.int(),
  type: z.enum(SHOP_EVENT_TYPES),
  sale_id: z.string().nullable(),
  data: z.string(),
  occurred_at: z.date(),
});

const dataJson = z.record(z.string(), z.unknown());

export function createEventRows(pool: Pool) {
  return {
    /**
     * The events after this one and up to that, at most `max`. Up to the last sequence all are there; those
     * beyond it might be committed between the two reads, and there would be a gap.
     */
    async list({ after, upTo, max }: { after: number; upTo: number; max: number }): Promise<EventRow[]> {
      const range = [after, upTo, max];
      const [ofOrders, ofShop] = await Promise.all([
        listOrderEvents(pool, range),
        listShopEvents(pool, range),
      ]);
      return [...ofOrders, ...ofShop].toSorted((a, b) => a.sequence - b.sequence).slice(0, max);
    },

    /** The orders by number; their content never changes, but for the person when it is erased. */
    async readOrders(orderNos: readonly string[]): Promise<Map<string, StoredOrder>> {
      const stored = await readOrders(pool, orderNos);
      return new Map(stored.map((one) => [one.order.orderNo, one]));
    },
  };
}

async function listOrderEvents(pool: Pool, range: readonly number[]): Promise<OrderEventRow[]> {
  const rows = await selectRows(
    pool,
    orderEventRow,
    `SELECT e.sequence, e.order_no, e.occurred_at, e.status, e.version, e.payment, e.reason, e.refunded,
       b.status AS status_before, b.payment AS payment_before, b.reason AS reason_before,
       b.refunded AS refunded_before
     FROM order_events e LEFT JOIN order_events b ON b.order_no = e.order_no AND b.version = e.version - 1
     WHERE e.sequence > ? AND e.sequence <= ? ORDER BY e.sequence LIMIT ?`,
    [...range],
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

async function listShopEvents(pool: Pool, range: readonly number[]): Promise<ShopEventRow[]> {
  const rows = await selectRows(
    pool,
    shopEventRow,
    `SELECT sequence, event_id, type, sale_id, data, occurred_at FROM shop_events
     WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
    [...range],
  );
  return rows.map((row) => ({
    kind: 'shop',
    sequence: row.sequence,
    eventId: row.event_id,
    type: row.type,
    saleId: row.sale_id,
    data: dataJson.parse(JSON.parse(row.data)),
    occurredAt: row.occurred_at,
  }));
}
