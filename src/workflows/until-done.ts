/**
 * Calls a step until it is done: quickly at first, then patiently, and at last while an operator can see that
 * it keeps failing.
 */

import type { Duration } from '@temporalio/common';
import {
  ActivityFailure,
  proxyActivities,
  proxyLocalActivities,
  type RetryPolicy,
} from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';

/** A step is a statement or two; one that takes longer has met a server that hangs. */
export const STEP_TIMEOUT = '10 seconds';
/** Doubling from a second to a minute: a store that is away is neither hammered nor found late. */
export const PATIENCE: RetryPolicy = {
  initialInterval: '1 second',
  backoffCoefficient: 2,
  maximumInterval: '1 minute',
};
/** About five minutes of patience: an incident, not a hiccup, so an operator should know. */
const TRIES_BEFORE_PARKING = 10;

/** Shows an operator that a step keeps failing, and takes that off the list once it has worked. */
export interface Parking {
  park: (activities: Activities, failure: StepFailure) => Promise<void>;
  unpark: (activities: Activities) => Promise<void>;
}

interface StepFailure {
  /** The summary under which the Web UI shows the step. */
  step: string;
  reason: string;
}

type Step<T> = (activities: Activities) => Promise<T>;

/**
 * Local activities spare the server three events a step. They fit while the stores are well: three tries in
 * about a second.
 */
export function quick(summary: string): Activities {
  return proxyLocalActivities<Activities>({
    summary,
    startToCloseTimeout: '3 seconds',
    scheduleToCloseTimeout: '6 seconds',
    retry: { initialInterval: '100 milliseconds', backoffCoefficient: 3, maximumAttempts: 3 },
  });
}

/** For a step that needs the stores alone. It never fails: it is tried until it is done. */
export async function untilDone<T>(parking: Parking, summary: string, step: Step<T>): Promise<T> {
  try {
    return await step(quick(summary));
  } catch {
    // Every failure of these steps is the stores'; Temporal's history keeps each of them.
  }
  return patiently(parking, { summary, startToCloseTimeout: STEP_TIMEOUT }, step);
}

/**
 * As `untilDone`, without the quick tries: for a step that calls a provider, in the task queue of these. Once
 * parked, tries are at most `parkedInterval` apart.
 */
export async function patiently<T>(
  parking: Parking,
  options: { summary: string; startToCloseTimeout: Duration; taskQueue?: string; parkedInterval?: Duration },
  step: Step<T>,
): Promise<T> {
  const { parkedInterval, ...patient } = options;
  const { summary } = options;
  try {
    const retry = { ...PATIENCE, maximumAttempts: TRIES_BEFORE_PARKING };
    return await step(proxyActivities<Activities>({ ...patient, retry }));
  } catch (error) {
    const retry = parkedInterval === undefined ? PATIENCE : { ...PATIENCE, maximumInterval: parkedInterval };
    const endless = proxyActivities<Activities>({ ...patient, retry });
    // Parking needs the stores alone, so it does not wait where the step does.
    const shown = proxyActivities<Activities>({
      summary,
      startToCloseTimeout: STEP_TIMEOUT,
      retry: PATIENCE,
    });
    const reason = `${summary}: ${rootMessage(error)}`;
    const [result] = await Promise.all([step(endless), parking.park(shown, { step: summary, reason })]);
    await parking.unpark(shown);
    return result;
  }
}

function rootMessage(error: unknown): string {
  const cause = error instanceof ActivityFailure ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}
