/** What the auditor reads of one sale, whole, from each store. For inspection, not for any hot path. */

import { z } from 'zod';
import { orderStateSchema } from '../domain/order-state-schema.ts';
import type { OrderState } from '../domain/order.ts';
import { saleKeys } from './keys.ts';
import { selectRows, type Pool } from './mysql.ts';
import type { RedisClient } from './redis.ts';
import { orderHash } from './script-replies.ts';

/** Keys looked at per round trip. */
const SCAN_COUNT = 1_000;

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
    redis.xrange(keys.outbox, '-', '+'),
    redis.hgetall(keys.limits),
  ]);
  const holds = await Promise.all(
    orderKeys.map(async (key) => toHold(key.slice(keys.order('').length), await redis.hgetall(key))),
  );
  return {
    holds,
    outbox: waiting.map(([, fields]) => fields[1] ?? ''),
    limits: new Map(Object.entries(limits).map(([field, count]) => [field, Number(count)])),
  };
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
});

const itemRow = z.object({ order_no: z.string(), sku: z.string(), quantity: z.int() });

const paymentRow = z.object({
  provider_payment_id: z.string(),
  order_no: z.string(),
  amount: z.int(),
  currency: z.string(),
  status: z.enum(['received', 'applied', 'parked', 'refund_due', 'refunded']),
});

const ledgerRow = z.object({ sku: z.string(), held: z.coerce.number(), sold: z.coerce.number() });

/** The orders of a sale with their items and payments, and the sums of its ledger. */
export async function readMysqlSale(pool: Pool, saleId: string) {
  const [orders, items, payments, ledger] = await Promise.all([
    selectRows(
      pool,
      orderRow,
      `SELECT order_no, user_id, status, payment, version, total, currency, engine_due_at IS NOT NULL AS due
       FROM orders WHERE sale_id = ?`,
      [saleId],
    ),
    selectRows(
      pool,
      itemRow,
      `SELECT i.order_no, i.sku, i.quantity FROM order_items i JOIN orders o ON o.order_no = i.order_no
       WHERE o.sale_id = ?`,
      [saleId],
    ),
    selectRows(
      pool,
      paymentRow,
      `SELECT provider_payment_id, order_no, amount, currency, status FROM payments WHERE order_no LIKE ?`,
      [`${saleId}-%`],
    ),
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
  const itemsOf = new Map(
    orders.map((order): [string, { sku: string; quantity: number }[]] => [order.order_no, []]),
  );
  for (const { order_no: orderNo, sku, quantity } of items) itemsOf.get(orderNo)?.push({ sku, quantity });
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
      items: itemsOf.get(row.order_no) ?? [],
    })),
    payments: payments.map(({ provider_payment_id: providerPaymentId, order_no: orderNo, ...rest }) => ({
      providerPaymentId,
      orderNo,
      ...rest,
    })),
    ledger: new Map(ledger.map(({ sku, held, sold }) => [sku, { held, sold }])),
  };
}
