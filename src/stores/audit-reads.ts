/** What the auditor reads of one sale, whole, from each store. For inspection, not for any hot path. */

import { z } from 'zod';
import { orderStateSchema } from '../domain/order-state-schema.ts';
import { parseOrderNo, type OrderState } from '../domain/order.ts';
import { IS_OVERDUE } from './hand-over.ts';
import { saleKeys } from './keys.ts';
import { selectRows, type Pool } from './mysql.ts';
import { listWaiting } from './outbox.ts';
import type { RedisClient } from './redis.ts';
import { orderHash } from './script-replies.ts';

/** Keys looked at per round trip. */
const SCAN_COUNT = 1_000;
/** Holds read at once: a few hundred KiB, answered long before a command counts as failed. */
const READ_AT_ONCE = 500;
/** Rows of MySQL read at once, for the same reason: a big sale has hundreds of thousands. */
const ROWS_AT_ONCE = 5_000;

const holdHash = orderHash.extend({ hold: z.enum(['held', 'sold', 'released', 'returned']) });

export interface RedisHold {
  orderNo: string;
  userId: string;
  hold: z.infer<typeof holdHash>['hold'];
  items: { sku: string; quantity: number }[];
  state: OrderState;
}

/** The holds of a sale, the orders that wait in its outbox, and what it counts per SKU and user. */
export async function readRedisSale(redis: RedisClient, saleId: string) {
  const keys = saleKeys({ saleId, shard: 0 });
  const [orderKeys, waiting, limits] = await Promise.all([
    scanKeys(redis, keys.order('*')),
    listWaiting(redis, { saleId, shard: 0 }),
    redis.hgetall(keys.limits),
  ]);
  return {
    holds: await readHolds(redis, orderKeys, keys.order('').length),
    outbox: waiting,
    limits: new Map(Object.entries(limits).map(([field, count]) => [field, Number(count)])),
  };
}

/** In portions, each one round trip: all at once a big sale's answers would take longer than a command may. */
async function readHolds(
  redis: RedisClient,
  orderKeys: readonly string[],
  prefixChars: number,
): Promise<RedisHold[]> {
  const holds: RedisHold[] = [];
  for (let from = 0; from < orderKeys.length; from += READ_AT_ONCE) {
    const portion = orderKeys.slice(from, from + READ_AT_ONCE);
    const hashes = await Promise.all(portion.map((key) => redis.hgetall(key)));
    for (const [i, key] of portion.entries()) {
      const hash = hashes[i] ?? {};
      // A settled projection may expire between the two reads.
      if (Object.keys(hash).length > 0) holds.push(toHold(key.slice(prefixChars), hash));
    }
  }
  return holds;
}

/** On a cluster each node knows its own keys alone; those of one sale are on one of them. */
async function scanKeys(redis: RedisClient, pattern: string): Promise<string[]> {
  const nodes = 'nodes' in redis ? redis.nodes('master') : [redis];
  const found = await Promise.all(
    nodes.map(async (node) => {
      const keys: string[] = [];
      const escaped = pattern.replace('{', '[{]').replace('}', '[}]');
      for await (const batch of node.scanStream({ match: escaped, count: SCAN_COUNT })) {
        keys.push(...z.array(z.string()).parse(batch));
      }
      return keys;
    }),
  );
  return [...new Set(found.flat())];
}

function toHold(orderNo: string, hash: Record<string, string>): RedisHold {
  const { user_id: userId, hold, items, status, version, payment, reason } = holdHash.parse(hash);
  return { orderNo, userId, hold, items, state: { status, version, payment, reason } };
}

const orderRow = z.object({
  order_no: z.string(),
  user_id: z.string(),
  status: orderStateSchema.shape.status,
  payment: orderStateSchema.shape.payment,
  version: z.int(),
  total: z.int(),
  currency: z.string(),
  due: z.coerce.boolean(),
  overdue: z.coerce.boolean(),
});

const eventRow = z.object({
  order_no: z.string(),
  version: z.int(),
  status: orderStateSchema.shape.status,
});

const itemRow = z.object({ order_no: z.string(), sku: z.string(), quantity: z.int() });

const paymentRow = z.object({
  payment_id: z.int(),
  provider_payment_id: z.string(),
  order_no: z.string(),
  amount: z.int(),
  currency: z.string(),
  status: z.enum(['received', 'applied', 'parked', 'refund_due', 'refunded']),
});

const ledgerRow = z.object({ sku: z.string(), held: z.coerce.number(), sold: z.coerce.number() });

