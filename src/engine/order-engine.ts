/** Starts, signals and queries the workflows of orders and refunds. Every call has a deadline. */

import {
  WorkflowNotFoundError,
  type Client,
  WorkflowExecutionAlreadyStartedError,
  type WorkflowStartOptions,
} from '@temporalio/client';
import { TypedSearchAttributes } from '@temporalio/common';
import { z } from 'zod';
import { formatMoney, type RefundReason } from '../money/payment.ts';
import { orderStateSchema, type Order } from '../orders/content.ts';
import { parseOrderNo, type OrderState } from '../orders/order.ts';
import type { WishRecorded } from '../orders/orders.sql.ts';
import type { StoredOrder } from '../orders/rows.sql.ts';
import type { CallOffTerms } from '../sales/calling-off.sql.ts';
import type { Stores } from '../stores/open.ts';
import { takeStep } from '../tracing.ts';
import {
  CALL_OFF_WORKFLOW,
  callOffWorkflowId,
  cancelRequested,
  ORDER_WORKFLOW,
  paymentReceived,
  REFUND_WORKFLOW,
  refundUpdated,
  refundWorkflowId,
  searchAttributes,
  statusQuery,
  TASK_QUEUE,
  type CallOffInput,
  type OrderWindow,
  type PaymentName,
  type RefundInput,
} from '../workflows/contract.ts';
import { readLatestRun, requestRun, type ReconcileRun } from './reconcile-schedule.ts';

// The runs of one workflow as an operator sees them, and a nudge for steps that wait for their next try.

/** Runs that are shown. An order has one as a rule, and a few where an operator ended its workflow. */
const RUNS_MAX = 10;
/** Of gRPC. */
const IDENTITY = 'holdfast-api';

export interface WorkflowRun {
  workflowId: string;
  runId: string;
  /** As Temporal names it: RUNNING, COMPLETED, FAILED, CANCELLED, TERMINATED, TIMED_OUT … */
  status: string;
  startedAt: Date;
  /** Undefined: it runs. */
  closedAt: Date | undefined;
  /** Signals, timers and ends, the oldest first. */
  moments: { at: Date; text: string }[];
  /** Steps that are not done yet. */
  pending: PendingStep[];
}

interface PendingStep {
  name: string;
  /** Which try is under way or next. */
  attempt: number;
  /** Why the last one failed; undefined: none has. */
  lastError: string | undefined;
  /** Undefined: it is under way. */
  nextTryAt: Date | undefined;
}

/** The oldest first; empty when Temporal has no such workflow. Older runs may be listed a second late. */
async function listWorkflowRuns(client: Client, workflowId: string): Promise<WorkflowRun[]> {
  const [current, listed] = await Promise.all([
    describeWorkflow(client, workflowId),
    listRunIds(client, workflowId),
  ]);
  const runIds = new Set([...listed, ...(current ? [current.runId] : [])]);
  const runs = await Promise.all([...runIds].map((runId) => readRun(client, workflowId, runId)));
  return runs
    .filter((run) => run !== undefined)
    .toSorted((a, b) => a.startedAt.getTime() - b.startedAt.getTime());
}

async function nudgeWorkflow(client: Client, workflowId: string): Promise<void> {
  const pending = (await describeWorkflow(client, workflowId))?.raw.pendingActivities ?? [];
  const waiting = pending.filter((step) => toPendingStep(step).nextTryAt !== undefined);
  for (const { activityId } of waiting) {
    await inTime(client, () =>
      client.workflowService.resetActivity({
        namespace: client.options.namespace,
        execution: { workflowId },
        identity: IDENTITY,
        id: activityId ?? '',
      }),
    );
  }
}

