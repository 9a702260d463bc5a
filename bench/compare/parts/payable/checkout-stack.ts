/** The servers of the parts that measure storing, and what gives each contestant an empty sale of its own. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { modify } from '../../../../src/mysql/connection.ts';
import { mysqlStores } from '../../../../src/stores/bound.ts';
import type { Stores } from '../../../../src/stores/open.ts';
import { startProvider } from '../../../../stack/app.ts';
import { openBenchServers, type BenchServers } from '../../../servers.ts';

/** Bounds a hang. */
const DRAIN_TIMEOUT_MS = 5 * 60_000;
/** A look is one row by its key. */
const LOOK_EVERY_MS = 20;
const TERMINATED_AT_ONCE = 50;

export interface CheckoutStack extends Pick<BenchServers, 'processes' | 'servers' | 'redis' | 'pool'> {
  client: Client;
  /** Of an API or a worker. */
  env: BenchServers['appEnv'];
  apiUrl: string;
  openSale: BenchServers['openSale'];
  /** Resolves when so many units of the sale are held in MySQL, which the orders' transactions book. */
  untilHeld(saleId: string, units: number): Promise<void>;
  /** With the worker ended: the next contestant finds empty tables, an empty Redis, and an idle engine. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

/** Redis, MySQL, Temporal and the payment provider; the caller starts the API and the worker. */
export async function openCheckoutStack(
  progress: (line: string) => void,
  options: { binaryLog?: boolean } = {},
): Promise<CheckoutStack> {
  const bench = await openBenchServers(progress, options);
  try {
    return await openOn(bench);
  } catch (error) {
    await bench.close();
    throw error;
  }
}

async function openOn(bench: BenchServers): Promise<CheckoutStack> {
  const { processes, servers, redis, pool, appEnv: env } = bench;
  const { API_PORT: apiPort, PAYMENT_PROVIDER_URL: providerUrl } = env;
  assert(apiPort !== undefined && providerUrl !== undefined);
  const apiUrl = `http://127.0.0.1:${apiPort}`;
  await startProvider(processes, { apiUrl, providerUrl });
  const connection = await Connection.connect({ address: servers.temporalAddress });
  const client = new Client({ connection });
  const { sales } = mysqlStores(pool);
  return {
    client,
    processes,
    servers,
    redis,
    pool,
    env,
    apiUrl,
    openSale: bench.openSale,
    untilHeld: (saleId, units) => untilHeld(sales, saleId, units),
    async clear() {
      await terminateAll(client);
      for (const table of ['orders', 'order_items', 'order_events', 'stock_ledger']) {
        await modify(pool, `TRUNCATE TABLE ${table}`);
      }
      await bench.clearRedis();
    },
    async close() {
      await connection.close();
      await bench.close();
    },
  };
}

async function untilHeld(sales: Stores['sales'], saleId: string, units: number): Promise<void> {
  const endMs = performance.now() + DRAIN_TIMEOUT_MS;
  for (;;) {
    const held = (await sales.readStock(saleId))[0]?.held;
    if (held === units) return;
    assert(performance.now() < endMs, `${held} of ${units} orders are stored`);
    await delay(LOOK_EVERY_MS);
  }
}

/** A workflow that is left would insert its order again, for the next worker to go on with. */
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
