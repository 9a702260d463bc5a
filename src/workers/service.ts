/** Runs the relay and, as soon as Temporal is reached, the Temporal worker with the reconciliation. */

import { Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import { DefaultLogger, makeTelemetryFilterString, NativeConnection, Runtime } from '@temporalio/worker';
import type { Logger } from 'pino';
import { createActivities } from '../activities/index.ts';
import { createReconcileActivities } from '../activities/reconcile.ts';
import type { WorkerConfig } from '../config.ts';
import { createReconcileSchedule } from '../engine/reconcile-schedule.ts';
import { createDispatcher } from '../events/dispatcher.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import { createOrderSigner } from '../payments/signed-order.ts';
import type { Service } from '../process.ts';
import { createReconcileSteps } from '../reconcile/steps.ts';
import type { Stores } from '../stores/open.ts';
import { searchAttributes } from '../workflows/contract.ts';
import { createDeferredEngine } from './deferred-engine.ts';
import { runEnder } from './ender.ts';
import { runLoop } from './loop.ts';
import { createOrderWorker } from './order-worker.ts';
import { runPush } from './push-runner.ts';
import { runRedisWatch } from './redis-watch.ts';
import { runRelay } from './relay.ts';
import { createSaleKeeper } from './sale-keeper.ts';
import { createScheduleKeeper } from './schedule-keeper.ts';

export interface WorkerParts {
  stores: Stores;
  provider: PaymentProvider;
  log: Logger;
}

/** The service closes the stores when it stops. */
export function startWorker(config: WorkerConfig, parts: WorkerParts): Service {
  installRuntime(parts.log);
  const stopping = new AbortController();
  const ended = runUntilStopped(config, parts, stopping);
  return {
    ended,
    async stop() {
      stopping.abort();
      try {
        await ended;
      } finally {
        await parts.stores.close();
      }
    },
  };
}

/**
 * On a stop it begins nothing new, finishes what is under way, and then closes the connection. So it does
 * when the stores or the namespace turn out to be another deployment's.
 */
async function runUntilStopped(
  config: WorkerConfig,
  { stores, provider, log }: WorkerParts,
  stopping: AbortController,
): Promise<void> {
  const { signal } = stopping;
  // All that it does needs MySQL, so it begins nothing before that has told whose stores these are.
  await untilDone('deployment', () => stores.deployment.join(signal), { log, signal });
  if (signal.aborted) return;
  const deferred = createDeferredEngine();
  const signer = createOrderSigner(config.ORDER_SIGNING_SECRETS);
  const loops = [
    runRelay({ ...stores, engine: deferred.engine, log }, signal),
    runEnder({ ...stores, provider, log }, signal),
    runRedisWatch({ ...stores, log }, signal),
    runLoop('sale keeper', createSaleKeeper({ ...stores, log }), { log, signal }),
    runLoop('events', createDispatcher({ ...stores, log }), { log, signal }),
    runPush({ ...stores, sender: { allowPrivate: config.PUSH_ALLOW_PRIVATE === 'true' }, log }, signal),
    stores.deployment.keep(signal),
  ];
  const relay = allEnded(loops.map((loop) => loop.catch(abortAnd(stopping))));
  relay.catch(() => {});
  const connection = await connectTemporal(config, log, signal);
  if (!connection) {
    await relay;
    return;
  }
  try {
    const namespace = config.temporal.namespace ?? 'default';
    await assertSearchAttributes(connection, namespace, log);
    const taskQueue = config.TEMPORAL_TASK_QUEUE;
    const everyMs = config.RECONCILE_EVERY_SECONDS * 1_000;
    const schedule = createReconcileSchedule(
      new Client({ connection, namespace }),
      { taskQueue, deployment: stores.deployment.known(), everyMs },
      signal,
    );
    const keeper = createScheduleKeeper({ ...stores, schedule, namespace, everyMs, signal, log });
    // By the schedule the queue is taken, before any workflow of it is started or worked on.
    const take = async () => (await schedule.exists()) || (await keeper());
    await untilDone('schedule', take, { log, signal });
    if (signal.aborted) return;
    const version = versionOf(config);
    const steps = createReconcileSteps({
      ...stores,
      engine: deferred.engine,
      provider,
      signer,
      keep: config,
      log,
    });
    const { worker, engine } = await createOrderWorker({
      connection,
      namespace,
      taskQueue,
      workflowBundle: { codePath: config.WORKFLOW_BUNDLE },
      activities: {
        ...createActivities({ ...stores, provider }),
        ...createReconcileActivities({ steps, stopping: signal }),
      },
      budget: stores.budget,
      parkedWork: stores.parkedWork,
      version,
    });
    deferred.connect(engine);
    log.info({ taskQueue, version }, 'worker ready');
    const scheduling = runLoop('schedule', keeper, { log, signal }).catch(abortAnd(stopping));
    const beside = Promise.all([relay, scheduling]);
    await allEnded([worker.run(), beside.finally(() => worker.shutdown())]);
  } finally {
    stopping.abort();
    await relay.catch(() => {});
    await connection.close();
  }
  await relay;
}

/** Whoever waits for the signal ends, too. */
function abortAnd(stopping: AbortController) {
  return (error: unknown): never => {
    stopping.abort();
    throw error;
  };
}

/** Waits for all also when one fails: a connection is closed after what uses it. @throws the first failure */
async function allEnded(parts: Promise<unknown>[]): Promise<void> {
  const ended = await Promise.allSettled(parts);
  const failed = ended.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Tries until `work` has succeeded, or the service is stopped. @throws WrongDeploymentError */
async function untilDone(
  name: string,
  work: () => Promise<unknown>,
  { log, signal }: { log: Logger; signal: AbortSignal },
): Promise<void> {
  const done = new AbortController();
  const pass = async () => {
    await work();
    done.abort();
    return 0;
  };
  await runLoop(name, pass, { log, signal: AbortSignal.any([signal, done.signal]) });
}

/** Tries until Temporal is reached; undefined when the service is stopped before that. */
async function connectTemporal(
  { temporal }: WorkerConfig,
  log: Logger,
  signal: AbortSignal,
): Promise<NativeConnection | undefined> {
  let connection: NativeConnection | undefined;
  const connect = async () => {
    connection = await NativeConnection.connect(temporal.connectionOptions);
  };
  await untilDone('temporal', connect, { log, signal });
  return connection;
}

/**
 * Checks the search attributes at the start, because without them Temporal refuses to start any order, while
 * orders are sold and paid.
 * @throws when the namespace lacks one; not when the list cannot be read, as in Temporal Cloud
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

function versionOf({
  WORKER_DEPLOYMENT_NAME: deploymentName,
  WORKER_BUILD_ID: buildId,
}: WorkerConfig): WorkerDeploymentVersion | undefined {
  return buildId === undefined ? undefined : { deploymentName, buildId };
}

/**
 * Sends the SDK's warnings and errors to the service's log, those of its native part too, and leaves the
 * process signals to the service, because the relay must stop first.
 */
function installRuntime(log: Logger): void {
  const logger = new DefaultLogger('WARN', ({ level, message, meta }) => {
    if (level === 'ERROR') log.error(meta, message);
    else log.warn(meta, message);
  });
  const filter = makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' });
  Runtime.install({ logger, shutdownSignals: [], telemetryOptions: { logging: { filter, forward: {} } } });
}
