/** The servers of the parts that measure storing, and what gives each contestant an empty sale of its own. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { ulid } from 'ulidx';
import { createMysqlPool, modify, type Pool } from '../../../../src/stores/mysql/connection.ts';
import { createSales, type Sales } from '../../../../src/stores/mysql/sales.ts';
import { connectRedis, type RedisClient } from '../../../../src/stores/redis/connection.ts';
import { createSaleStock } from '../../../../src/stores/redis/sale-stock.ts';
import { appEnv, findAppUrls, startProvider, type AppEnv, type AppUrls } from '../../../../stack/app.ts';
import { prepareDemo } from '../../../../stack/demo-sale.ts';
import type { Processes } from '../../../../stack/processes/processes.ts';
import { waitUntil } from '../../../../stack/processes/wait.ts';
import { launchServers, openDataDir, type Servers } from '../../../../stack/servers/servers.ts';
import { SKU } from '../../../peers/orders.ts';

/** So long that a third of it is enough for the engine, whatever waits. */
const WINDOW_MS = 24 * 60 * 60_000;
const HOUR_MS = 60 * 60_000;
/** Bounds a hang. */
const DRAIN_TIMEOUT_MS = 5 * 60_000;
const REWRITE_TIMEOUT_MS = 60_000;
/** A look is one row by its key. */
const LOOK_EVERY_MS = 20;
const TERMINATED_AT_ONCE = 50;

export interface CheckoutStack {
  processes: Processes;
  servers: Servers;
  urls: AppUrls;
  env: AppEnv;
  pool: Pool;
  redis: RedisClient;
  openSale(units: number): Promise<string>;
  /** Resolves when so many units of the sale are held in MySQL, which the orders' transactions book. */
  untilHeld(saleId: string, units: number): Promise<void>;
  /** With the worker ended: the next contestant finds empty tables, an empty Redis, and an idle engine. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

export async function openCheckoutStack(progress: (line: string) => void): Promise<CheckoutStack> {
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
  const onCrash = (crash: Error): void => console.error(crash.message);
  const processes = await openDataDir({ dataDir, fresh: true, progress, onCrash });
  const removeData = (): void => rmSync(dataDir, { recursive: true, force: true, maxRetries: 10 });
  const stopOnSignal = (): void => {
    processes.killAllNow();
    removeData();
    process.exit(130);
  };
  process.on('SIGINT', stopOnSignal).on('SIGTERM', stopOnSignal);
  const stop = async (): Promise<void> => {
    await processes.stopAll();
    removeData();
    process.off('SIGINT', stopOnSignal).off('SIGTERM', stopOnSignal);
  };
  try {
    return await openOn(processes, progress, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

async function openOn(
  processes: Processes,
  progress: (line: string) => void,
  stop: () => Promise<void>,
): Promise<CheckoutStack> {
  const servers = await launchServers(processes, { fresh: true, progress });
  const { redisUrl, mysqlUrl, temporalAddress } = servers;
  await prepareDemo({ redisUrl, mysqlUrl, progress });
  const urls = await findAppUrls();
  await startProvider(processes, urls);
  const pool = createMysqlPool(mysqlUrl);
  const redis = await connectRedis(redisUrl.split(','), pino({ level: 'silent' }));
  const connection = await Connection.connect({ address: temporalAddress });
  const client = new Client({ connection });
  const sales = createSales(pool);
  return {
    processes,
    servers,
    urls,
    env: appEnv({ servers, urls }),
    pool,
    redis,
    openSale: (units) => openSale(sales, redis, units),
    untilHeld: (saleId, units) => untilHeld(sales, saleId, units),
    async clear() {
      await terminateAll(client);
      for (const table of ['orders', 'order_items', 'order_events', 'stock_ledger']) {
        await modify(pool, `TRUNCATE TABLE ${table}`);
      }
      await emptyRedis(redis);
    },
    async close() {
      redis.disconnect();
      await pool.end();
      await connection.close();
      await stop();
    },
  };
}

async function openSale(sales: Sales, redis: RedisClient, units: number): Promise<string> {
  const saleId = `bench-${ulid().toLowerCase()}`;
  await sales.create({
    saleId,
    name: 'Bench',
    currency: 'EUR',
    opensAtMs: Date.now() - 1_000,
    closesAtMs: Date.now() + HOUR_MS,
    paused: false,
    paymentWindowMs: WINDOW_MS,
    refundRestoresLimit: true,
    skus: [{ sku: SKU, name: 'Unit', unitPrice: 1_000, total: units, limitPerUser: null }],
  });
  await sales.warmUp(saleId, createSaleStock(redis));
  return saleId;
}

async function untilHeld(sales: Sales, saleId: string, units: number): Promise<void> {
  const endMs = performance.now() + DRAIN_TIMEOUT_MS;
  for (;;) {
    const held = (await sales.readStock(saleId))[0]?.held;
    if (held === units) return;
    assert(performance.now() < endMs, `${held} of ${units} orders are stored`);
    await delay(LOOK_EVERY_MS);
  }
}

/** A workflow that were left would insert its order again, for the next worker to go on with. */
async function terminateAll(client: Client): Promise<void> {
  for (;;) {
    const ids: string[] = [];
    const running = client.workflow.list({ query: "ExecutionStatus = 'Running'" });
    for await (const { workflowId } of running) ids.push(workflowId);
    if (ids.length === 0) return;
    for (let from = 0; from < ids.length; from += TERMINATED_AT_ONCE) {
      const some = ids.slice(from, from + TERMINATED_AT_ONCE);
      // One that has ended meanwhile is no failure: the next list shows it.
      await Promise.allSettled(some.map((id) => client.workflow.getHandle(id).terminate()));
    }
  }
}

/** With its file rewritten, so that no rewrite falls into a measurement. */
async function emptyRedis(redis: RedisClient): Promise<void> {
  await redis.flushall();
  await redis.bgrewriteaof();
  await waitUntil({
    what: 'Redis to rewrite its file',
    timeoutMs: REWRITE_TIMEOUT_MS,
    check: async () => !/aof_rewrite_(in_progress|scheduled):1/.test(await redis.info('persistence')),
  });
}
