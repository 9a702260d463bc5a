/** The steps that the workflows take, each under the summary by which the Web UI shows it. */

import { ActivityFailure, ApplicationFailure, proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Activities, StockSettled } from '../activities/index.ts';
import {
  FAILURE_REASONS,
  orderDeadlineMs,
  type FailureReason,
  type Order,
  type OrderState,
} from '../domain/order.ts';
import { ORDER_REFUSED, paymentsQueueOf, type RefundInput } from './contract.ts';
import { SUMMARIES } from './summaries.ts';
import { PATIENCE, patiently, quick, STEP_TIMEOUT, untilDone, type Parking } from './until-done.ts';

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
