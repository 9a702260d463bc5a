/**
 * The Temporal Schedule by which the reconciliation runs, made and kept up to date by the workers. It also
 * shows whose a task queue of the namespace is: its memo, which comes with it, has the deployment's id.
 */

import {
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
  type Client,
  type ScheduleDescription,
  type ScheduleOptions,
} from '@temporalio/client';
import { z } from 'zod';
import { showDeployment, WrongDeploymentError, type Deployment } from '../deployment.ts';
import { RECONCILE_WORKFLOW, reconcileScheduleOf, type StepOutcome } from '../workflows/contract.ts';

/**
 * Longer than the engine's calls: to describe or update a schedule Temporal asks a workflow of its own, which
 * takes seconds where the machine is busy. Only the schedule's keeper waits for it.
 */
const CALL_TIMEOUT_MS = 20_000;
/** Twice what a step may take: a run that never ends would keep all later ones from starting. */
const RUN_TIMEOUT_MS = 10 * 60_000;
/** A run that was missed while Temporal was away is not made up for: the next one finds the same. */
const CATCHUP_WINDOW_MS = 10_000;
/** Of the memo that a run of the reconciliation has, as the Web UI shows it. */
const OWNER = 'deployment';

const outcomesSchema: z.ZodType<Record<string, StepOutcome>> = z.record(
  z.string(),
  z.union([
    z.object({ looked: z.int(), repaired: z.int(), parked: z.int() }),
    z.object({ failed: z.string() }),
  ]),
);

/** A run of the reconciliation. */
export interface ReconcileRun {
  runId: string;
  startedAt: Date;
  /** Undefined: it goes on. */
  endedAt: Date | undefined;
  /** By the names of the steps; undefined: it goes on, or it was ended from outside. */
  outcomes: Record<string, StepOutcome> | undefined;
}

/**
 * Has the reconciliation run once, at once or after the run that is under way.
 * @throws when Temporal is away, or no worker has made the schedule yet
 */
export async function requestRun(client: Client, taskQueue: string): Promise<void> {
  // The schedule's own policy would skip it while a run is under way.
  await client.schedule.getHandle(reconcileScheduleOf(taskQueue)).trigger(ScheduleOverlapPolicy.BUFFER_ONE);
}

/** The run that began last; undefined: none has. Throws like `requestRun`. */
export async function readLatestRun(client: Client, taskQueue: string): Promise<ReconcileRun | undefined> {
  const { info } = await client.schedule.getHandle(reconcileScheduleOf(taskQueue)).describe();
  const latest = info.recentActions.at(-1)?.action.workflow;
  if (!latest) return undefined;
  const handle = client.workflow.getHandle(latest.workflowId, latest.firstExecutionRunId);
  const { startTime, closeTime, status } = await handle.describe();
  const outcomes = status.name === 'COMPLETED' ? outcomesSchema.parse(await handle.result()) : undefined;
  return { runId: latest.firstExecutionRunId, startedAt: startTime, endedAt: closeTime, outcomes };
}

export type EnsureOutcome = 'created' | 'updated' | 'unchanged';

/** Whose the queue is, or is to be. */
export interface QueueOwner {
  taskQueue: string;
  deployment: Deployment;
}

export interface WantedSchedule extends QueueOwner {
  /** The interval of the runs. While one goes on, those that would overlap it are skipped. */
  everyMs: number;
}

/**
 * @param stopping ends the wait for a call, as a process that stops has less time than one may take
 * @throws WrongDeploymentError; when Temporal is away
 */
export async function hasSchedule(
  client: Client,
  owner: QueueOwner,
  stopping?: AbortSignal,
): Promise<boolean> {
  return (await inTime(client, () => findSchedule(client, owner), stopping)) !== undefined;
}

/**
 * Makes the schedule, or brings it up to date. Other workers may do so at the same time. A schedule that an
 * operator paused stays paused.
 * @param stopping ends the wait for a call
 * @throws WrongDeploymentError; when Temporal is away: to be called again
 */
