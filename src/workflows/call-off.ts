/**
 * Cancels or refunds all orders of what was called off, in passes over them, until a pass has found nothing
 * left. What it does is in MySQL, so it may begin again at any time. Where MySQL has lost its job, a step
 * writes it again by the terms.
 */

import {
  continueAsNew,
  proxyActivities,
  setWorkflowOptions,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { CallOffActivities, CallOffCursor } from '../activities/call-off.ts';
import type { CallOffInput } from './contract.ts';

/** Pages of one run: a thousand events, replayed within moments. */
const PAGES_MAX = 100;
/** Refunds end within this time, some dozens of them. */
const FULL_PAUSE_MS = 2_000;
/** After a pass that has found something left, doubling: orders end within seconds, some refunds in days. */
const FIRST_PAUSE_MS = 2_000;
const MAX_PAUSE_MS = 10 * 60_000;

const START: CallOffCursor = { phase: 'open', after: '' };

export interface CallOffRun extends CallOffInput {
  /** Handed on by the run before this one: where the pass goes on, what it has found, the pause after it. */
  cursor?: CallOffCursor;
  left?: number;
  pauseMs?: number;
}

/** A page beats, as of a worker that died. Every failure is the stores': it is tried until they are back. */
function stepsOf(summary: string, heartbeats?: { heartbeatTimeout: '10 seconds' }): CallOffActivities {
  return proxyActivities<CallOffActivities>({
    summary,
    // A page is a transaction, and some dozens of small ones; the others are a statement or two.
    startToCloseTimeout: '1 minute',
    ...heartbeats,
    retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '30 seconds' },
  });
}

export async function CallOffWorkflow(run: CallOffRun): Promise<void> {
  const { jobId, terms } = run;
  const input: CallOffInput = { jobId, terms };
  let { cursor = START, left = 0, pauseMs = FIRST_PAUSE_MS } = run;
  if (!run.cursor) await stepsOf('Refuse further orders').refuseCalledOff(input);
  for (let pages = 0; ; pages += 1) {
    if (pages === PAGES_MAX) await continueAsNew<typeof CallOffWorkflow>({ ...input, cursor, left, pauseMs });
    const summary = cursor.phase === 'open' ? 'Cancel open orders' : 'Ask money back';
    const page = await stepsOf(summary, { heartbeatTimeout: '10 seconds' }).callOffPage({ ...input, cursor });
    left += page.left;
    if (page.next) {
      cursor = page.next;
      if (page.isFull) await sleep(FULL_PAUSE_MS, { summary: 'Refunds under way' });
      continue;
    }
    if (await stepsOf('End the pass').endCallOffPass({ ...input, left })) return;
    await sleep(pauseMs, { summary: 'Until the next pass' });
    [cursor, left, pauseMs] = [START, 0, Math.min(pauseMs * 2, MAX_PAUSE_MS)];
  }
}

// It may last for as long as refunds do, so it goes on under the current version, as those do. The server
// refuses the option of a worker without a version.
setWorkflowOptions(
  () =>
    workflowInfo().currentDeploymentVersion?.deploymentName ? { versioningBehavior: 'AUTO_UPGRADE' } : {},
  CallOffWorkflow,
);
