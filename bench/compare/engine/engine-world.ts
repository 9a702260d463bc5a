/** Real servers, and Temporal workers in this process, to measure whole lives of orders in the engine. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, type WorkflowBundleOption } from '@temporalio/worker';
import { pino } from 'pino';
import { ulid } from 'ulidx';
import type { Activities } from '../../../src/activities/index.ts';
import { DEFAULT_STORES_PER_SECOND } from '../../../src/config.ts';
import type { OrderEngine } from '../../../src/engine/order-engine.ts';
import { createWorkerMetrics } from '../../../src/metrics.ts';
import { openStores, type Stores } from '../../../src/stores/open.ts';
import { createOrderWorker } from '../../../src/workers/order-worker.ts';
import { prepareDemo } from '../../../stack/demo-sale.ts';
import { launchServers, openDataDir } from '../../../stack/servers/servers.ts';

/** As in src/config.ts. */
export const ENGINE_BUDGET = 40;
const WINDOW_MS = 30 * 60_000;
const HOUR_MS = 60 * 60_000;

export interface RunningWorker {
  client: Client;
  engine: OrderEngine;
  stop(): Promise<void>;
}

export interface EngineWorld {
  stores: Stores;
  /** Milliseconds of processor time so far, by process. */
  readCpuMs(): Record<string, number>;
  /** A worker with the options of the shipped one, whatever workflows and activities it has. */
  startWorker(parts: {
    workflowBundle: WorkflowBundleOption;
    activities: Activities;
    releaseSlot?: (orderNo: string) => void;
  }): Promise<RunningWorker>;
  /** Opens a sale of one SKU, `unit`, at 10.00. */
  openSale(units: number): Promise<string>;
  close(): Promise<void>;
}

export async function openEngineWorld(progress: (line: string) => void): Promise<EngineWorld> {
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
  const onCrash = (crash: Error): void => console.error(crash.message);
  const processes = await openDataDir({ dataDir, fresh: true, progress, onCrash });
  // A measurement that is broken off leaves no server behind.
  const killAll = (): void => processes.killAllNow();
  process.once('exit', killAll);
  const servers = await launchServers(processes, { fresh: true, progress });
  await prepareDemo({ redisUrl: servers.redisUrl, mysqlUrl: servers.mysqlUrl, progress });
  const stores = await openStores(
    {
      REDIS_URL: servers.redisUrl.split(','),
      MYSQL_URL: servers.mysqlUrl,
      ENGINE_BUDGET,
      MYSQL_STORES_PER_SECOND: DEFAULT_STORES_PER_SECOND,
    },
    pino({ level: 'silent' }),
  );
  // A signal ends the process; a worker that stopped on its own would leave the measurement waiting.
  Runtime.install({ logger: new DefaultLogger('WARN'), shutdownSignals: [] });

  return {
    stores,
    readCpuMs: () => ({
      worker: cpuMsOf(process.pid),
      temporal: cpuMsOf(processes.pid('temporal')),
      mysql: cpuMsOf(processes.pid('mysql')),
      redis: cpuMsOf(processes.pid('redis')),
    }),

    async startWorker({ workflowBundle, activities, releaseSlot }) {
      const connection = await NativeConnection.connect({ address: servers.temporalAddress });
      const { worker, engine } = await createOrderWorker({
        connection,
        namespace: 'default',
        workflowBundle,
        activities,
        budget: {
          async release(orderNos) {
            await stores.budget.release(orderNos);
            for (const orderNo of orderNos) releaseSlot?.(orderNo);
          },
        },
        parkedWork: stores.parkedWork,
        metrics: createWorkerMetrics(),
        version: undefined,
      });
      const ended = worker.run();
      return {
        client: new Client({ connection, namespace: 'default' }),
        engine,
        async stop() {
          worker.shutdown();
          await ended;
          await connection.close();
        },
      };
    },

    async openSale(units) {
      const saleId = `bench-${ulid().toLowerCase()}`;
      await stores.sales.create({
        saleId,
        name: 'Bench',
        currency: 'EUR',
        opensAtMs: Date.now() - 1000,
        closesAtMs: Date.now() + HOUR_MS,
        paused: false,
        paymentWindowMs: WINDOW_MS,
        refundRestoresLimit: true,
        limitPerUser: null,
        maxUnpaidHolds: null,
        addressPurchasesPerMinute: null,
        ticketRequired: false,
        skus: [{ sku: 'unit', name: 'Unit', unitPrice: 1_000, total: units, limitPerUser: null }],
      });
      await stores.sales.warmUp(saleId, stores.saleStock);
      return saleId;
    },

    async close() {
      await stores.close();
      await processes.stopAll();
      process.off('exit', killAll);
      rmSync(dataDir, { recursive: true, force: true, maxRetries: 10 });
    },
  };
}

/** User and system time; /proc counts both in hundredths of a second. */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