const PAYMENTS =
  'SELECT p.payment_id, p.provider_payment_id, p.order_no, p.amount, p.currency, p.status FROM payments p';

function toPayment({ provider_payment_id, order_no, amount, currency, status }: z.infer<typeof paymentRow>) {
  return { providerPaymentId: provider_payment_id, orderNo: order_no, amount, currency, status };
}

/** Money that names an order that is not stored, and what is shown to a person. */
export async function readStrayMoney(pool: Pool) {
  const [payments, parked] = await Promise.all([
    selectRows(
      pool,
      paymentRow,
      `${PAYMENTS} LEFT JOIN orders o ON o.order_no = p.order_no WHERE o.order_no IS NULL`,
    ),
    readParked(pool),
  ]);
  return { payments: payments.map(toPayment), parked };
}

/** Orders and payments that are shown to a person. */
async function readParked(pool: Pool): Promise<Set<string>> {
  const rows = await selectRows(
    pool,
    z.object({ reference: z.string() }),
    `SELECT reference FROM parked WHERE kind IN ('order', 'payment') AND resolved_at IS NULL`,
  );
  return new Set(rows.map(({ reference }) => reference));
}

/** The orders of a sale with their items, histories and payments, what is shown to a person, and the sums of its ledger. */
export async function readMysqlSale(pool: Pool, saleId: string) {
  const [{ orders, items, events }, payments, parked, ledger] = await Promise.all([
    readOrders(pool, saleId),
    readPayments(pool, saleId),
    readParked(pool),
    selectRows(
      pool,
      ledgerRow,
      `SELECT sku,
         SUM(CASE movement WHEN 'hold' THEN quantity ELSE -quantity END) AS held,
         SUM(CASE movement WHEN 'sell' THEN quantity ELSE 0 END) AS sold
       FROM stock_ledger WHERE sale_id = ? GROUP BY sku`,
      [saleId],
    ),
  ]);
  const itemsOf = groupByOrder(items, ({ sku, quantity }) => ({ sku, quantity }));
  return {
    orders: orders.map((row) => ({
      orderNo: row.order_no,
      userId: row.user_id,
      status: row.status,
      payment: row.payment,
      version: row.version,
      total: row.total,
      currency: row.currency,
      /** To be handed to Temporal by a relay. */
      isDue: row.due,
      /** Long past its deadline. */
      isOverdue: row.overdue,
      items: itemsOf.get(row.order_no) ?? [],
    })),
    /** Each order's changes of state, the oldest first. */
    events: groupByOrder(events, ({ version, status }) => ({ version, status })),
    // The pattern also fits a sale whose id goes on after a dash.
    payments: payments.map(toPayment).filter(({ orderNo }) => parseOrderNo(orderNo)?.saleId === saleId),
    parked,
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
      `SELECT order_no, user_id, status, payment, version, total, currency,
         engine_due_at IS NOT NULL AS due, ${IS_OVERDUE} AS overdue
       FROM orders WHERE sale_id = ? AND order_no > ? AND order_no LIKE ? ORDER BY order_no LIMIT ?`,
      [saleId, after, `${saleId}-%`, ROWS_AT_ONCE],
    );
    const last = page.at(-1)?.order_no;
    if (last === undefined) return { orders, items, events };
    const ofPage = [page.map((row) => row.order_no)];
    const [itemsOfPage, eventsOfPage] = await Promise.all([
      selectRows(
        pool,
        itemRow,
        'SELECT order_no, sku, quantity FROM order_items WHERE order_no IN (?)',
        ofPage,
      ),
      selectRows(
        pool,
        eventRow,
        'SELECT order_no, version, status FROM order_events WHERE order_no IN (?) ORDER BY order_no, version',
        ofPage,
      ),
    ]);
    for (const row of page) orders.push(row);
    for (const row of itemsOfPage) items.push(row);
    for (const row of eventsOfPage) events.push(row);
    after = last;
  }
}

async function readPayments(pool: Pool, saleId: string) {
  const payments: z.infer<typeof paymentRow>[] = [];
  for (let after = 0; ;) {
    const page = await selectRows(
      pool,
      paymentRow,
      `${PAYMENTS} WHERE p.payment_id > ? AND p.order_no LIKE ? ORDER BY p.payment_id LIMIT ?`,
      [after, `${saleId}-%`, ROWS_AT_ONCE],
    );
    const last = page.at(-1)?.payment_id;
    if (last === undefined) return payments;
    for (const row of page) payments.push(row);
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
