/** Reads for the audit, from MySQL: one whole sale. Too slow for any other use. */

import { z } from 'zod';
import {
  PAYMENT_STATUSES,
  REFUND_REASONS,
  type PaymentStatus,
  type RefundReason,
  type Reversal,
} from '../money/payment.ts';
import { reversalColumns } from '../money/reversals.sql.ts';
import { selectRefunds, type Refund } from '../money/rows.sql.ts';
import { selectRows, type Pool } from '../mysql/connection.ts';
import { IS_OVERDUE } from '../orders/claims.sql.ts';
import { orderStateSchema } from '../orders/content.ts';
import { boundsOfSale, parseOrderNo } from '../orders/order.ts';
import { chargesColumn } from '../orders/rows.sql.ts';

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
  reason: orderStateSchema.shape.reason,
  version: z.int(),
  total: z.int(),
  currency: z.string(),
  refunded: z.int(),
  charges: chargesColumn,
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
  const [{ orders, items, events }, money, news, parked, callingOffs, ledger] = await Promise.all([
    readOrders(pool, saleId),
    readSaleMoney(pool, saleId),
    readSaleNews(pool, saleId),
    readParked(pool),
    readCallingOffs(pool, saleId),
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
      reason: row.reason,
      version: row.version,
      total: row.total,
      currency: row.currency,
      /** Minor units of its own payment that went back. */
      refunded: row.refunded,
      charges: row.charges ?? [],
      /** A relay is to start or signal its workflow, or the ender to end it at its deadline. */
      isDue: row.due || row.unbegun,
      /** MySQL knows of no workflow of it. */
      isUnbegun: row.unbegun,
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
    callingOffs,
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
      `SELECT order_no, user_id, status, payment, closing_reason AS reason, version, total, currency, refunded, charges,
         engine_due_at IS NOT NULL AS due, ${IS_OVERDUE} AS overdue,
         workflow_started_at IS NULL AS unbegun,
         deadline < NOW(3) - INTERVAL ${UNENDED_SECONDS} SECOND AS unended
       FROM orders FORCE INDEX (PRIMARY)
       WHERE sale_id = ? AND order_no > ? AND order_no < ? ORDER BY order_no LIMIT ?`,
      [saleId, ...boundsOfSale(saleId, after), ORDERS_AT_ONCE],
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

const callingOffRow = z.object({ job_id: z.string(), sku: z.string(), ended: z.coerce.boolean() });

/** What was called off of a sale; `sku`: empty: all of it. */
async function readCallingOffs(pool: Pool, saleId: string) {
  const jobs = await selectRows(
    pool,
    callingOffRow,
    'SELECT job_id, sku, ended_at IS NOT NULL AS ended FROM calling_offs WHERE sale_id = ?',
    [saleId],
  );
  const excepted = await selectRows(
    pool,
    z.object({ order_no: z.string() }),
    `SELECT e.order_no FROM calling_offs c JOIN calling_off_exceptions e ON e.job_id = c.job_id WHERE c.sale_id = ?`,
    [saleId],
  );
  const ended = jobs.filter((job) => job.ended).map(({ sku }) => sku);
  return { ended, excepted: new Set(excepted.map((row) => row.order_no)) };
}

/** Payments read by one statement, so that its answer stays small. */
const PAYMENTS_AT_ONCE = 5_000;

/** A refund that staff requested; see `Refund`. */
type AuditedRefund = Pick<Refund, 'refundId' | 'amount' | 'status' | 'items' | 'isStockGiven'>;

/** A payment as MySQL has recorded it. Amounts in minor units. */
export interface AuditedPayment {
  paymentId: number;
  provider: string;
  providerPaymentId: string;
  orderNo: string;
  amount: number;
  currency: string;
  status: PaymentStatus;
  /** Whether it paid for its order, also when it went back later. */
  wasApplied: boolean;
  /** Why it is refunded; null: no refund was requested here. */
  reason: RefundReason | null;
  /** Minor units that are to be refunded in all, by all requests; 0: none was made here. */
  refundTarget: number;
  /** What staff requested of it. */
  refunds: AuditedRefund[];
  /** A relay is to start or signal its refund workflow. */
  isDue: boolean;
  /** Its recorded refunds and disputes. */
  reversals: Pick<Reversal, 'kind' | 'amount' | 'currency' | 'status'>[];
}

const paymentRow = z.object({
  payment_id: z.int(),
  provider: z.string(),
  provider_payment_id: z.string(),
  order_no: z.string(),
  amount: z.int(),
  currency: z.string(),
  status: z.enum(PAYMENT_STATUSES),
  applied: z.coerce.boolean(),
  refund_reason: z.enum(REFUND_REASONS).nullable(),
  refund_target: z.int(),
  due: z.coerce.boolean(),
});

const reversalRow = z.object({ payment_id: z.int(), ...reversalColumns });

/** The payments that name an order of the sale, stored or not. */
async function readSaleMoney(pool: Pool, saleId: string): Promise<{ payments: AuditedPayment[] }> {
  const payments: AuditedPayment[] = [];
  for (let after = ''; ;) {
    const named = await selectRows(
      pool,
      z.object({ order_no: z.string() }),
      `SELECT DISTINCT order_no FROM payments FORCE INDEX (payments_of_order)
       WHERE order_no > ? AND order_no < ? ORDER BY order_no LIMIT ?`,
      [...boundsOfSale(saleId, after), PAYMENTS_AT_ONCE],
    );
    const last = named.at(-1)?.order_no;
    if (last === undefined) return { payments };
    // A payment may name anything as its order.
    const own = named
      .map((row) => row.order_no)
      .filter((orderNo) => parseOrderNo(orderNo)?.saleId === saleId);
    const hint = ' FORCE INDEX (payments_of_order)';
    if (own.length > 0) payments.push(...(await readPayments(pool, 'p.order_no IN (?)', [own], hint)));
    after = last;
  }
}

/** The payments that name no stored order, and what is parked. */
export async function readStrayMoney(pool: Pool) {
  const [payments, parked] = await Promise.all([
    readPayments(pool, 'NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_no = p.order_no)', []),
    readParked(pool),
  ]);
  return { payments, ...parked };
}

/**
 * The references of parked orders, payments and refunds: `parked` are parked now, or an operator has settled
 * the money by hand; `everParked` are or were parked.
 */
export async function readParked(pool: Pool): Promise<{ parked: Set<string>; everParked: Set<string> }> {
  const rows = await selectRows(
    pool,
    z.object({ reference: z.string(), shown: z.coerce.boolean() }),
    `SELECT reference, resolved_at IS NULL OR (settled_by = 'operator' AND kind <> 'order') AS shown
     FROM parked WHERE kind IN ('order', 'payment', 'refund')`,
  );
  return {
    parked: new Set(rows.filter(({ shown }) => shown).map(({ reference }) => reference)),
    everParked: new Set(rows.map(({ reference }) => reference)),
  };
}

/**
 * @param condition about `payments p`
 * @param hint of the index, after a space, where the server would read all payments
 */
async function readPayments(
  pool: Pool,
  condition: string,
  values: readonly unknown[],
  hint = '',
): Promise<AuditedPayment[]> {
  const payments: AuditedPayment[] = [];
  for (let after = 0; ;) {
    const page = await selectRows(
      pool,
      paymentRow,
      `SELECT p.payment_id, p.provider, p.provider_payment_id, p.order_no, p.amount, p.currency, p.status,
         p.applied_at IS NOT NULL AS applied, p.refund_reason, p.engine_due_at IS NOT NULL AS due, p.refund_target
       FROM payments p${hint} WHERE p.payment_id > ? AND ${condition} ORDER BY p.payment_id LIMIT ?`,
      [after, ...values, PAYMENTS_AT_ONCE],
    );
    const last = page.at(-1)?.payment_id;
    if (last === undefined) return payments;
    const paymentIds = page.map((row) => row.payment_id);
    const reversals = await readReversals(pool, paymentIds);
    const refunds = await readRefunds(pool, paymentIds);
    for (const row of page) {
      payments.push({
        paymentId: row.payment_id,
        provider: row.provider,
        providerPaymentId: row.provider_payment_id,
        orderNo: row.order_no,
        amount: row.amount,
        currency: row.currency,
        status: row.status,
        wasApplied: row.applied,
        reason: row.refund_reason,
        refundTarget: row.refund_target,
        refunds: refunds.get(row.payment_id) ?? [],
        isDue: row.due,
        reversals: reversals.get(row.payment_id) ?? [],
      });
    }
    after = last;
  }
}

/** @returns the reversals by the id of their payment */
async function readReversals(
  pool: Pool,
  paymentIds: readonly number[],
): Promise<Map<number, AuditedPayment['reversals']>> {
  const rows = await selectRows(
    pool,
    reversalRow,
    `SELECT p.payment_id, r.kind, r.amount, r.currency, r.status FROM payments p
     JOIN reversals r ON r.provider = p.provider AND r.provider_payment_id = p.provider_payment_id
     WHERE p.payment_id IN (?)`,
    [paymentIds],
  );
  const byPayment = new Map<number, AuditedPayment['reversals']>();
  for (const { payment_id: paymentId, ...reversal } of rows) {
    byPayment.set(paymentId, [...(byPayment.get(paymentId) ?? []), reversal]);
  }
  return byPayment;
}

/** @returns the refunds by the id of their payment */
async function readRefunds(
  pool: Pool,
  paymentIds: readonly number[],
): Promise<Map<number, AuditedPayment['refunds']>> {
  const byPayment = new Map<number, AuditedPayment['refunds']>();
  for (const refund of await selectRefunds(pool, 'payment_id IN (?) ORDER BY refund_id', [paymentIds])) {
    byPayment.set(refund.paymentId, [...(byPayment.get(refund.paymentId) ?? []), refund]);
  }
  return byPayment;
}

// Reads for the audit, from MySQL: whether the feed of events is whole. Too slow for any other use.

/** Broken numbers that are named. More are no news. */
const NAMED_MAX = 20;

/** The feed of all events, at about one moment. */
export interface AuditedFeed {
  /** The sequence of the last event. */
  last: number;
  /** Events with a sequence up to the last one. */
  numbered: number;
  /** Sequences up to the last one that no event is to have, because MySQL had lost commits. */
  leftOut: number;
  /** Sequences that several events have, or that are beyond the last one. */
  wrong: number[];
  /** Events that are not of an order, and have no sequence. */
  waiting: string[];
  /** Parked entries, by number, of which there is no event since they were parked. */
  withoutEvent: number[];
}

const numberRow = z.object({ found: z.coerce.number() });

export async function readFeed(pool: Pool): Promise<AuditedFeed> {
  const numbers = async (sql: string, values: unknown[] = []): Promise<number[]> =>
    (await selectRows(pool, numberRow, sql, values)).map(({ found }) => found);
  const all = `(SELECT sequence FROM order_events WHERE sequence > 0 UNION ALL
    SELECT sequence FROM shop_events WHERE sequence > 0) events`;
  // The last sequence first: what is numbered meanwhile is beyond it, and counted by no statement.
  const [last = 0] = await numbers('SELECT last_sequence AS found FROM event_dispatch');
  const [numbered = 0] = await numbers(`SELECT COUNT(*) AS found FROM ${all} WHERE sequence <= ?`, [last]);
  const leftOut = await numbers(
    `SELECT JSON_EXTRACT(detail, '$.goesOnAfter') - JSON_EXTRACT(detail, '$.lastSequence.after') AS found
     FROM audit_log WHERE action IN ('commits_lost', 'numbers_left_out')`,
  );
  const doubled = await numbers(
    `SELECT sequence AS found FROM ${all} GROUP BY sequence HAVING COUNT(*) > 1 LIMIT ?`,
    [NAMED_MAX],
  );
  const beyond = await numbers(
    `SELECT sequence AS found FROM ${all}
     WHERE sequence > (SELECT last_sequence FROM event_dispatch) ORDER BY sequence LIMIT ?`,
    [NAMED_MAX],
  );
  return {
    last,
    numbered,
    leftOut: leftOut.reduce((sum, count) => sum + count, 0),
    wrong: [...doubled, ...beyond],
    waiting: await readWaiting(pool),
    withoutEvent: await readWithoutEvent(pool),
  };
}

async function readWaiting(pool: Pool): Promise<string[]> {
  const rows = await selectRows(
    pool,
    z.object({ event_id: z.int(), type: z.string() }),
    'SELECT event_id, type FROM shop_events WHERE sequence IS NULL ORDER BY event_id LIMIT ?',
    [NAMED_MAX],
  );
  return rows.map((row) => `shop.${row.event_id} ${row.type}`);
}

/** What was parked before there were events has none. */
async function readWithoutEvent(pool: Pool): Promise<number[]> {
  // A payment that is parked already may be parked anew without an event: any event of it will do.
  const parked = await selectRows(
    pool,
    z.object({ parked_id: z.int(), since: z.date() }),
    `SELECT p.parked_id, IF(p.kind = 'payment', d.begun_at, p.parked_at) AS since FROM parked p
     JOIN event_dispatch d WHERE p.resolved_at IS NULL AND p.parked_at >= d.begun_at`,
  );
  const announced = await selectRows(
    pool,
    z.object({ subject: z.coerce.number(), last: z.date() }),
    `SELECT subject, MAX(occurred_at) AS last FROM shop_events WHERE type = 'parked.opened' GROUP BY subject`,
  );
  const lastOf = new Map(announced.map(({ subject, last }) => [subject, last]));
  return parked.flatMap(({ parked_id: parkedId, since }) => {
    const last = lastOf.get(parkedId);
    return last && last >= since ? [] : [parkedId];
  });
}

// Reads for the audit, from MySQL: what became of a sale, and of which there is an event.

const saleRow = z.object({
  is_new: z.coerce.boolean(),
  version: z.int(),
  archived: z.coerce.boolean(),
  sold_out_count: z.int(),
  opened: z.coerce.boolean(),
  closed: z.coerce.boolean(),
  settled: z.coerce.boolean(),
});
const newsRow = z.object({
  type: z.enum(['sale.opened', 'sale.changed', 'sale.sold_out', 'sale.closed', 'sale.settled']),
  version: z.coerce.number().int(),
});

/** Each of these is recorded in one transaction with its event. */
export interface AuditedNews {
  /** The sale was made when the feed had begun; an older one may have changed before. */
  isNew: boolean;
  version: number;
  /** Archiving counts as a version, and has no event. */
  isArchived: boolean;
  /** How often it sold out. */
  soldOutCount: number;
  /** Marked since the feed began. */
  isMarked: { opened: boolean; closed: boolean; settled: boolean };
  /** Its events, with the version that each shows. */
  events: z.infer<typeof newsRow>[];
}

/** @returns undefined when there is no such sale */
async function readSaleNews(pool: Pool, saleId: string): Promise<AuditedNews | undefined> {
  // The sale first: of all that it shows, the events are committed by then.
  const [sale] = await selectRows(
    pool,
    saleRow,
    `SELECT s.created_at >= d.begun_at AS is_new, s.version, s.archived_at IS NOT NULL AS archived, s.sold_out_count,
       COALESCE(s.opened_at >= d.begun_at, FALSE) AS opened, COALESCE(s.closed_at >= d.begun_at, FALSE) AS closed,
       COALESCE(s.settled_at >= d.begun_at, FALSE) AS settled
     FROM sales s JOIN event_dispatch d WHERE s.sale_id = ?`,
    [saleId],
  );
  if (!sale) return undefined;
  const events = await selectRows(
    pool,
    newsRow,
    `SELECT type, COALESCE(JSON_EXTRACT(data, '$.sale.version'), 0) AS version FROM shop_events
     WHERE type IN (?) AND subject = ? ORDER BY event_id`,
    [newsRow.shape.type.options, saleId],
  );
  const { is_new: isNew, version, archived: isArchived, sold_out_count: soldOutCount, ...isMarked } = sale;
  return { isNew, version, isArchived, soldOutCount, isMarked, events };
}
