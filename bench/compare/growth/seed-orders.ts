/**
 * Fills a new sale with many orders in seconds: the product's own code makes the first one, and the others
 * are copies of all that it wrote in Redis and MySQL. So they are what the product writes, whatever that is.
 */

import assert from 'node:assert/strict';
import { monotonicFactory } from 'ulidx';
import { z } from 'zod';
import { DEFAULT_STORES_PER_SECOND } from '../../../src/config.ts';
import { modify, selectRows, type Pool, type PoolConnection } from '../../../src/mysql/connection.ts';
import { fingerprintOf, type Order } from '../../../src/orders/content.ts';
import { formatOrderNo, parseOrderNo } from '../../../src/orders/order.ts';
import { createReservations } from '../../../src/orders/reservations.redis.ts';
import type { RedisClient } from '../../../src/redis/connection.ts';
import { orderKeys, saleKeys } from '../../../src/redis/keys.ts';
import { mysqlStores } from '../../../src/stores/bound.ts';

/**
 * waiting: accepted and in the outbox. due: stored, and the relay is to start the workflow. open: stored, and
 * marked as if its workflow ran.
 */
export type SeedStage = 'waiting' | 'due' | 'open';

export type SeededOrder = Pick<Order, 'orderNo' | 'userId' | 'idempotencyKey'>;

const SKU = 'unit';
/** Statements and scripts of some hundred kilobytes. */
const COPIES_AT_ONCE = 2_000;

/** KEYS: the first order's hash and idempotency entry, limits, deadlines, outbox. ARGV: see `copyInRedis`. */
const COPY_LUA = `
local first, firstIdem, limits, deadlines, outbox = unpack(KEYS)
local firstOrderNo, firstLimit, isWaiting = ARGV[1], ARGV[2], ARGV[3] == '1'
local bought, deadline = redis.call('HGET', limits, firstLimit), redis.call('ZSCORE', deadlines, firstOrderNo)
for i = 4, #ARGV, 6 do
  local orderNo, userId, idempotencyKey, order, idem, limit = unpack(ARGV, i, i + 5)
  redis.call('COPY', first, order)
  redis.call('HSET', order, 'user_id', userId, 'idempotency_key', idempotencyKey)
  redis.call('COPY', firstIdem, idem)
  redis.call('HSET', idem, 'order_no', orderNo)
  redis.call('HSET', limits, limit, bought)
  redis.call('ZADD', deadlines, deadline, orderNo)
  if isWaiting then
    redis.call('XADD', outbox, '*', 'order_no', orderNo)
  end
end`;

/**
 * No worker may run meanwhile, and the sale must have no orders yet.
 * @returns the orders, one unit of the SKU `unit` and a user of its own each
 */
export async function seedOrders(
  { redis, pool }: { redis: RedisClient; pool: Pool },
  saleId: string,
  count: number,
  stage: SeedStage,
): Promise<SeededOrder[]> {
  const first = await acceptFirst(redis, saleId);
  if (stage !== 'waiting') await storeFirst(redis, pool, first, stage);
  const copies = nameCopies(first, count - 1);
  for (let from = 0; from < copies.length; from += COPIES_AT_ONCE) {
    await copyInRedis(redis, first, copies.slice(from, from + COPIES_AT_ONCE), stage === 'waiting');
  }
  await moveStock(redis, saleId, copies.length);
  if (stage !== 'waiting') await copyInMysql(pool, first, copies);
  return [first, ...copies];
}

async function acceptFirst(redis: RedisClient, saleId: string): Promise<Order> {
  const reservations = createReservations(redis, { storesPerSecond: DEFAULT_STORES_PER_SECOND });
  const items = [{ sku: SKU, quantity: 1 }];
  const reserved = await reservations.reserve({
    saleId,
    ...nameOf(0),
    fingerprint: fingerprintOf({ saleId, items }),
    items,
    ip: '192.0.2.1',
    userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
  });
  assert(reserved.kind === 'reserved', `the first order was answered ${reserved.kind}`);
  const accepted = await reservations.readOrder(reserved.orderNo);
  assert(accepted);
  return accepted.order;
}

/** As the relay does, except that nothing starts the workflow. */
async function storeFirst(
  redis: RedisClient,
  pool: Pool,
  order: Order,
  stage: Exclude<SeedStage, 'waiting'>,
): Promise<void> {
  const presence = stage === 'open' ? 'started' : 'due';
  const outcomes = await mysqlStores(pool).orders.storeOrders([order], presence);
  const outcome = outcomes.get(order.orderNo);
  assert(outcome?.kind === 'stored');
  const reservations = createReservations(redis, { storesPerSecond: DEFAULT_STORES_PER_SECOND });
  await reservations.project(order.orderNo, outcome.state);
  await redis.xtrim(orderKeys(order.orderNo).outbox, 'MAXLEN', 0);
}

