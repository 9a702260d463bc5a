/**
 * Creates the Temporal workers of the process, and the order engine by which the relay starts workflows over
 * their connection.
 */

import { Client } from '@temporalio/client';
import { ApplicationFailure, type WorkerDeploymentVersion } from '@temporalio/common';
import {
  type ActivityInterceptorsFactory,
  Worker,
  type InjectedSinks,
  type NativeConnection,
  type WorkerOptions,
  type WorkflowBundleOption,
} from '@temporalio/worker';
import { z } from 'zod';
import type { Activities } from '../activities/index.ts';
import type { ReconcileActivities } from '../activities/reconcile.ts';
import { createOrderEngine, type OrderEngine } from '../engine/order-engine.ts';
import { PROVIDER_CALLS_AT_ONCE } from '../limits.ts';
import type { WorkerMetrics } from '../metrics.ts';
import type { ParkedKind } from '../parked/parked.sql.ts';
import type { EngineBudget } from '../redis/budget.ts';
import {
  type RefundInput,
  paymentsQueueOf,
  PROVIDER_BUSY,
  TASK_QUEUE,
  type EngineSinks,
} from '../workflows/contract.ts';

// Notes each failed try of a step of parked work, so that an operator sees the newest error. The worker
// does it and not the workflow, which would need new commands for it that open orders could not replay.

/**
 * Notes under way at once. While a store is away thousands of steps may fail; what is not noted now is noted
 * at the step's next try.
 */
const NOTES_MAX = 10;

export interface FailureNotes {
  noteFailure(kind: ParkedKind, reference: string, error: string): Promise<void>;
  noteRefundFailure(payment: RefundInput, error: string): Promise<void>;
}

const ofOrder = z.object({ orderNo: z.string() });
const ofNewOrder = z.object({ order: ofOrder });
const ofRefund = z.object({
  paymentId: z.int(),
  provider: z.string().optional(),
  providerPaymentId: z.string().optional(),
});

/** The activity that runs one step of the reconciliation. */
const RECONCILE_STEP: keyof ReconcileActivities = 'runReconcileStep';

type TryCounts = Pick<WorkerMetrics, 'stepTried' | 'reconciled'>;

const reconcileInput = z.object({ name: z.string() });
const reconcileReport = z.object({ looked: z.int(), repaired: z.int(), parked: z.int() });

/** Counts each try of a step, and what the steps of the reconciliation report. */
export function createTryCounter({ stepTried, reconciled }: TryCounts): ActivityInterceptorsFactory {
  function countReport([input]: unknown[], result: unknown): void {
    const step = reconcileInput.safeParse(input).data?.name;
    const report = reconcileReport.safeParse(result).data;
    if (step === undefined) return;
    for (const [what, count] of Object.entries(report ?? { failed: 1 })) reconciled(step, what, count);
  }

  return ({ info: { activityType } }) => ({
    inbound: {
      async execute(input, next) {
        const isReconcile = activityType === RECONCILE_STEP;
        try {
          const result: unknown = await next(input);
          stepTried(activityType, 'done');
          if (isReconcile) countReport(input.args, result);
          return result;
        } catch (error) {
          const isBusy = error instanceof ApplicationFailure && error.type === PROVIDER_BUSY;
          stepTried(activityType, isBusy ? 'busy' : 'failed');
          if (isReconcile) countReport(input.args, undefined);
          throw error;
        }
      },
    },
  });
}

/** A step that failed is never delayed by its note, and a note that fails is left out. */
export function createFailureNotes(notes: FailureNotes): ActivityInterceptorsFactory {
  let underWay = 0;

  async function note([input]: unknown[], error: string): Promise<void> {
    if (underWay >= NOTES_MAX) return;
    underWay += 1;
    try {
      const orderNo =
        ofOrder.safeParse(input).data?.orderNo ?? ofNewOrder.safeParse(input).data?.order.orderNo;
      const payment = ofRefund.safeParse(input).data;
      if (orderNo !== undefined) await notes.noteFailure('order', orderNo, error);
      else if (payment) await notes.noteRefundFailure(payment, error);
    } catch {
      // The store is away; the next failure is noted.
    } finally {
      underWay -= 1;
    }
  }

  return ({ info }) => ({
    inbound: {
      async execute(input, next) {
        try {
          return await next(input);
        } catch (error) {
          // A local activity is one of the quick tries, before anything is parked.
          const text = error instanceof Error ? error.message : String(error);
          if (!info.isLocal) void note(input.args, `${info.activityType}: ${text}`);
          throw error;
        }
      },
    },
  });
}

