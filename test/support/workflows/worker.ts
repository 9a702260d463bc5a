/**
 * A real Temporal worker with the relay beside it, on one
 * native connection, as src/workers/service.ts has them.
 */

import type { Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import { NativeConnection, type WorkflowBundleOption } from '@temporalio/worker';
import type { Logger } from 'pino';
import { ulid } from 'ulidx';
import { inject } from 'vitest';
import { createCallOffActivities } from '../../../src/activities/call-off.ts';
import { createActivities } from '../../../src/activities/index.ts';
import { createReconcileActivities } from '../../../src/activities/reconcile.ts';
import type { OrderEngine } from '../../../src/engine/order-engine.ts';
import { ensureSchedule } from '../../../src/engine/reconcile-schedule.ts';
import { createDispatcher } from '../../../src/events/feed.ts';
import { OUTBOX_PAGE, STORES_AT_ONCE } from '../../../src/limits.ts';
import { createWorkerMetrics } from '../../../src/metrics.ts';
import type { PaymentProvider } from '../../../src/providers/provider.ts';
import { RECONCILE_STEPS } from '../../../src/reconcile/steps.ts';
import type { Stores } from '../../../src/stores/open.ts';
import { runEnder } from '../../../src/workers/ender.ts';
import { runLoop } from '../../../src/workers/loop.ts';
import { createOrderWorker } from '../../../src/workers/order-worker.ts';
import { runRelay } from '../../../src/workers/relay.ts';
import { createDeferredEngine } from '../../../src/workers/service.ts';
import { RECONCILE_SCHEDULE, TASK_QUEUE } from '../../../src/workflows/contract.ts';
import { keep } from '../keep.ts';
import { signer } from '../signer.ts';
import { silent } from '../stores.ts';
import { builtWorkflows } from './built-workflows.ts';
import { installQuietRuntime } from './native-runtime.ts';
import { runningWorkers } from './running-workers.ts';

export interface WorkerOptions {
  stores: Stores;
  provider: PaymentProvider;
  namespace: string;
  /** What relay and loops write; by default nothing. */
  log?: Logger;
  /** Stands in for the engine on the worker's connection. */
  engine?: OrderEngine;
  version?: WorkerDeploymentVersion;
  /** Stands in for the workflows as they are. */
  workflowBundle?: WorkflowBundleOption;
  /** Has the reconciliation run by its schedule; without it nothing of it runs. */
  reconcileEveryMs?: number;
}

export interface TestWorker {
  client: Client;
  stop(): Promise<void>;
}

export async function startWorker(options: WorkerOptions): Promise<TestWorker> {
  const { stores, provider, namespace, log = silent } = options;
  installQuietRuntime();
  const workflowBundle = options.workflowBundle ?? builtWorkflows;
  const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
  const deferred = createDeferredEngine();
  const deps = { ...stores, engine: deferred.engine, provider, signer, keep, log: silent };
  const stopping = new AbortController();
  const metrics = createWorkerMetrics();
  const { worker, engine, client } = await createOrderWorker({
    connection,
    namespace,
    workflowBundle,
    activities: {
      ...createActivities({ ...stores, provider }),
      ...createCallOffActivities(stores),
      ...createReconcileActivities({ steps: RECONCILE_STEPS, deps, stopping: stopping.signal }),
    },
    budget: stores.budget,
    parkedWork: stores.parkedWork,
    metrics,
    version: options.version,
  });
  deferred.connect(engine);
  runningWorkers.add(worker);
  const { reconcileEveryMs } = options;
  if (reconcileEveryMs !== undefined) {
    const owner = { taskQueue: TASK_QUEUE, deployment: { id: 'of-this-test', name: 'test' } };
    await ensureSchedule(client, { ...owner, everyMs: reconcileEveryMs });
  }
  const stopRelay = startRelay(stores, options.engine ?? engine, log);
  const loop = { log: silent, signal: stopping.signal };
  const dispatching = runLoop('events', createDispatcher({ ...stores, log: silent }, metrics), loop);
  const ending = runEnder({ ...stores, provider, log: silent }, stopping.signal);
  const ended = worker.run();
  // `stop` rethrows the failure of a worker; until then nothing awaits it.
  ended.catch(() => {});
  return {
    client,
    async stop() {
      // It would go on starting workflows on the server that all test files share.
      if (reconcileEveryMs !== undefined) await client.schedule.getHandle(RECONCILE_SCHEDULE).delete();
      stopping.abort();
      await Promise.all([stopRelay(), dispatching, ending]);
      worker.shutdown();
      await ended;
      runningWorkers.delete(worker);
      await connection.close();
    },
  };
}

/** The relay alone. @returns what stops it, and waits until it has */
export function startRelay(stores: Stores, engine: OrderEngine, log: Logger = silent): () => Promise<void> {
  const stop = new AbortController();
  const relay = runRelay(
    { ...stores, workerId: ulid(), engine, outboxPage: OUTBOX_PAGE, storesAtOnce: STORES_AT_ONCE, log },
    stop.signal,
  );
  return async () => {
    stop.abort();
    await relay;
  };
}
