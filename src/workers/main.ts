/** The worker process: Temporal worker and relay on one connection. */

import { Client } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import type { Logger } from 'pino';
import { createActivities } from '../activities/index.ts';
import { loadWorkerConfig, type WorkerConfig } from '../config.ts';
import { createOrderEngine } from '../engine/order-engine.ts';
import { openProvider } from '../payments/open.ts';
import { runProcess } from '../process.ts';
import { openStores, type Stores } from '../stores/open.ts';
import { TASK_QUEUE } from '../workflows/contract.ts';
import { runRelay } from './relay.ts';

/** A step takes at most its own timeout of ten seconds; what is not done by then is repeated elsewhere. */
const SHUTDOWN_GRACE_MS = 10_000;
const SHUTDOWN_FORCE_MS = 15_000;
/** About 600 open orders fit a GB of cache; more are replayed when they wake, from histories of a dozen events. */
const CACHED_WORKFLOWS_MAX = 600;

await runProcess('worker', loadWorkerConfig, startWorker);

async function startWorker(config: WorkerConfig, log: Logger) {
  installRuntime(log);
  const stores = await openStores(config, log);
  const connection = await connectTemporal(config);
  const provider = openProvider(config);
  const worker = await Worker.create({
    ...workerOptions(config, connection),
    activities: createActivities({ ...stores, provider }),
  });
  const client = new Client({ connection, namespace: worker.options.namespace });
  const stopRelay = new AbortController();
  const relay = runRelay(relayDeps(stores, client, log), stopRelay.signal);
  const running = worker.run();
  log.info({ taskQueue: TASK_QUEUE }, 'worker ready');
  return {
    /** Settles when the worker ends, by itself only when it fails. */
    ended: Promise.all([running, relay]),
    async stop() {
      // First take nothing new on, then finish what is in hand, then close.
      stopRelay.abort();
      await relay;
      worker.shutdown();
      await running;
      await connection.close();
      await stores.close();
    },
  };
}

function workerOptions(config: WorkerConfig, connection: NativeConnection): WorkerOptions {
  return {
    connection,
    namespace: config.temporal.namespace ?? 'default',
    taskQueue: TASK_QUEUE,
    workflowBundle: { codePath: config.WORKFLOW_BUNDLE },
    maxCachedWorkflows: CACHED_WORKFLOWS_MAX,
    workflowTaskPollerBehavior: { type: 'autoscaling' },
    shutdownGraceTime: SHUTDOWN_GRACE_MS,
    shutdownForceTime: SHUTDOWN_FORCE_MS,
  };
}

/** The SDK's own lines, those that matter, in the same log. */
function installRuntime(log: Logger): void {
  const logger = new DefaultLogger('WARN', ({ level, message, meta }) => {
    if (level === 'ERROR') log.error(meta, message);
    else log.warn(meta, message);
  });
  Runtime.install({ logger });
}

function connectTemporal({ temporal }: WorkerConfig): Promise<NativeConnection> {
  return NativeConnection.connect({ ...temporal.connectionOptions });
}

function relayDeps(stores: Stores, client: Client, log: Logger) {
  return { ...stores, engine: createOrderEngine(client), log };
}
