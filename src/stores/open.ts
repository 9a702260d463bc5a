/** Opens `Stores`: all that a process does with Redis and MySQL, over one client and one pool. */

import type { Logger } from 'pino';
import { DEFAULT_DEPLOYMENT_NAME, type TOOL_WAITS } from '../limits.ts';
import { createPaymentAttempts } from '../money/attempts.redis.ts';
import { createMysqlPool } from '../mysql/connection.ts';
import { createCaughtUpOrders } from '../orders/caught-up-orders.ts';
import { createReservations } from '../orders/reservations.redis.ts';
import { createProviderPace } from '../providers/pace.redis.ts';
import { createEngineBudget } from '../redis/budget.ts';
import { assertNoEviction, connectRedis } from '../redis/connection.ts';
import { openTracing, type TracingConfig } from '../tracing.ts';
import { mysqlStores, redisStores } from './bound.ts';
import { createDeploymentStores } from './deployment.ts';

export interface StoreConfig extends TracingConfig {
  REDIS_URL: readonly string[];
  REDIS_KEY_PREFIX?: string | undefined;
  MYSQL_URL: string;
  MYSQL_CONNECTIONS?: number | undefined;
  DEPLOYMENT_NAME?: string | undefined;
  /** Orders and signals in flight in Temporal, over all processes. */
  ENGINE_BUDGET: number;
  /** Orders that MySQL stores per second, over all workers. */
  MYSQL_STORES_PER_SECOND: number;
}

export type Stores = Awaited<ReturnType<typeof openStores>>;

/** How long a process waits for each store. */
type StoreWaits = Pick<typeof TOOL_WAITS, 'redis' | 'mysql'>;

/**
 * @param waits of a tool; a shopper's unless given
 * @throws when Redis is unreachable or might evict keys; while MySQL is away, each of its statements fails
 */
export async function openStores(config: StoreConfig, log: Logger, waits?: StoreWaits) {
  const keyPrefix = config.REDIS_KEY_PREFIX;
  const redisWaits = waits && { waits: waits.redis };
  const redis = await connectRedis(config.REDIS_URL, log, { keyPrefix, ...redisWaits });
  try {
    await assertNoEviction(redis);
  } catch (error) {
    redis.disconnect();
    throw error;
  }
  const pool = createMysqlPool(config.MYSQL_URL, config.MYSQL_CONNECTIONS, waits?.mysql);
  const reservations = createReservations(redis, { storesPerSecond: config.MYSQL_STORES_PER_SECOND });
  const ofRedis = redisStores(redis);
  const mysql = mysqlStores(pool);
  const tracing = await openTracing(
    config,
    log,
    async (orderNo) => (await mysql.orders.read(orderNo))?.order,
  );
  return {
    log,
    /** Undefined: there are no traces. */
    tracing,
    redis,
    pool,
    /** Whose stores these are. */
    deployment: createDeploymentStores({
      redis,
      pool,
      name: config.DEPLOYMENT_NAME ?? DEFAULT_DEPLOYMENT_NAME,
      log,
    }),
    /** Opens a separate connection, for reads that block. */
    connectBlocking: () => connectRedis(config.REDIS_URL, log, { keyPrefix, isBlocking: true }),
    reservations,
    ...ofRedis,
    paymentAttempts: createPaymentAttempts(redis),
    /** Counts the calls of all processes to the payment provider. */
    providerPace: (callsPerSecond: number) => createProviderPace(redis, callsPerSecond),
    budget: createEngineBudget(redis, config.ENGINE_BUDGET, log),
    ...mysql,
    orders: createCaughtUpOrders(mysql.orders, {
      reservations,
      ...ofRedis,
      saleChanges: mysql.saleChanges,
      log,
    }),
    async close(): Promise<void> {
      // What is written late asks MySQL whose it is.
      await tracing?.close();
      redis.disconnect();
      await pool.end();
    },
  };
}
