/**
 * A checkout with seeded orders: servers of its own, which stay, and an API and a worker, which start anew
 * for each measurement, so that each measures the same.
 */

import { pino } from 'pino';
import { createMysqlPool, type Pool } from '../../../src/mysql/connection.ts';
import { connectRedis, type RedisClient } from '../../../src/redis/connection.ts';
import { mysqlStores } from '../../../src/stores/bound.ts';
import { redisStores } from '../../../src/stores/bound.ts';
import {
  appEnv,
  findAppUrls,
  startApi,
  startProvider,
  startWorker,
  type AppUrls,
} from '../../../stack/app.ts';
import { prepareDemo } from '../../../stack/demo-sale.ts';
import type { Processes } from '../../../stack/processes/processes.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import { launchServers, type Servers } from '../../../stack/servers/servers.ts';
import { ANY_PACE } from '../../checkout.ts';
import { openBenchFolder } from '../../folder.ts';
import { liftedWindowMs } from '../../lifted-bound.ts';
import { USUAL_SETTINGS } from '../../servers.ts';
import { seedOrders, type SeededOrder, type SeedStage } from './seed-orders.ts';

const SALE_ID = 'growth';
/** More than any load sells. */
const UNITS = 5_000_000;
const HOUR_MS = 60 * 60_000;
/** Long enough that no deadline passes meanwhile. */
const WINDOW_MS = 24 * HOUR_MS;
const REWRITE_TIMEOUT_MS = 60_000;

export interface Shop {
  saleId: string;
  seeded: readonly SeededOrder[];
  redis: RedisClient;
  pool: Pool;
  pid(name: 'api' | 'worker'): number;
  /** Starts the sandbox provider, the API and a worker. */
  open(): Promise<AppUrls>;
  startWorker(): Promise<void>;
  /** Ends what runs of them. */
  shut(): Promise<void>;
  close(): Promise<void>;
}

interface ShopOptions {
  orders: number;
  stage: SeedStage;
  /** Orders that Temporal works on at once; absent: as shipped. */
  engineBudget?: number;
  progress: (line: string) => void;
}

export async function openShop(options: ShopOptions): Promise<Shop> {
  const { orders, stage, progress } = options;
  const folder = await openBenchFolder(progress);
  const { processes } = folder;
  try {
    const servers = await launchServers(processes, { fresh: true, progress: () => {} });
    await prepareDemo({ ...servers, progress: () => {} });
    const redis = await connectRedis([servers.redisUrl], pino({ level: 'silent' }));
    const startedMs = performance.now();
    const seeded = await seedSale(servers, redis, options);
    await settle(processes, redis);
    const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
    progress(`${orders.toLocaleString('en')} orders ${stage} after ${seconds} s`);
    const pool = createMysqlPool(servers.mysqlUrl);
    return {
      saleId: SALE_ID,
      seeded,
      redis,
      pool,
      pid: processes.pid,
      ...createRunner(processes, servers, options),
      async close() {
        redis.disconnect();
        await pool.end();
        await folder.close();
      },
    };
  } catch (error) {
    await folder.close();
    throw error;
  }
}

function createRunner(processes: Processes, servers: Servers, { engineBudget }: ShopOptions) {
  const envOf = (urls: AppUrls) => ({
    ...appEnv({ servers, urls }),
    ...USUAL_SETTINGS,
    ...ANY_PACE,
    ...(engineBudget === undefined ? {} : { ENGINE_BUDGET: String(engineBudget) }),
  });

  return {
    async open(): Promise<AppUrls> {
      const urls = await findAppUrls();
      const env = envOf(urls);
      await startProvider(processes, urls);
      await startApi(processes, { name: 'api', env });
      await startWorker(processes, { name: 'worker', env });
      return urls;
    },
    async startWorker(): Promise<void> {
      await startWorker(processes, { name: 'worker', env: envOf(await findAppUrls()) });
    },
    async shut(): Promise<void> {
      for (const name of ['worker', 'api', 'provider']) {
        if (processes.names().includes(name)) await processes.stop(name);
      }
    },
  };
}

/** The pool that seeds does not outlive the restart of MySQL. */
async function seedSale(
  { mysqlUrl }: Servers,
  redis: RedisClient,
  { orders, stage }: ShopOptions,
): Promise<SeededOrder[]> {
  const pool = createMysqlPool(mysqlUrl);
  try {
    await openSale(pool, redis, stage);
    return orders === 0 ? [] : await seedOrders({ redis, pool }, SALE_ID, orders, stage);
  } finally {
    await pool.end();
  }
}

/**
 * Has the stores write down what the seed left in their memory: a sale takes its orders over minutes, and
 * what so many at once leave behind would slow the first measurements of a large shop alone.
 */
async function settle(processes: Processes, redis: RedisClient): Promise<void> {
  // A clean shutdown writes all changed pages.
  await processes.restart('mysql');
  // It may have begun to rewrite its file by itself.
  await waitUntilRewritten(redis);
  await redis.bgrewriteaof();
  await waitUntilRewritten(redis);
}

function waitUntilRewritten(redis: RedisClient): Promise<void> {
  return waitUntil({
    what: 'Redis to rewrite its file',
    timeoutMs: REWRITE_TIMEOUT_MS,
    check: async () => {
      const info = await redis.info('persistence');
      return info.includes('aof_rewrite_in_progress:0') && info.includes('aof_rewrite_scheduled:0');
    },
  });
}

async function openSale(pool: Pool, redis: RedisClient, stage: SeedStage): Promise<void> {
  const { sales } = mysqlStores(pool);
  await sales.create({
    saleId: SALE_ID,
    name: 'Growth',
    currency: 'EUR',
    opensAtMs: Date.now() - 1_000,
    closesAtMs: Date.now() + HOUR_MS,
    paused: false,
    // Of those that wait there are more than may.
    paymentWindowMs: stage === 'waiting' ? liftedWindowMs() : WINDOW_MS,
    refundRestoresLimit: true,
    limitPerUser: null,
    maxUnpaidHolds: null,
    addressPurchasesPerMinute: null,
    ticketRequired: false,
    skus: [{ sku: 'unit', name: 'Unit', unitPrice: 1_000, total: UNITS, limitPerUser: null }],
  });
  await sales.warmUp(SALE_ID, redisStores(redis).saleStock);
}
