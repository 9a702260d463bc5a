/** How workflows call their activities: quickly first, then with patience. */

import type { Duration } from '@temporalio/common';
import {
  ActivityFailure,
  ApplicationFailure,
  proxyActivities,
  proxyLocalActivities,
  type RetryPolicy,
} from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import { FAILURE_REASONS, type FailureReason, type Order, type OrderState } from '../domain/order.ts';
import { ORDER_REFUSED } from './contract.ts';

/** A step is a statement or two; one that takes longer has met a server that hangs. */
const STEP_TIMEOUT = '10 seconds';
/** Doubling from a second to a minute: a store that is away is neither hammered nor found late. */
const PATIENCE: RetryPolicy = {
  initialInterval: '1 second',
  backoffCoefficient: 2,
  maximumInterval: '1 minute',
};
/** About five minutes of patience: an incident, not a hiccup, so a person should know. */
const TRIES_BEFORE_PARKING = 10;
/** Even past its deadline an order gets one honest try to be stored. */
const LAST_TRY_MS = 5_000;

/** Local activities spare the server three events a step. They fit while the stores are well: three tries in about a second. */
function quick(summary: string): Activities {
  return proxyLocalActivities<Activities>({
    summary,
    startToCloseTimeout: '3 seconds',
    scheduleToCloseTimeout: '6 seconds',
    retry: { initialInterval: '100 milliseconds', backoffCoefficient: 3, maximumAttempts: 3 },
  });
}

/**
 * Stores the order; while the store is away it tries again until the shopper's deadline.
 * @returns the stored state, or why the order can never be stored
 */
export async function persist(order: Order, deadlineMs: number): Promise<OrderState | FailureReason> {
  const summary = 'Store the order';
  try {
    return await quick(summary).persistOrder({ order });
  } catch (error) {
    const refused = refusalOf(error);
    if (refused) return refused;
  }
  const { persistOrder } = proxyActivities<Activities>({
    summary,
    startToCloseTimeout: STEP_TIMEOUT,
    scheduleToCloseTimeout: Math.max(deadlineMs - Date.now(), LAST_TRY_MS),
    retry: PATIENCE,
  });
  try {
    return await persistOrder({ order });
  } catch (error) {
    return refusalOf(error) ?? 'store_unavailable';
  }
}

/** Shows a person that a step keeps failing, and no longer once it has worked. */
export interface Parking {
  park: (activities: Activities, reason: string) => Promise<void>;
  unpark: (activities: Activities) => Promise<void>;
}

export function orderParking(orderNo: string): Parking {
  return {
    park: (activities, reason) => activities.parkOrder({ orderNo, reason }),
    unpark: (activities) => activities.unparkOrder({ orderNo }),
  };
}

/** The step must happen: quick tries, then patient ones, then a person is told and the tries go on. */
export async function insist<T>(
  parking: Parking,
  summary: string,
  step: (activities: Activities) => Promise<T>,
): Promise<T> {
  try {
    return await step(quick(summary));
  } catch {
    // Every failure of these steps is the stores'; Temporal's history keeps each of them.
  }
  return insistPatiently(parking, { summary, startToCloseTimeout: STEP_TIMEOUT }, step);
}

/** As `insist`, without the quick tries: for what talks to a provider. Once parked, tries are at most `parkedInterval` apart. */
export async function insistPatiently<T>(
  parking: Parking,
  options: { summary: string; startToCloseTimeout: Duration; parkedInterval?: Duration },
  step: (activities: Activities) => Promise<T>,
): Promise<T> {
  const { parkedInterval, ...patient } = options;
  try {
    const retry = { ...PATIENCE, maximumAttempts: TRIES_BEFORE_PARKING };
    return await step(proxyActivities<Activities>({ ...patient, retry }));
  } catch (error) {
    const retry = parkedInterval === undefined ? PATIENCE : { ...PATIENCE, maximumInterval: parkedInterval };
    const endless = proxyActivities<Activities>({ ...patient, retry });
    const reason = `${patient.summary}: ${rootMessage(error)}`;
    const [result] = await Promise.all([step(endless), parking.park(endless, reason)]);
    await parking.unpark(endless);
    return result;
  }
}

/** Closes what is open at the provider. Bounded: should it fail, the order is cancelled anyway and late money refunded. */
export async function voidSessions(orderNo: string): Promise<void> {
  const { voidPaymentSessions } = proxyActivities<Activities>({
    summary: 'Close payment sessions',
    startToCloseTimeout: STEP_TIMEOUT,
    scheduleToCloseTimeout: '1 minute',
    retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumAttempts: 5 },
  });
  try {
    await voidPaymentSessions({ orderNo });
  } catch (error) {
    if (!(error instanceof ActivityFailure)) throw error;
  }
}

function refusalOf(error: unknown): FailureReason | undefined {
  // A local activity's failure comes bare, a regular one's wrapped.
  const cause = error instanceof ActivityFailure ? error.cause : error;
  if (!(cause instanceof ApplicationFailure) || cause.type !== ORDER_REFUSED) return undefined;
  const reason: unknown = cause.details?.[0];
  return FAILURE_REASONS.find((known) => known === reason);
}

function rootMessage(error: unknown): string {
  const cause = error instanceof ActivityFailure ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}
