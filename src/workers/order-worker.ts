/** The Temporal worker for orders, and the engine with which its relay starts them over the same connection. */

import { Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import {
  Worker,
  type NativeConnection,
  type WorkerOptions,
  type WorkflowBundleOption,
} from '@temporalio/worker';
import type { Activities } from '../activities/index.ts';
import { createOrderEngine, type OrderEngine } from '../engine/order-engine.ts';
import { TASK_QUEUE } from '../workflows/contract.ts';

/** An order's step takes at most its own timeout of ten seconds; what is not done by then, as a slow refund, is repeated elsewhere. */
const SHUTDOWN_GRACE_MS = 10_000;
const SHUTDOWN_FORCE_MS = 15_000;
/** About 600 open orders fit a GB of cache; more are replayed when they wake, from histories of a dozen events. */
const CACHED_WORKFLOWS_MAX = 600;

export interface OrderWorkerParts {
  connection: NativeConnection;
  namespace: string;
  workflowBundle: WorkflowBundleOption;
  activities: Activities;
  /** With it the worker gets the orders of this version alone; without it there are no versions. */
  version: WorkerDeploymentVersion | undefined;
}

export async function createOrderWorker({
  version,
  ...parts
}: OrderWorkerParts): Promise<{ worker: Worker; engine: OrderEngine }> {
  const worker = await Worker.create({
    ...parts,
    taskQueue: TASK_QUEUE,
    maxCachedWorkflows: CACHED_WORKFLOWS_MAX,
    workflowTaskPollerBehavior: { type: 'autoscaling' },
    shutdownGraceTime: SHUTDOWN_GRACE_MS,
    shutdownForceTime: SHUTDOWN_FORCE_MS,
    ...(version && pinnedTo(version)),
  });
  const client = new Client({ connection: parts.connection, namespace: parts.namespace });
  // An eager start begins on the very worker that asks, current or not, and would pin the order there: then a version
  // would take orders before it is current, and an old one would never drain. So where there are versions, Temporal chooses.
  return { worker, engine: createOrderEngine(client, { eager: version === undefined }) };
}

/** An order ends under the code it began with: it lives for a payment window, so an old version is soon done. */
function pinnedTo(version: WorkerDeploymentVersion): Pick<WorkerOptions, 'workerDeploymentOptions'> {
  return {
    workerDeploymentOptions: { version, useWorkerVersioning: true, defaultVersioningBehavior: 'PINNED' },
  };
}
