/** The steps that the workflows take, each under the summary by which the Web UI shows it. */

import type { Duration } from '@temporalio/common';
import {
  ActivityFailure,
  proxyActivities,
  proxyLocalActivities,
  type RetryPolicy,
  ApplicationFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type { Activities, StockSettled } from '../activities/index.ts';
import type { Order } from '../orders/content.ts';
import {
  FAILURE_REASONS,
  orderDeadlineMs,
  type FailureReason,
  type OrderState,
  type ClosingReason,
} from '../orders/order.ts';
import { ORDER_REFUSED, paymentsQueueOf, type RefundInput } from './contract.ts';

/** The words under which the Web UI shows each step. */
export const SUMMARIES = {
  storeOrder: 'Store the order',
  abandonOrder: 'Abandon the order',
  paymentWindow: 'Payment window',
  markPaid: 'Mark paid',
  cancelOrder: ({ reason }: { reason: ClosingReason }) => `Cancel: ${reason}`,
  closeSessions: 'Close payment sessions',
  confirmStock: 'Held stock becomes sold',
  releaseStock: 'Release the stock',
  refundPayment: 'Refund the payment',
  refundPending: 'Refund pending at the provider',
  parkRefund: 'Show the refund to an operator',
  unparkRefund: 'Take the refund off the list',
  giveBack: 'Limit and stock come back',
};

// Calls a step until it is done: quickly at first, then patiently, and at last while an operator can see
// that it keeps failing.

/** A step is a statement or two; one that takes longer has met a server that hangs. */
const STEP_TIMEOUT = '10 seconds';
/** Doubling from a second to a minute: a store that is away is neither hammered nor found late. */
const PATIENCE: RetryPolicy = {
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
function quick(summary: string): Activities {
  return proxyLocalActivities<Activities>({
    summary,
    startToCloseTimeout: '3 seconds',
    scheduleToCloseTimeout: '6 seconds',
    retry: { initialInterval: '100 milliseconds', backoffCoefficient: 3, maximumAttempts: 3 },
  });
}

/** For a step that needs the stores alone. It never fails: it is tried until it is done. */
async function untilDone<T>(parking: Parking, summary: string, step: Step<T>): Promise<T> {
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
async function patiently<T>(
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

/** Even past its deadline an order gets one honest try to be stored. */
const LAST_TRY_MS = 5_000;
const REFUND_OPTIONS = {
  summary: SUMMARIES.refundPayment,
  // Two calls of the provider, each of which has five seconds, and some statements.
  startToCloseTimeout: '20 seconds',
  // An operator may overcome a refusal, say with money on the provider's account: soon enough after that, and
  // still rare.
  parkedInterval: '10 minutes',
} as const;

type StoreOutcome =
  | { kind: 'stored'; state: OrderState & StockSettled }
  | { kind: 'not-stored'; reason: FailureReason };

export type Steps = ReturnType<typeof createSteps>;

/** @param parking where a step that keeps failing is shown */
export function createSteps(parking: Parking) {
  const step =
    <I, R>(
      of: (activities: Activities) => (input: I) => Promise<R>,
      summary: string | ((input: I) => string),
    ) =>
    (input: I): Promise<R> =>
      untilDone(parking, typeof summary === 'string' ? summary : summary(input), (activities) =>
        of(activities)(input),
      );

  return {
    storeOrder,
    abandonOrder: step((activities) => activities.abandonOrder, SUMMARIES.abandonOrder),
    markPaid: step((activities) => activities.markPaid, SUMMARIES.markPaid),
    cancelOrder: step((activities) => activities.cancelOrder, SUMMARIES.cancelOrder),
    closeSessions,
    confirmStock: step((activities) => activities.confirmStock, SUMMARIES.confirmStock),
    releaseStock: step((activities) => activities.releaseStock, SUMMARIES.releaseStock),
    refundPayment: (input: RefundInput) =>
      patiently(parking, { ...REFUND_OPTIONS, taskQueue: paymentsQueue() }, (activities) =>
        activities.refundPayment(input),
      ),
    parkRefund: step((activities) => activities.parkRefund, SUMMARIES.parkRefund),
    unparkRefund: step((activities) => activities.unparkRefund, SUMMARIES.unparkRefund),
    giveBack: step((activities) => activities.giveBack, SUMMARIES.giveBack),
  };
}

/** Beside the queue of this workflow. */
function paymentsQueue(): string {
  return paymentsQueueOf(workflowInfo().taskQueue);
}

/** Stores the order; while the store is away it tries again until the shopper's deadline. */
async function storeOrder(order: Order): Promise<StoreOutcome> {
  const summary = SUMMARIES.storeOrder;
  try {
    return { kind: 'stored', state: await quick(summary).persistOrder({ order }) };
  } catch (error) {
    const reason = refusalOf(error);
    if (reason) return { kind: 'not-stored', reason };
  }
  const { persistOrder } = proxyActivities<Activities>({
    summary,
    startToCloseTimeout: STEP_TIMEOUT,
    scheduleToCloseTimeout: Math.max(orderDeadlineMs(order) - Date.now(), LAST_TRY_MS),
    retry: PATIENCE,
  });
  try {
    return { kind: 'stored', state: await persistOrder({ order }) };
  } catch (error) {
    return { kind: 'not-stored', reason: refusalOf(error) ?? 'store_unavailable' };
  }
}

/**
 * Closes what is open at the provider. Bounded: should it fail, the order is cancelled anyway and late money
 * refunded.
 */
async function closeSessions(input: { orderNo: string }): Promise<void> {
  const { voidPaymentSessions } = proxyActivities<Activities>({
    summary: SUMMARIES.closeSessions,
    taskQueue: paymentsQueue(),
    startToCloseTimeout: STEP_TIMEOUT,
    scheduleToCloseTimeout: '1 minute',
    retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumAttempts: 5 },
  });
  try {
    await voidPaymentSessions(input);
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