export async function ensureSchedule(
  client: Client,
  schedule: WantedSchedule,
  stopping?: AbortSignal,
): Promise<EnsureOutcome> {
  const wanted = optionsOf(schedule);
  const found = await inTime(client, () => findSchedule(client, schedule), stopping);
  if (found && isAsWanted(found, wanted)) return 'unchanged';
  if (found) {
    const handle = client.schedule.getHandle(wanted.scheduleId);
    const { scheduleId: _, ...options } = wanted;
    await inTime(client, () => handle.update(({ state }) => ({ ...options, state })), stopping);
    return 'updated';
  }
  try {
    await inTime(client, () => client.schedule.create(wanted), stopping);
    return 'created';
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    // Another worker was first: of this deployment, or of another.
    await inTime(client, () => findSchedule(client, schedule), stopping);
    return 'unchanged';
  }
}

function inTime<T>(client: Client, work: () => Promise<T>, stopping: AbortSignal | undefined): Promise<T> {
  const answer = client.withDeadline(Date.now() + CALL_TIMEOUT_MS, work);
  return stopping ? untilAborted(answer, stopping) : answer;
}

/**
 * For a process that makes no schedule.
 * @param late ends the wait for the answer; the call itself goes on until its connection is closed
 * @returns whether the queue is known to be this deployment's; false: no worker has taken it yet
 * @throws WrongDeploymentError; when Temporal does not answer in time
 */
export async function isOwnQueue(client: Client, owner: QueueOwner, late: AbortSignal): Promise<boolean> {
  const found = await untilAborted(findSchedule(client, owner), late);
  return found !== undefined && ownerOf(found) !== undefined;
}

/** @throws WrongDeploymentError when it is another deployment's */
async function findSchedule(
  client: Client,
  { taskQueue, deployment }: QueueOwner,
): Promise<ScheduleDescription | undefined> {
  const scheduleId = reconcileScheduleOf(taskQueue);
  try {
    const found = await client.schedule.getHandle(scheduleId).describe();
    const owner = ownerOf(found);
    if (owner === undefined || owner === deployment.id) return found;
    throw new WrongDeploymentError(
      `The task queue ${taskQueue} of Temporal's namespace ${client.options.namespace} belongs to another deployment, ${owner}, than MySQL, ${showDeployment(deployment)}. Give this deployment a TEMPORAL_TASK_QUEUE of its own, or another TEMPORAL_NAMESPACE. Where the other is gone for good, delete its schedule ${scheduleId}.`,
    );
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return undefined;
    throw error;
  }
}

/** Undefined of a schedule that was made before it had an owner: who finds it takes it. */
function ownerOf({ action }: ScheduleDescription): string | undefined {
  const owner = action.memo?.[OWNER];
  return typeof owner === 'string' ? owner : undefined;
}

/** The SDK's own abort does nothing on a worker's connection. @throws once the signal aborts */
function untilAborted<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new Error('not waited for any longer', { cause: signal.reason }));
    signal.addEventListener('abort', abort, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
  });
}

function optionsOf({ taskQueue, deployment, everyMs }: WantedSchedule) {
  const scheduleId = reconcileScheduleOf(taskQueue);
  return {
    scheduleId,
    spec: { intervals: [{ every: everyMs }] },
    action: {
      type: 'startWorkflow',
      workflowType: RECONCILE_WORKFLOW,
      workflowId: scheduleId,
      taskQueue,
      workflowRunTimeout: RUN_TIMEOUT_MS,
      // Of the action, because that of the schedule cannot be changed later.
      memo: { [OWNER]: deployment.id },
    },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: CATCHUP_WINDOW_MS },
  } satisfies ScheduleOptions;
}

function isAsWanted(
  found: ScheduleDescription,
  { spec: { intervals }, action: wanted }: ReturnType<typeof optionsOf>,
): boolean {
  const [interval, ...others] = found.spec.intervals ?? [];
  return (
    interval?.every === intervals[0]?.every &&
    others.length === 0 &&
    found.action.workflowType === RECONCILE_WORKFLOW &&
    found.action.taskQueue === wanted.taskQueue &&
    found.action.workflowRunTimeout === RUN_TIMEOUT_MS &&
    ownerOf(found) === wanted.memo[OWNER] &&
    found.policies.overlap === ScheduleOverlapPolicy.SKIP
  );
}
