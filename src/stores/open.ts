/** Opens all stores of a process over one Redis client and one MySQL pool. */

import type { Logger } from 'pino';
import { createEngineBudget } from './engine-budget.ts';
import { createMysqlPool } from './mysql.ts';
import { createOrders } from './orders.ts';
import { createPayments } from './payments.ts';
import { assertNoEviction, connectRedis } from './redis.ts';
import { createRefunds } from './refunds.ts';
import { createReservations } from './reservations.ts';
import { createSaleStock } from './sale-stock.ts';
import { createSales } from './sales.ts';

export interface StoreConfig {
  REDIS_URL: readonly string[];
  MYSQL_URL: string;
  /** Orders and signals in flight in Temporal, all processes together. */
  ENGINE_BUDGET: number;
  /** Orders the engine can start per second, all workers together. */
  ENGINE_STARTS_PER_SECOND: number;
}

export type Stores = Awaited<ReturnType<typeof openStores>>;

/** @throws when Redis is not reachable or might evict; MySQL may be away, its statements then fail one by one */
export async function openStores(config: StoreConfig, log: Logger) {
  const redis = await connectRedis(config.REDIS_URL, log);
  await assertNoEviction(redis);
  const pool = createMysqlPool(config.MYSQL_URL);
  return {
    redis,
    pool,
    /** A connection of its own for reads that block. */
    connectBlocking: () => connectRedis(config.REDIS_URL, log, null),
    reservations: createReservations(redis, { startsPerSecond: config.ENGINE_STARTS_PER_SECOND }),
    saleStock: createSaleStock(redis),
    budget: createEngineBudget(redis, config.ENGINE_BUDGET),
    orders: createOrders(pool),
    payments: createPayments(pool),
    refunds: createRefunds(pool),
    sales: createSales(pool),
    async close(): Promise<void> {
      redis.disconnect();
      await pool.end();
    },
  };
}
