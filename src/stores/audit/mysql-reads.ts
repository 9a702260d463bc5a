/** Reads for the audit, from MySQL: one whole sale. Too slow for any other use. */

import { z } from 'zod';
import { orderStateSchema } from '../../domain/order-state-schema.ts';
import { shopDataSchema } from '../../domain/shop-data.ts';
import { selectRows, type Pool } from '../mysql/connection.ts';
import { IS_OVERDUE } from '../mysql/orders/order-claims.ts';
import { jsonOr } from '../mysql/rows/order-rows.ts';
import { readParked, readSaleMoney } from './money-reads.ts';
import { readSaleNews } from './sale-news-reads.ts';

/** Orders read by one statement. A big sale has hundreds of thousands, and an answer should stay small. */
const ORDERS_AT_ONCE = 5_000;

/**
 * An order that no workflow has begun is ended within seconds of its deadline, and after a minute at the
 * latest where a payment page was open.
 */
const UNENDED_SECONDS = 120;

const orderRow = z.object({
  order_no: z.string(),
  user_id: z.string(),
  status: orderStateSchema.shape.status,
  payment: orderStateSchema.shape.payment,
  version: z.int(),
  total: z.int(),
  currency: z.string(),
  refunded: z.int(),
  charges: jsonOr(shopDataSchema.shape.charges),
  due: z.coerce.boolean(),
  overdue: z.coerce.boolean(),
  unbegun: z.coerce.boolean(),
  unended: z.coerce.boolean(),
});

const eventRow = z.object({
  order_no: z.string(),
  version: z.int(),
  status: orderStateSchema.shape.status,
  payment: orderStateSchema.shape.payment,
  reason: orderStateSchema.shape.reason,
  refunded: z.int(),
  sequence: z.int().nullable(),
});

/** A sequence of 0 is right only for what is older than the feed. */
const EVENTS_OF_ORDERS = `SELECT e.order_no, e.version, e.status, e.payment, e.reason, e.refunded,
    IF(e.sequence = 0 AND e.occurred_at >= d.begun_at, NULL, e.sequence) AS sequence
  FROM order_events e JOIN event_dispatch d WHERE e.order_no IN (?) ORDER BY e.order_no, e.version`;

const itemRow = z.object({
  order_no: z.string(),
  sku: z.string(),
  quantity: z.int(),
  unit_price: z.int(),
  stock_returned: z.int(),
  limit_returned: z.int(),
});

const ledgerRow = z.object({ sku: z.string(), held: z.coerce.number(), sold: z.coerce.number() });

/** A sale: its orders with items, histories and payments, its news, what is parked, its ledger summed. */
export async function readMysqlSale(pool: Pool, saleId: string) {
  const [{ orders, items, events }, money, news, parked, ledger] = await Promise.all([
    readOrders(pool, saleId),
    readSaleMoney(pool, saleId),
    readSaleNews(pool, saleId),
    readParked(pool),
    selectRows(
      pool,
      ledgerRow,
      `SELECT sku,
         SUM(CASE movement WHEN 'hold' THEN quantity WHEN 'return' THEN 0 ELSE -quantity END) AS held,
         SUM(CASE movement WHEN 'sell' THEN quantity WHEN 'return' THEN -quantity ELSE 0 END) AS sold
       FROM stock_ledger WHERE sale_id = ? GROUP BY sku`,
      [saleId],
    ),
  ]);
  const itemsOf = groupByOrder(items, (row) => ({
    sku: row.sku,
    quantity: row.quantity,
    unitPrice: row.unit_price,
    /** Units on sale again, and units that no longer count against the user's limit. */
    stockReturned: row.stock_returned,
    limitReturned: row.limit_returned,
  }));
  return {
    orders: orders.map((row) => ({
      orderNo: row.order_no,
      userId: row.user_id,
      status: row.status,
      payment: row.payment,
      version: row.version,
      total: row.total,
      currency: row.currency,
      /** Minor units of its own payment that went back. */
      refunded: row.refunded,
      charges: row.charges ?? [],
      /** A relay is to start or signal its workflow, or the ender to end it at its deadline. */
      isDue: row.due || row.unbegun,
      /** No workflow has begun, and its deadline passed two minutes ago. */
      isUnended: row.unbegun && row.unended,
      /** Long past its deadline. */
      isOverdue: row.overdue,
      items: itemsOf.get(row.order_no) ?? [],
    })),
    /** The changes of each order's state, the oldest first. Without a sequence: not in the feed yet. */
    events: groupByOrder(events, ({ version, status, payment, reason, refunded, sequence }) => ({
      version,
      status,
      payment,
      reason,
      refunded,
      sequence,
    })),
    news,
    ...money,
    ...parked,
    ledger: new Map(ledger.map(({ sku, held, sold }) => [sku, { held, sold }])),
  };
}

async function readOrders(pool: Pool, saleId: string) {
  const orders: z.infer<typeof orderRow>[] = [];
  const items: z.infer<typeof itemRow>[] = [];
  const events: z.infer<typeof eventRow>[] = [];
  for (let after = ''; ;) {
    const page = await selectRows(
      pool,
      orderRow,
      `SELECT order_no, user_id, status, payment, version, total, currency, refunded, charges,
         engine_due_at IS NOT NULL AS due, ${IS_OVERDUE} AS overdue,
         workflow_started_at IS NULL AND payment = 'none' AS unbegun,
         deadline < NOW(3) - INTERVAL ${UNENDED_SECONDS} SECOND AS unended
       FROM orders WHERE sale_id = ? AND order_no > ? AND order_no LIKE ? ORDER BY order_no LIMIT ?`,
      [saleId, after, `${saleId}-%`, ORDERS_AT_ONCE],
    );
    const last = page.at(-1)?.order_no;
    if (last === undefined) return { orders, items, events };
    const ofPage = [page.map((row) => row.order_no)];
    const [itemsOfPage, eventsOfPage] = await Promise.all([
      selectRows(
        pool,
        itemRow,
        `SELECT order_no, sku, quantity, unit_price, stock_returned, limit_returned FROM order_items
         WHERE order_no IN (?)`,
        ofPage,
      ),
      selectRows(pool, eventRow, EVENTS_OF_ORDERS, ofPage),
    ]);
    for (const row of page) orders.push(row);
    for (const row of itemsOfPage) items.push(row);
    for (const row of eventsOfPage) events.push(row);
    after = last;
  }
}

function groupByOrder<R extends { order_no: string }, T>(
  rows: readonly R[],
  toEntry: (row: R) => T,
): Map<string, T[]> {
  const byOrder = new Map<string, T[]>();
  for (const row of rows) {
    const entries = byOrder.get(row.order_no);
    if (entries) entries.push(toEntry(row));
    else byOrder.set(row.order_no, [toEntry(row)]);
  }
  return byOrder;
}
