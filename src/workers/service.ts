/** Runs the relay and, as soon as Temporal is reached, the Temporal worker with the reconciliation. */

import { Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import { DefaultLogger, makeTelemetryFilterString, NativeConnection, Runtime } from '@temporalio/worker';
import type { Logger } from 'pino';
import { ulid } from 'ulidx';
import { createCallOffActivities } from '../activities/call-off.ts';
import { createActivities } from '../activities/index.ts';
import { createReconcileActivities } from '../activities/reconcile.ts';
import type { WorkerConfig } from '../config.ts';
import {
  endpointPatient,
  processPatient,
  providerPatient,
  storePatients,
  warnAtStart,
} from '../doctor/doctor.ts';
import { examineTemporal } from '../doctor/temporal.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import { ensureSchedule, hasSchedule, type WantedSchedule } from '../engine/reconcile-schedule.ts';
import { createDispatcher } from '../events/feed.ts';
import { createWorkerMetrics, type WorkerMetrics } from '../metrics.ts';
import { openProbe } from '../probe.ts';
import type { Service } from '../process.ts';
import type { PaymentProvider } from '../providers/provider.ts';
import { createOrderSigner } from '../providers/signed-order.ts';
import { createPusher, type PusherDeps } from '../push/pusher.ts';
import { RECONCILE_STEPS } from '../reconcile/steps.ts';
import type { Stores } from '../stores/open.ts';
import { searchAttributes } from '../workflows/contract.ts';
import { runEnder } from './ender.ts';
import { createLoopWatch, runLoop, type LoopWatch } from './loop.ts';
import { createOrderWorker } from './order-worker.ts';
import { runRedisWatch } from './redis-watch.ts';
import { runRelay } from './relay.ts';
import { createSaleKeeper } from './sale-keeper.ts';
import { runBeats, type BeatDeps } from './vital-signs.ts';

// An order engine that exists before Temporal is reached. Until then every call fails, so that the relay
// stores orders ahead.

export function createDeferredEngine() {
  let engine: OrderEngine | undefined;

  async function connected(): Promise<OrderEngine> {
    if (!engine) throw new Error('Temporal has not been reached yet');
    return engine;
  }

  const deferred: Omit<
    OrderEngine,
    'queryStatus' | 'listRuns' | 'nudge' | 'requestReconcile' | 'readReconcile'
  > = {
    start: async (...args) => (await connected()).start(...args),
    signalCancelRequested: async (...args) => (await connected()).signalCancelRequested(...args),
    signalEnded: async (...args) => (await connected()).signalEnded(...args),
    isRunning: async (...args) => (await connected()).isRunning(...args),
    listRunning: async (...args) => (await connected()).listRunning(...args),
    startRefund: async (refund) => (await connected()).startRefund(refund),
    startCallOff: async (job) => (await connected()).startCallOff(job),
  };

  return {
    engine: deferred,
    /** Later calls go to this engine. */
    connect(reached: OrderEngine): void {
      engine = reached;
    },
  };
}

/** Runs until `signal` aborts and the attempts under way have ended, each of which is bounded. */
export async function runPush(deps: PusherDeps & { watch?: LoopWatch }, signal: AbortSignal): Promise<void> {
  const pusher = createPusher(deps, signal);
  await runLoop('push', pusher.pass, { log: deps.log, signal, watch: deps.watch });
  await pusher.drain();
}

// Keeps the schedule of the reconciliation, and notices by its absence that Temporal has lost its data:
// then all that Temporal was working on is made due again from MySQL.

/** A reconciliation that does not run mends nothing, and nothing of what it mends is urgent. */
const ENSURE_EVERY_MS = 60_000;
/** Rows of one transaction. */
const BATCH_SIZE = 500;

export interface ScheduleKeeperDeps extends Stores {
  client: Client;
  schedule: WantedSchedule;
  namespace: string;
  signal: AbortSignal;
}

/** One pass of the keeper's loop. @returns the pause before the next, in ms */
export async function keepSchedule(deps: ScheduleKeeperDeps): Promise<number> {
  const { client, schedule, namespace, temporalNamespaces, signal, log } = deps;
  const isToBeMarked = await recoverLost(deps);
  if (signal.aborted) return 0;
  const outcome = await ensureSchedule(client, schedule, signal);
  if (outcome !== 'unchanged') log.info({ outcome }, 'the schedule of the reconciliation is up to date');
  // After the schedule: a process that dies in between makes all due once more, which does no harm.
  if (isToBeMarked) await temporalNamespaces.markMade(namespace);
  return Math.min(schedule.everyMs, ENSURE_EVERY_MS);
}

/** @returns whether the mark is to be cleared: there is none yet, or all is due again */
async function recoverLost(deps: ScheduleKeeperDeps): Promise<boolean> {
  const { client, schedule, namespace, temporalNamespaces, orderClaims, refundClaims, signal, log } = deps;
  const mark = await temporalNamespaces.read(namespace);
  if (mark === undefined) return true;
  if (mark === 'made' && (await hasSchedule(client, schedule, signal))) return false;
  if (mark === 'made') {
    log.error({ namespace }, 'Temporal has lost its data; orders and refunds get workflows again');
    await temporalNamespaces.markLost(namespace);
  }
  const orders = await requeueAll(orderClaims, ({ orderNo }) => orderNo, signal);
  const refunds = await requeueAll(refundClaims, ({ paymentId }) => paymentId, signal);
  if (signal.aborted) return false;
  log.error({ namespace, orders, refunds }, 'what Temporal has lost is due again');
  return true;
}

interface Queue<T, I> {
  listOpen: (after: T | undefined, limit: number) => Promise<T[]>;
  requeue: (ids: readonly I[]) => Promise<I[]>;
}

/**
 * Makes all due of which a workflow alone would go on, also where its workflow was started again meanwhile: a
 * second start finds it. @returns how many
 */
async function requeueAll<T extends { isWaiting: boolean }, I>(
  { listOpen, requeue }: Queue<T, I>,
  idOf: (row: T) => I,
  signal: AbortSignal,
): Promise<number> {
  let requeued = 0;
  let page: T[] = [];
  do {
    page = await listOpen(page.at(-1), BATCH_SIZE);
    const waiting = page.filter(({ isWaiting }) => isWaiting);
    requeued += (await requeue(waiting.map(idOf))).length;
  } while (page.length === BATCH_SIZE && !signal.aborted);
  return requeued;
}

export interface WorkerParts {
  stores: Stores;
  provider: PaymentProvider;
  log: Logger;
}

/** The service closes the stores when it stops. */
export function startWorker(config: WorkerConfig, parts: WorkerParts): Service {
  installRuntime(config, parts.log);
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
  const metrics = createWorkerMetrics();
  const watch = createLoopWatch(metrics.passFailed);
  const probe = await openProbe({
    host: config.WORKER_HOST,
    port: config.WORKER_PORT,
    hanging: watch.hanging,
    metrics,
  });
  log.info({ url: probe.url }, 'worker answers probes');
  try {
    await runAll(config, { stores, provider, log }, { watch, metrics, url: probe.url }, stopping);
  } finally {
    await probe.close();
  }
}

async function runAll(
  config: WorkerConfig,
  { stores, provider, log }: WorkerParts,
  { watch, metrics, url }: Pick<BeatDeps, 'watch' | 'url'> & { metrics: WorkerMetrics },
  stopping: AbortController,
): Promise<void> {
  const { signal } = stopping;
  // All that it does needs MySQL, so it begins nothing before that has said whose stores these are.
  await untilDone('deployment', () => stores.deployment.join(signal), { log, signal });
  if (signal.aborted) return;
  const patients = [
    ...storePatients(async () => stores, stores),
    providerPatient(config),
    endpointPatient(stores),
    processPatient('worker'),
  ];
  void warnAtStart(patients, log, signal);
  const deferred = createDeferredEngine();
  const signer = createOrderSigner(config.ORDER_SIGNING_SECRETS);
  const bounds = {
    outboxPage: config.OUTBOX_PAGE,
    storesAtOnce: config.STORES_AT_ONCE,
    providerCallsAtOnce: config.PROVIDER_CALLS_AT_ONCE,
  };
  const workerId = ulid();
  const loops = [
    runRelay({ ...stores, workerId, engine: deferred.engine, ...bounds, watch, log }, signal),
    runEnder({ ...stores, provider, ...bounds, watch, log }, signal),
    runRedisWatch({ ...stores, watch, log }, signal),
    runLoop('sale keeper', createSaleKeeper({ ...stores, log }), { log, signal, watch }),
    runLoop('events', createDispatcher({ ...stores, log }, metrics), { log, signal, watch }),
    runPush(
      { ...stores, sender: { allowPrivate: config.PUSH_ALLOW_PRIVATE === 'true' }, watch, log },
      signal,
    ),
    runBeats({ ...stores, workerId, build: config.WORKER_BUILD_ID ?? '', url, watch, log }, signal),
    stores.deployment.keep(signal),
  ];
  const relay = allEnded(loops.map((loop) => loop.catch(abortAnd(stopping))));
  relay.catch(() => {});
  const connection = await connectTemporal(config, { log, signal, metrics });
  if (!connection) {
    await relay;
    return;
  }
  const looking = runLoop('temporal', () => lookAtTemporal(connection, metrics), { log, signal, watch });
  try {
    const namespace = config.temporal.namespace ?? 'default';
    await assertSearchAttributes(connection, namespace, log);
    const taskQueue = config.TEMPORAL_TASK_QUEUE;
    const client = new Client({ connection, namespace });
    const examine = () => examineTemporal(connection, { namespace, taskQueue, withQueues: false });
    const means = 'While it is away no payment reaches its order.';
    void warnAtStart([{ what: 'Temporal', means, examine }], log, signal);
    const everyMs = config.RECONCILE_EVERY_SECONDS * 1_000;
    const schedule = { taskQueue, deployment: stores.deployment.known(), everyMs };
    const keep = () => keepSchedule({ ...stores, client, schedule, namespace, signal, log });
    // By the schedule the queue is taken, before any workflow of it is started or worked on.
    const take = async () => (await hasSchedule(client, schedule, signal)) || (await keep());
    await untilDone('schedule', take, { log, signal });
    if (signal.aborted) return;
    const version = versionOf(config);
    const deps = { ...stores, engine: deferred.engine, provider, signer, keep: config, log };
    const { worker, engine } = await createOrderWorker({
      connection,
      namespace,
      taskQueue,
      workflowBundle: { codePath: config.WORKFLOW_BUNDLE },
      activities: {
        ...createActivities({ ...stores, provider }),
        ...createCallOffActivities(stores),
        ...createReconcileActivities({ steps: RECONCILE_STEPS, deps, stopping: signal }),
      },
      budget: stores.budget,
      parkedWork: stores.parkedWork,
      providerCallsAtOnce: bounds.providerCallsAtOnce,
      metrics,
      version,
    });
    deferred.connect(engine);
    log.info({ taskQueue, version }, 'worker ready');
    // Not watched: after a loss of Temporal's data one pass makes every open order due, however many.
    const scheduling = runLoop('schedule', keep, { log, signal }).catch(abortAnd(stopping));
    const beside = Promise.all([relay, scheduling]);
    await allEnded([worker.run(), beside.finally(() => worker.shutdown())]);
  } finally {
    stopping.abort();
    await relay.catch(() => {});
    await looking;
    await connection.close();
  }
  await relay;
}

/** What waits for the signal ends, too. */
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

/** How often a worker looks whether Temporal answers, and how long it waits for that. */
const LOOK_AT_TEMPORAL_MS = 5_000;
const TEMPORAL_WITHIN_MS = 3_000;
/**
 * The pause after a look in vain. Temporal is away after the second: 12 s at most, and with a scrape, an
 * evaluation and the 5 s of the alert's rule it fires within 30 s.
 */
const LOOK_AGAIN_MS = 1_000;

/** One pass of the loop. The API never asks Temporal, so that its own calls cost no more for it. */
async function lookAtTemporal(
  connection: NativeConnection,
  { sawTemporal }: Pick<WorkerMetrics, 'sawTemporal'>,
): Promise<number> {
  const ask = () => connection.workflowService.getSystemInfo({});
  const hasAnswered = await connection.withDeadline(Date.now() + TEMPORAL_WITHIN_MS, ask).then(
    () => true,
    () => false,
  );
  sawTemporal(hasAnswered);
  return hasAnswered ? LOOK_AT_TEMPORAL_MS : LOOK_AGAIN_MS;
}

/** Tries until Temporal is reached; undefined when the service is stopped before that. */
async function connectTemporal(
  { temporal }: WorkerConfig,
  { log, signal, metrics }: { log: Logger; signal: AbortSignal; metrics: WorkerMetrics },
): Promise<NativeConnection | undefined> {
  let connection: NativeConnection | undefined;
  const connect = async () => {
    try {
      connection = await NativeConnection.connect(temporal.connectionOptions);
    } catch (error) {
      metrics.sawTemporal(false);
      throw error;
    }
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
 * process signals to the service, because the relay must stop first. The SDK's own metrics are of its native
 * part, which answers them itself.
 */
function installRuntime({ WORKER_HOST: host, TEMPORAL_METRICS_PORT: port }: WorkerConfig, log: Logger): void {
  const logger = new DefaultLogger('WARN', ({ level, message, meta }) => {
    if (level === 'ERROR') log.error(meta, message);
    else log.warn(meta, message);
  });
  const filter = makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' });
  const bindAddress = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const metrics = port === undefined ? {} : { metrics: { prometheus: { bindAddress, unitSuffix: true } } };
  const telemetryOptions = { logging: { filter, forward: {} }, ...metrics };
  Runtime.install({ logger, shutdownSignals: [], telemetryOptions });
}