async function describeWorkflow(client: Client, workflowId: string) {
  try {
    return await inTime(client, () => client.workflow.getHandle(workflowId).describe());
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}

async function listRunIds(client: Client, workflowId: string): Promise<string[]> {
  return inTime(client, async () => {
    const runIds: string[] = [];
    // A provider's id of a payment may have any characters.
    const query = `WorkflowId = "${workflowId.replaceAll(/["\\]/g, '\\$&')}"`;
    for await (const { runId } of client.workflow.list({ query, pageSize: RUNS_MAX })) {
      if (runIds.push(runId) >= RUNS_MAX) break;
    }
    return runIds;
  });
}

async function readRun(client: Client, workflowId: string, runId: string): Promise<WorkflowRun | undefined> {
  try {
    const handle = client.workflow.getHandle(workflowId, runId);
    const [described, history] = await Promise.all([
      inTime(client, () => handle.describe()),
      inTime(client, () => handle.fetchHistory()),
    ]);
    return {
      workflowId,
      runId,
      status: described.status.name,
      startedAt: described.startTime,
      closedAt: described.closeTime,
      moments: (history.events ?? []).flatMap(toMoment),
      pending: (described.raw.pendingActivities ?? []).map(toPendingStep),
    };
  } catch (error) {
    // It was deleted since it was listed.
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}

function inTime<T>(client: Client, work: () => Promise<T>, timeoutMs = CALL_TIMEOUT_MS): Promise<T> {
  return client.withDeadline(Date.now() + timeoutMs, work);
}

const timestamp = z
  .object({ seconds: z.coerce.number(), nanos: z.number().nullish() })
  .transform(({ seconds, nanos }) => new Date(seconds * 1_000 + (nanos ?? 0) / 1e6));

type History = Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['fetchHistory']>>;
type HistoryEvent = NonNullable<History['events']>[number];

/** What an operator would want to know of; the stores show steps that succeeded. */
function toMoment(event: HistoryEvent): { at: Date; text: string }[] {
  const text = textOf(event);
  return text === undefined ? [] : [{ at: timestamp.parse(event.eventTime), text }];
}

function textOf(event: HistoryEvent): string | undefined {
  const signalled = event.workflowExecutionSignaledEventAttributes;
  if (signalled) return `signal ${signalled.signalName} arrived`;
  const terminated = event.workflowExecutionTerminatedEventAttributes;
  if (terminated) return `terminated by ${terminated.identity}: ${terminated.reason || '(no reason)'}`;
  if (event.workflowExecutionCancelRequestedEventAttributes) return 'asked to cancel from outside';
  if (event.timerFiredEventAttributes) return 'a timer ended';
  const failed = event.workflowExecutionFailedEventAttributes;
  if (failed) return `failed: ${failed.failure?.message}`;
  const step = event.activityTaskScheduledEventAttributes;
  return step ? `step ${step.activityType?.name} began` : undefined;
}

type RawPending = NonNullable<
  Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['describe']>>['raw']['pendingActivities']
>[number];

function toPendingStep(step: RawPending): PendingStep {
  // A step under way has a scheduled time too, of its own past start.
  const isWaiting = (step.attempt ?? 1) > 1 && timeOf(step.lastStartedTime) < timeOf(step.scheduledTime);
  return {
    name: step.activityType?.name ?? '',
    attempt: step.attempt ?? 1,
    lastError: step.lastFailure?.message ?? undefined,
    nextTryAt: isWaiting ? timestamp.parse(step.scheduledTime) : undefined,
  };
}

const timeOf = (time: unknown): number => timestamp.safeParse(time).data?.getTime() ?? 0;

/**
 * A start or signal takes milliseconds. A server that needs longer is overloaded and must not get more calls.
 */
const CALL_TIMEOUT_MS = 5_000;
/** A workflow of Temporal's own answers for a schedule, which takes seconds where the machine is busy. */
const SCHEDULE_TIMEOUT_MS = 10_000;

/**
 * Temporal refuses to start a workflow whose summary has more than 400 bytes as JSON, where a character may
 * take two. The whole user id is a search attribute.
 */
const [SUMMARY_SKU_BYTES, SUMMARY_USER_BYTES] = [60, 90];

/** Workflow ids in one query of Temporal's list. */
const LISTED_AT_ONCE = 100;

/** A payment whose refund workflow is to be started or signalled. */
export interface RefundToStart extends PaymentName {
  /** Of the `payments` table. */
  paymentId: number;
  /** May name no order of ours. */
  orderNo: string;
  /** Minor units. */
  amount: number;
  currency: string;
  /** Null when the refund was not requested here. */
  reason: RefundReason | null;
}

export type OrderEngine = ReturnType<typeof createOrderEngine>;

/**
 * @param eager where the client shares its connection with a worker that has free slots, `start` hands it the
 *   workflow without a round trip
 * @param taskQueue of the workers of this deployment
 */
export function createOrderEngine(
  client: Client,
  {
    eager = true,
    callTimeoutMs = CALL_TIMEOUT_MS,
    taskQueue = TASK_QUEUE,
  }: { eager?: boolean; callTimeoutMs?: number; taskQueue?: string } = {},
) {
  const call = <T>(work: () => Promise<T>, timeoutMs = callTimeoutMs) => inTime(client, work, timeoutMs);
  const start = (order: Order, storedAhead?: OrderState, windowEndsAtMs?: number) =>
    call(() =>
      client.workflow.start(ORDER_WORKFLOW, {
        ...startOptions(order, storedAhead, windowEndsAtMs),
        taskQueue,
        ...(storedAhead && { workflowIdReusePolicy: 'REJECT_DUPLICATE' }),
        requestEagerStart: eager,
      }),
    );

  return {
    /**
     * Starts the order's workflow; one that has ended is started again. A workflow that runs already counts
     * as started. An eager start works only on a worker's connection.
     * @param storedAhead the order's state in MySQL, where it is stored already: the workflow does not store
     *   it again, and the caller marks its workflow as started
     * @param windowEndsAtMs where a workflow of the order has begun before: what it has left of its window
     * @throws ServiceError when Temporal is away, overloaded or too slow: the call may be repeated later
     */
    async start(order: Order, storedAhead?: OrderState, windowEndsAtMs?: number): Promise<void> {
      try {
        await start(order, storedAhead, windowEndsAtMs);
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
        // The workflow has ended, and the order may have: the state is older than that, so without it the
        // workflow looks into MySQL first.
        await start(order, undefined, windowEndsAtMs);
      }
    },

    /**
     * Signals the workflow that the shopper cancels, and starts it where needed, also where it has ended.
     * Throws like `start`.
     */
    async signalCancelRequested(order: Order, windowEndsAtMs?: number): Promise<void> {
      await call(() =>
        client.workflow.signalWithStart(ORDER_WORKFLOW, {
          ...startOptions(order, undefined, windowEndsAtMs),
          taskQueue,
          signal: cancelRequested,
          signalArgs: [{ reason: 'shopper_request' }],
        }),
      );
    },

    /**
     * Signals a workflow that runs although its order has ended without it, so that it ends too; starts none.
     * Throws like `start`.
     * @returns whether Temporal has such a workflow
     */
    async signalEnded(orderNo: string, { status }: Pick<OrderState, 'status'>): Promise<boolean> {
      const handle = client.workflow.getHandle(orderNo);
      try {
        await call(() =>
          status === 'paid'
            ? handle.signal(paymentReceived)
            : handle.signal(cancelRequested, { reason: 'payment_timeout' }),
        );
        return true;
      } catch (error) {
        if (!(error instanceof WorkflowNotFoundError)) throw error;
        return false;
      }
    },

    /**
     * Starts the payment's refund workflow, or signals the running one that its payment changed. A refund
     * workflow that ended before runs again. Throws like `start`.
     */
    async startRefund(refund: RefundToStart): Promise<void> {
      await call(() =>
        client.workflow.signalWithStart(REFUND_WORKFLOW, {
          ...refundOptions(refund),
          taskQueue,
          signal: refundUpdated,
        }),
      );
    },

    /** Starts the workflow of a calling-off, or finds it running. Throws like `start`. */
    async startCallOff(job: Pick<CallOffInput, 'jobId'> & CallOffTerms): Promise<void> {
      const { jobId, saleId, sku, restock, actor, reason } = job;
      const input: CallOffInput = { jobId, terms: { saleId, sku, restock, actor, reason } };
      await call(() =>
        client.workflow.start(CALL_OFF_WORKFLOW, {
          workflowId: callOffWorkflowId(input),
          args: [input],
          taskQueue,
          workflowIdReusePolicy: 'ALLOW_DUPLICATE',
          workflowIdConflictPolicy: 'USE_EXISTING',
          typedSearchAttributes: new TypedSearchAttributes([{ key: searchAttributes.saleId, value: saleId }]),
          staticSummary: `Call off ${saleId}`,
        }),
      );
    },

    /** The runs of this workflow, the oldest first. @throws ServiceError when Temporal does not answer */
    listRuns: (workflowId: string): Promise<WorkflowRun[]> => listWorkflowRuns(client, workflowId),

    /** See `requestRun`. */
    requestReconcile: (): Promise<void> => call(() => requestRun(client, taskQueue), SCHEDULE_TIMEOUT_MS),

    /** See `readLatestRun`. */
    readReconcile: (): Promise<ReconcileRun | undefined> =>
      call(() => readLatestRun(client, taskQueue), SCHEDULE_TIMEOUT_MS),

    /** Has the steps that wait for their next try tried at once. Throws like `listRuns`. */
    nudge: (workflowId: string): Promise<void> => nudgeWorkflow(client, workflowId),

    /**
     * Whether a workflow of this id runs; false when it has ended or Temporal has none.
     * @throws ServiceError when Temporal does not answer
     */
    async isRunning(workflowId: string): Promise<boolean> {
      try {
        const { status } = await call(() => client.workflow.getHandle(workflowId).describe());
        return status.name === 'RUNNING' || status.name === 'PAUSED';
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return false;
        throw error;
      }
    },

    /**
     * Those of these ids under which a workflow runs, by Temporal's list: it follows a second late, so one
     * that has just begun may be missing, and one that has just ended may still be there.
     * @throws ServiceError when Temporal does not answer
     */
    async listRunning(workflowIds: readonly string[]): Promise<Set<string>> {
      const running = new Set<string>();
      for (let from = 0; from < workflowIds.length; from += LISTED_AT_ONCE) {
        const ids = workflowIds
          .slice(from, from + LISTED_AT_ONCE)
          .map((id) => `"${id.replaceAll(/["\\]/g, '\\$&')}"`);
        const query = `WorkflowId IN (${ids.join(', ')}) AND ExecutionStatus = "Running"`;
        await call(async () => {
          for await (const { workflowId } of client.workflow.list({ query, pageSize: LISTED_AT_ONCE }))
            running.add(workflowId);
        });
      }
      return running;
    },

    /**
     * The order's state by the workflow's own query; undefined when there is no such workflow.
     * @throws when no worker answers in time
     */
    async queryStatus(orderNo: string, timeoutMs: number): Promise<OrderState | undefined> {
      try {
        return orderStateSchema.parse(
          await call(() => client.workflow.getHandle(orderNo).query(statusQuery), timeoutMs),
        );
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return undefined;
        throw error;
      }
    },
  };
}

/**
 * An order has one workflow at a time, because the workflow's id is the orderNo. Its steps find what was done
 * before, so it may run again, say when an operator has terminated it.
 */
function startOptions(order: Order, storedAhead?: OrderState, windowEndsAtMs?: number) {
  const window: OrderWindow | undefined =
    windowEndsAtMs === undefined ? undefined : { endsAtMs: windowEndsAtMs };
  return {
    workflowId: order.orderNo,
    args: window ? [order, storedAhead, window] : storedAhead ? [order, storedAhead] : [order],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    workflowIdConflictPolicy: 'USE_EXISTING',
    typedSearchAttributes: new TypedSearchAttributes([
      { key: searchAttributes.status, value: storedAhead?.status ?? 'queued' },
      { key: searchAttributes.userId, value: order.userId },
      { key: searchAttributes.saleId, value: order.saleId },
    ]),
    staticSummary: summarize(order),
    staticDetails: detailsOf(order),
  } satisfies Omit<WorkflowStartOptions, 'taskQueue'>;
}

/** A payment has one refund workflow at a time. Its steps find what was done before, so it may run again. */
function refundOptions(refund: RefundToStart) {
  const { paymentId, provider, providerPaymentId, orderNo, amount, currency, reason } = refund;
  const saleId = parseOrderNo(orderNo)?.saleId;
  const input: RefundInput = { paymentId, provider, providerPaymentId };
  return {
    workflowId: refundWorkflowId(refund),
    args: [input],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    workflowIdConflictPolicy: 'USE_EXISTING',
    typedSearchAttributes: new TypedSearchAttributes(
      saleId === undefined ? [] : [{ key: searchAttributes.saleId, value: saleId }],
    ),
    staticSummary: `Refund ${formatMoney(amount, currency)}: ${reason ?? 'made at the provider'}`,
    staticDetails: `Payment ${paymentId} for order ${orderNo}`,
  } satisfies Omit<WorkflowStartOptions, 'taskQueue'>;
}

function summarize({ items, userId }: Order): string {
  const [first] = items;
  const more = items.length > 1 ? ` and ${items.length - 1} more` : '';
  const sku = cutBytes(first?.sku ?? '', SUMMARY_SKU_BYTES);
  return `${first?.quantity} × ${sku}${more} for ${cutBytes(userId, SUMMARY_USER_BYTES)}`;
}

/** The beginning of a text, by its bytes in UTF-8 and in whole characters. */
function cutBytes(text: string, bytes: number): string {
  // As of a stream, the first bytes of a character are kept back.
  return new TextDecoder().decode(Buffer.from(text).subarray(0, bytes), { stream: true });
}

function detailsOf({ total, currency, reservedAtMs }: Order): string {
  return `${total} ${currency} (minor units), reserved ${new Date(reservedAtMs).toISOString()}`;
}

/** Notifications under way in this process; the relay takes the rest two seconds later. */
const IN_FLIGHT_MAX = 64;

export interface NotifierDeps extends Stores {
  engine: Pick<OrderEngine, 'signalEnded' | 'signalCancelRequested' | 'startCallOff' | 'nudge'>;
}

export type EngineNotifier = ReturnType<typeof createEngineNotifier>;

/** Tells workflows at once what MySQL has as due for them. What fails here is done by a relay. */
export function createEngineNotifier({ engine, budget, reservations, tracing, log }: NotifierDeps) {
  const inFlight = new Set<Promise<void>>();

  function inBackground(orderNo: string, work: () => Promise<void>): void {
    if (inFlight.size >= IN_FLIGHT_MAX) return;
    const running = work()
      .catch((error: unknown) =>
        log.warn({ err: error, orderNo }, 'a workflow was not told; a relay will do it'),
      )
      .finally(() => inFlight.delete(running));
    inFlight.add(running);
  }

  /** @param tell false: no workflow runs that would give the slot back */
  async function withSlot(order: Order, step: string, tell: () => Promise<boolean>): Promise<void> {
    const { orderNo } = order;
    if ((await budget.acquire([orderNo])).length === 0) return;
    let isTold = false;
    try {
      isTold = await takeStep({ tracing, log }, step, order, tell, { kind: 'client' });
    } finally {
      if (!isTold) await budget.release([orderNo]);
    }
  }

  return {
    /** The order was paid. */
    paid: ({ order, state, mayRun }: StoredOrder): void => {
      if (mayRun)
        inBackground(order.orderNo, () =>
          withSlot(order, 'signal payment', () => engine.signalEnded(order.orderNo, state)),
        );
    },

    cancelRequested: ({ order, state, windowEndsAtMs }: WishRecorded): void =>
      inBackground(order.orderNo, async () => {
        await reservations.project(order.orderNo, state);
        await withSlot(order, 'signal cancel', async () => {
          await engine.signalCancelRequested(order, windowEndsAtMs);
          return true;
        });
      }),

    /** Where it fails the reconciliation starts it. */
    calledOff: (job: Pick<CallOffInput, 'jobId'> & CallOffTerms): void =>
      inBackground(job.jobId, () => engine.startCallOff(job)),

    /** Staff have its failing step tried again. Where this fails the step goes on at its own pace. */
    retried: (workflowId: string): void => inBackground(workflowId, () => engine.nudge(workflowId)),

    /** For an ordered shutdown: what is under way is finished. */
    async drain(): Promise<void> {
      await Promise.all(inFlight);
    },
  };
}
