/** The runs of one workflow as an operator sees them, and a nudge for steps that wait for their next try. */

import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { z } from 'zod';

/** Runs that are shown. An order has one as a rule, and a few where an operator ended its workflow. */
const RUNS_MAX = 10;
/** Of gRPC. */
const IDENTITY = 'holdfast-ops';

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

export interface PendingStep {
  name: string;
  /** Which try is under way or next. */
  attempt: number;
  /** Why the last one failed; undefined: none has. */
  lastError: string | undefined;
  /** Undefined: it is under way. */
  nextTryAt: Date | undefined;
}

export function createWorkflowRuns(client: Client) {
  const call = <T>(work: () => Promise<T>) => client.withDeadline(Date.now() + CALL_TIMEOUT_MS, work);

  async function describe(workflowId: string) {
    try {
      return await call(() => client.workflow.getHandle(workflowId).describe());
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return undefined;
      throw error;
    }
  }

  async function listRunIds(workflowId: string): Promise<string[]> {
    return call(async () => {
      const runIds: string[] = [];
      // A provider's id of a payment may have any characters.
      const query = `WorkflowId = "${workflowId.replaceAll(/["\\]/g, '\\$&')}"`;
      for await (const { runId } of client.workflow.list({ query, pageSize: RUNS_MAX })) {
        if (runIds.push(runId) >= RUNS_MAX) break;
      }
      return runIds;
    });
  }

  async function readRun(workflowId: string, runId: string): Promise<WorkflowRun | undefined> {
    try {
      const handle = client.workflow.getHandle(workflowId, runId);
      const [described, history] = await Promise.all([
        call(() => handle.describe()),
        call(() => handle.fetchHistory()),
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

  return {
    /** The oldest first; empty when Temporal has no such workflow. Older runs may be listed a second late. */
    async list(workflowId: string): Promise<WorkflowRun[]> {
      const [current, listed] = await Promise.all([describe(workflowId), listRunIds(workflowId)]);
      const runIds = new Set([...listed, ...(current ? [current.runId] : [])]);
      const runs = await Promise.all([...runIds].map((runId) => readRun(workflowId, runId)));
      return runs
        .filter((run) => run !== undefined)
        .toSorted((a, b) => a.startedAt.getTime() - b.startedAt.getTime());
    },

    /**
     * Has the steps that wait for their next try tried at once.
     * @returns how many
     */
    async nudge(workflowId: string): Promise<number> {
      const pending = (await describe(workflowId))?.raw.pendingActivities ?? [];
      const waiting = pending.filter((step) => toPendingStep(step).nextTryAt !== undefined);
      for (const { activityId } of waiting) {
        await call(() =>
          client.workflowService.resetActivity({
            namespace: client.options.namespace,
            execution: { workflowId },
            identity: IDENTITY,
            id: activityId ?? '',
          }),
        );
      }
      return waiting.length;
    },
  };
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
