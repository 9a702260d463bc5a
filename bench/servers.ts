/**
 * Real servers in a temporary folder for measurements that start and stop their processes themselves.
 * Everything ends with `close`, and with a Ctrl-C.
 */

import { join } from 'node:path';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { createMysqlPool, type Pool } from '../src/mysql/connection.ts';
import { migrate } from '../src/mysql/migrate.ts';
import { connectRedis, type RedisClient } from '../src/redis/connection.ts';
import { DEFAULT_PAYMENT_WINDOW_MS } from '../src/sales/sale.ts';
import { mysqlStores } from '../src/stores/bound.ts';
import { redisStores } from '../src/stores/bound.ts';
import { appEnv, findAppUrls, type AppEnv } from '../stack/app.ts';
import { repoDir } from '../stack/install/repo-dir.ts';
import { canConnect, findFreePort } from '../stack/processes/ports.ts';
import type { Processes } from '../stack/processes/processes.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import { launchServers, type Servers } from '../stack/servers/servers.ts';
import { ANY_PACE, openSale } from './checkout.ts';
import { openBenchFolder } from './folder.ts';

const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 5_000;
const REWRITE_TIMEOUT_MS = 30_000;

/** Servers of others, which `npm start` and the like would use. */
const GIVEN = ['REDIS_URL', 'MYSQL_URL', 'TEMPORAL_ADDRESS'];

/**
 * As by default: a trial reconciles six times as often, for whoever plays with it, and walks through all that
 * is open each time.
 */
export const USUAL_SETTINGS = { RECONCILE_EVERY_SECONDS: '60' };

export interface BenchServers {
  processes: Processes;
  servers: Servers;
  /** For measurements; the processes have their own. */
  redis: RedisClient;
  pool: Pool;
  /** The environment of an API, a worker, or a server of `startServer`. */
  appEnv: AppEnv;
  /**
   * Opens a sale of one SKU, `unit`, at 10.00.
   * @param windowMs to pay; absent: the default
   */
  openSale(units: number, windowMs?: number): Promise<string>;
  /** Starts a compiled script below dist/bench that listens on `PORT`. @returns its address */
  startServer(name: string, script: string, env: AppEnv): Promise<string>;
  /**
   * Empties Redis, and its append-only file with it, so that no rewrite of the file meets a measurement.
   */
  clearRedis(): Promise<void>;
  /** Ends everything at once: nothing here is worth an orderly stop. */
  close(): Promise<void>;
}

/** @param binaryLog MySQL writes one, as in production; no figure of the comparison has it */
export async function openBenchServers(
  progress: (line: string) => void,
  { binaryLog = false } = {},
): Promise<BenchServers> {
  const given = GIVEN.find((variable) => process.env[variable]);
  if (given !== undefined) throw new Error(`The comparison empties and freezes its servers: unset ${given}.`);
  const folder = await openBenchFolder(progress);
  const { processes } = folder;
  const stop = async (): Promise<void> => {
    for (const name of processes.names().toReversed()) await processes.kill(name);
    await folder.close();
  };
  try {
    const servers = await launchServers(processes, { fresh: true, binaryLog, progress });
    const urls = await findAppUrls();
    const { redisUrl, mysqlUrl } = servers;
    const log = pino({ level: 'silent' });
    const pool = createMysqlPool(mysqlUrl);
    await migrate(pool, log);
    const redis = await connectRedis(redisUrl.split(','), log);
    const [sales, saleStock] = [mysqlStores(pool).sales, redisStores(redis).saleStock];
    return {
      processes,
      servers,
      redis,
      pool,
      appEnv: { ...appEnv({ servers, urls }), ...USUAL_SETTINGS, ...ANY_PACE },
      openSale: (units, windowMs = DEFAULT_PAYMENT_WINDOW_MS) => openSale(sales, saleStock, units, windowMs),
      startServer(name, script, env) {
        // The servers' own accounts: other designs have scripts and tables that ours has no rights for.
        const accounts = { REDIS_URL: redisUrl, MYSQL_URL: mysqlUrl };
        return startServer(processes, { name, script, env: { ...env, ...accounts } });
      },
      async clearRedis() {
        await clearRedis(redisUrl);
        // It is the same Redis on purpose: what starts next does not wait until the former is gone.
        await pool.query('UPDATE deployment SET redis_id = NULL, redis_seen_at = NULL');
      },
      async close() {
        redis.disconnect();
        await pool.end();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startServer(
  processes: Processes,
  { name, script, env }: { name: string; script: string; env: AppEnv },
): Promise<string> {
  const port = await findFreePort();
  const path = join(repoDir, 'dist', 'bench', script);
  await processes.start({
    name,
    command: process.execPath,
    // As the API is started.
    args: ['--enable-source-maps', path, name],
    env: { ...process.env, ...env, PORT: String(port), API_PORT: String(port) },
    cwd: repoDir,
    marker: `${path} ${name}`,
    isReady: () => canConnect('127.0.0.1', port),
    readyTimeoutMs: READY_TIMEOUT_MS,
    stopTimeoutMs: STOP_TIMEOUT_MS,
  });
  return `http://127.0.0.1:${port}`;
}

async function clearRedis(url: string): Promise<void> {
  const redis = new Redis(url);
  try {
    await redis.flushall();
    await redis.bgrewriteaof();
    await waitUntil({
      what: 'Redis to have rewritten its append-only file',
      timeoutMs: REWRITE_TIMEOUT_MS,
      check: async () =>
        /aof_rewrite_in_progress:0\s[^]*aof_rewrite_scheduled:0/.test(await redis.info('persistence')),
    });
  } finally {
    redis.disconnect();
  }
}