/**
 * An order's step takes at most its own timeout of ten seconds. What takes longer, such as a slow refund, is
 * repeated by another worker.
 */
const SHUTDOWN_GRACE_MS = 10_000;
const SHUTDOWN_FORCE_MS = 15_000;
/**
 * A cached order takes about 0.2 MB, so that the process stays between 380 and 430 MB (see `service.ts`).
 * Others are replayed when they wake, from histories of a dozen events.
 */
const CACHED_WORKFLOWS_MAX = 400;
export interface OrderWorkerParts {
  connection: NativeConnection;
  namespace: string;
  /** Of the orders; the payments' is beside it. */
  taskQueue?: string;
  providerCallsAtOnce?: number;
  workflowBundle: WorkflowBundleOption;
  /** And those of the reconciliation, where it has a schedule. */
  activities: Activities;
  budget: Pick<EngineBudget, 'release'>;
  /** Where failed tries of parked work are noted. */
  parkedWork: FailureNotes;
  metrics: TryCounts;
  /** With a version, the worker gets only the orders of that version; undefined: workers have no versions. */
  version: WorkerDeploymentVersion | undefined;
}

/** The workers of a process. They run as one: when one fails, the others are shut down. */
export interface Workers {
  /** Settles when all have ended. */
  run(): Promise<void>;
  shutdown(): void;
}

export async function createOrderWorker({
  version,
  budget,
  parkedWork,
  metrics,
  taskQueue = TASK_QUEUE,
  providerCallsAtOnce = PROVIDER_CALLS_AT_ONCE,
  ...parts
}: OrderWorkerParts): Promise<{ worker: Workers; engine: OrderEngine; client: Client }> {
  const { workflowBundle, ...shared } = {
    ...parts,
    interceptors: { activity: [createTryCounter(metrics), createFailureNotes(parkedWork)] },
    shutdownGraceTime: SHUTDOWN_GRACE_MS,
    shutdownForceTime: SHUTDOWN_FORCE_MS,
    ...(version && pinnedTo(version)),
  };
  const orders = await Worker.create({
    ...shared,
    workflowBundle,
    taskQueue,
    sinks: releaseSlots(budget),
    maxCachedWorkflows: CACHED_WORKFLOWS_MAX,
    workflowTaskPollerBehavior: { type: 'autoscaling' },
  });
  const payments = await Worker.create({
    ...shared,
    taskQueue: paymentsQueueOf(taskQueue),
    maxConcurrentActivityTaskExecutions: providerCallsAtOnce,
  });
  const client = new Client({ connection: parts.connection, namespace: parts.namespace });
  // An eager start runs on the worker that asked for it, current version or not, and pins the order there. A
  // version would get orders before it is current, and an old one would never drain. With versions, Temporal
  // chooses the worker.
  return {
    worker: runTogether([orders, payments]),
    engine: createOrderEngine(client, { eager: version === undefined, taskQueue }),
    client,
  };
}

function runTogether(workers: readonly Worker[]): Workers {
  const shutdown = (): void => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  return {
    shutdown,
    async run() {
      const ended = await Promise.allSettled(workers.map((worker) => worker.run().finally(shutdown)));
      const failed = ended.find((result) => result.status === 'rejected');
      if (failed) throw failed.reason;
    },
  };
}

/** Not awaited: a workflow's task must not wait for Redis. */
function releaseSlots(budget: OrderWorkerParts['budget']): InjectedSinks<EngineSinks> {
  return {
    engineBudget: {
      release: {
        fn: (_, workflowId) => void budget.release([workflowId]),
        callDuringReplay: false,
      },
    },
  };
}

/** An order ends under the version that it began with; an old version drains within a payment window. */
function pinnedTo(version: WorkerDeploymentVersion): Pick<WorkerOptions, 'workerDeploymentOptions'> {
  return {
    workerDeploymentOptions: { version, useWorkerVersioning: true, defaultVersioningBehavior: 'PINNED' },
  };
}