function nameOf(i: number): { userId: string; idempotencyKey: string } {
  return { userId: `seed-${i}`, idempotencyKey: `seed-key-${String(i).padStart(27, '0')}` };
}

function nameCopies(first: Order, count: number): SeededOrder[] {
  const parts = parseOrderNo(first.orderNo);
  assert(parts);
  const nextUlid = monotonicFactory();
  return Array.from({ length: count }, (_, i) => ({
    orderNo: formatOrderNo({ ...parts, ulid: nextUlid() }),
    ...nameOf(i + 1),
  }));
}

async function copyInRedis(
  redis: RedisClient,
  first: Order,
  copies: readonly SeededOrder[],
  isWaiting: boolean,
): Promise<void> {
  const keys = orderKeys(first.orderNo);
  const idem = ({ userId, idempotencyKey }: SeededOrder) => keys.idem(userId, idempotencyKey);
  const keysOfSale = saleKeys({ saleId: first.saleId, shard: 0 });
  const scriptKeys = [keys.order, idem(first), keys.limits, keys.deadlines, keys.outbox];
  const firstNames = [first.orderNo, `${SKU}:${first.userId}`, isWaiting ? '1' : '0'];
  const names = copies.flatMap((copy) => {
    const { orderNo, userId, idempotencyKey } = copy;
    return [orderNo, userId, idempotencyKey, keysOfSale.order(orderNo), idem(copy), `${SKU}:${userId}`];
  });
  await redis.eval(COPY_LUA, scriptKeys.length, ...scriptKeys, ...firstNames, ...names);
}

async function moveStock(redis: RedisClient, saleId: string, units: number): Promise<void> {
  const { stock } = saleKeys({ saleId, shard: 0 });
  await redis.hincrby(stock, `${SKU}:available`, -units);
  await redis.hincrby(stock, `${SKU}:held`, units);
}

/** Copies the first order's rows in all tables that have the number of an order. */
async function copyInMysql(pool: Pool, first: Order, copies: readonly SeededOrder[]): Promise<void> {
  // A temporary table belongs to its connection.
  const connection = await pool.getConnection();
  try {
    await writeNames(connection, copies);
    for (const [table, columns] of await readOrderTables(connection)) {
      const values = columns.map((column) => (NAMES.includes(column) ? `copies.${column}` : `t.${column}`));
      await connection.query(
        `INSERT INTO ${table} (${columns.join(', ')}) SELECT ${values.join(', ')} FROM copies CROSS JOIN ${table} t
         WHERE t.order_no = ? ORDER BY copies.order_no`,
        [first.orderNo],
      );
    }
    await connection.query('UPDATE skus SET held = held + ? WHERE sale_id = ? AND sku = ?', [
      copies.length,
      first.saleId,
      SKU,
    ]);
  } finally {
    connection.destroy();
  }
}

const NAMES = ['order_no', 'user_id', 'idempotency_key'];

async function writeNames(connection: PoolConnection, copies: readonly SeededOrder[]): Promise<void> {
  await connection.query(
    `CREATE TEMPORARY TABLE copies (order_no VARCHAR(80) NOT NULL PRIMARY KEY, user_id VARCHAR(128) NOT NULL,
     idempotency_key VARCHAR(128) NOT NULL) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
  );
  for (let from = 0; from < copies.length; from += COPIES_AT_ONCE) {
    const rows = copies
      .slice(from, from + COPIES_AT_ONCE)
      .map(({ orderNo, userId, idempotencyKey }) => [orderNo, userId, idempotencyKey]);
    await modify(connection, 'INSERT INTO copies (order_no, user_id, idempotency_key) VALUES ?', [rows]);
  }
}

/** Their columns but for those that MySQL fills. */
async function readOrderTables(connection: PoolConnection): Promise<Map<string, string[]>> {
  const rows = await selectRows(
    connection,
    z.object({ table_name: z.string(), column_name: z.string() }),
    `SELECT c.table_name AS table_name, c.column_name AS column_name FROM information_schema.columns c
     JOIN information_schema.columns o ON o.table_schema = c.table_schema AND o.table_name = c.table_name
       AND o.column_name = 'order_no'
     WHERE c.table_schema = DATABASE() AND c.extra NOT LIKE '%auto_increment%'`,
    [],
  );
  const tables = new Map<string, string[]>();
  for (const { table_name: table, column_name: column } of rows) {
    tables.set(table, [...(tables.get(table) ?? []), column]);
  }
  return tables;
}
