/** The Temporal Schedule by which the reconciliation runs, made and kept up to date by the workers. */

import {
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
  type Client,
  type ScheduleDescription,
  type ScheduleOptions,
} from '@temporalio/client';
import { RECONCILE_SCHEDULE, RECONCILE_WORKFLOW, TASK_QUEUE } from '../workflows/contract.ts';

/**
 * Longer than the engine's calls: to describe or update a schedule Temporal asks a workflow of its own, which
 * takes seconds where the machine is busy. Only the schedule's keeper waits for it.
 */
const CALL_TIMEOUT_MS = 20_000;
/** Twice what a step may take: a run that never ends would keep all later ones from starting. */
const RUN_TIMEOUT_MS = 10 * 60_000;
/** A run that was missed while Temporal was away is not made up for: the next one finds the same. */
const CATCHUP_WINDOW_MS = 10_000;

export type EnsureOutcome = 'created' | 'updated' | 'unchanged';

export type ReconcileSchedule = ReturnType<typeof createReconcileSchedule>;

/**
 * @param everyMs the interval of the runs; while one goes on, those that would overlap it are skipped
 * @param stopping ends the wait for a call, as a process that stops has less time than one may take
 */
export function createReconcileSchedule(client: Client, everyMs: number, stopping?: AbortSignal) {
  const call = <T>(work: () => Promise<T>) => {
    const answer = client.withDeadline(Date.now() + CALL_TIMEOUT_MS, work);
    return stopping ? untilAborted(answer, stopping) : answer;
  };
  const wanted = optionsOf(everyMs);

  return {
    /** @throws when Temporal is away */
    async exists(): Promise<boolean> {
      try {
        await call(() => client.schedule.getHandle(RECONCILE_SCHEDULE).describe());
        return true;
      } catch (error) {
        if (error instanceof ScheduleNotFoundError) return false;
        throw error;
      }
    },

    /**
     * Makes the schedule, or brings it up to date. Other workers may do so at the same time. A schedule that
     * an operator paused stays paused.
     * @throws when Temporal is away: to be called again
     */
    async ensure(): Promise<EnsureOutcome> {
      const handle = client.schedule.getHandle(RECONCILE_SCHEDULE);
      try {
        if (isAsWanted(await call(() => handle.describe()), everyMs)) return 'unchanged';
        await call(() => handle.update(({ state }) => ({ ...wanted, state })));
        return 'updated';
      } catch (error) {
        if (!(error instanceof ScheduleNotFoundError)) throw error;
      }
      try {
        await call(() => client.schedule.create({ ...wanted, scheduleId: RECONCILE_SCHEDULE }));
        return 'created';
      } catch (error) {
        // Another worker was first.
        if (error instanceof ScheduleAlreadyRunning) return 'unchanged';
        throw error;
      }
    },
  };
}

/** The SDK's own abort does nothing on a worker's connection. @throws once the signal aborts */
function untilAborted<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new Error('not waited for: the process stops', { cause: signal.reason }));
    signal.addEventListener('abort', abort, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
  });
}

function optionsOf(everyMs: number) {
  return {
    spec: { intervals: [{ every: everyMs }] },
    action: {
      type: 'startWorkflow',
      workflowType: RECONCILE_WORKFLOW,
      workflowId: RECONCILE_SCHEDULE,
      taskQueue: TASK_QUEUE,
      workflowRunTimeout: RUN_TIMEOUT_MS,
    },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: CATCHUP_WINDOW_MS },
  } satisfies Omit<ScheduleOptions, 'scheduleId'>;
}

function isAsWanted({ spec, action, policies }: ScheduleDescription, everyMs: number): boolean {
  const [interval, ...others] = spec.intervals ?? [];
  return (
    interval?.every === everyMs &&
    others.length === 0 &&
    action.workflowType === RECONCILE_WORKFLOW &&
    action.taskQueue === TASK_QUEUE &&
    action.workflowRunTimeout === RUN_TIMEOUT_MS &&
    policies.overlap === ScheduleOverlapPolicy.SKIP
  );
}
