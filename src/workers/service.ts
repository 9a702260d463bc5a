/** Relay and Temporal worker over given stores, the latter as soon as Temporal can be reached. */

import { Client } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import type { Logger } from 'pino';
import { createActivities } from '../activities/index.ts';
import type { WorkerConfig } from '../config.ts';
import { createOrderEngine } from '../engine/order-engine.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import type { Service } from '../process.ts';
import type { Stores } from '../stores/open.ts';
import { searchAttributes, TASK_QUEUE } from '../workflows/contract.ts';
import { createLateEngine } from './late-engine.ts';
import { runLoop } from './loop.ts';
import { runRelay } from './relay.ts';

/** A step takes at most its own timeout of ten seconds; what is not done by then is repeated elsewhere. */
const SHUTDOWN_GRACE_MS = 10_000;
const SHUTDOWN_FORCE_MS = 15_000;
/** About 600 open orders fit a GB of cache; more are replayed when they wake, from histories of a dozen events. */
const CACHED_WORKFLOWS_MAX = 600;

export interface WorkerParts {
  stores: Stores;
  provider: PaymentProvider;
  log: Logger;
}

/** The stores are closed with the service. */
export function startWorker(config: WorkerConfig, parts: WorkerParts): Service {
  installRuntime(parts.log);
  const stopping = new AbortController();
  const ended = runUntilStopped(config, parts, stopping.signal);
  return {
    ended,
    async stop() {
      stopping.abort();
      await ended;
      await parts.stores.close();
    },
  };
}

/** First nothing new is taken on, then what is in hand is finished, then the connection is closed. */
async function runUntilStopped(
  config: WorkerConfig,
  { stores, provider, log }: WorkerParts,
  signal: AbortSignal,
): Promise<void> {
  const late = createLateEngine();
  const relay = runRelay({ ...stores, engine: late.engine, log }, signal);
  const connection = await connectTemporal(config, log, signal);
  if (!connection) return relay;
  try {
    await assertSearchAttributes(connection, config.temporal.namespace ?? 'default', log);
    const activities = createActivities({ ...stores, provider });
    const worker = await Worker.create({ ...workerOptions(config, connection), activities });
    late.connect(createOrderEngine(new Client({ connection, namespace: worker.options.namespace })));
    log.info({ taskQueue: TASK_QUEUE }, 'worker ready');
    await worker.runUntil(relay);
  } finally {
    await connection.close();
  }
}

/** Tries until Temporal is there; undefined when we are stopped before. */
async function connectTemporal(
  { temporal }: WorkerConfig,
  log: Logger,
  signal: AbortSignal,
): Promise<NativeConnection | undefined> {
  const reached = new AbortController();
  let connection: NativeConnection | undefined;
  const connect = async () => {
    connection = await NativeConnection.connect(temporal.connectionOptions);
    reached.abort();
    return 0;
  };
  await runLoop('temporal', connect, { log, signal: AbortSignal.any([signal, reached.signal]) });
  return connection;
}

/**
 * Without them every start would be refused, while orders are sold and paid.
 * @throws when the namespace lacks one; not when it may not be asked, as in Temporal Cloud
 */
async function assertSearchAttributes(
  connection: NativeConnection,
  namespace: string,
  log: Logger,
): Promise<void> {
  const known = await connection.operatorService
    .listSearchAttributes({ namespace })
    .catch((error: unknown) => {
      log.warn({ err: error }, 'the search attributes cannot be checked');
    });
  const missing = Object.values(searchAttributes).filter(
    ({ name }) => known && !known.customAttributes?.[name],
  );
  if (missing.length === 0) return;
  const flags = missing.map(({ name }) => `--name ${name} --type Keyword`).join(' ');
  const command = `temporal operator search-attribute create --namespace ${namespace} ${flags}`;
  throw new Error(`Temporal's namespace lacks search attributes: run \`${command}\``);
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

/** The SDK's own lines, those that matter, in the same log. Signals are ours to handle: the relay stops first. */
function installRuntime(log: Logger): void {
  const logger = new DefaultLogger('WARN', ({ level, message, meta }) => {
    if (level === 'ERROR') log.error(meta, message);
    else log.warn(meta, message);
  });
  Runtime.install({ logger, shutdownSignals: [] });
}
