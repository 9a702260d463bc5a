/**
 * The life of one refund: the money goes back to the payer, and then limit and stock come back to the sale.
 */

import {
  CancellationScope,
  condition,
  continueAsNew,
  proxySinks,
  setHandler,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import { refundUpdated, type EngineSinks, type RefundInput } from './contract.ts';
import { createSteps, type Parking, SUMMARIES } from './steps.ts';

const { engineBudget } = proxySinks<EngineSinks>();

/** Most refunds are through by then. */
const FIRST_PAUSE_MS = 5_000;
/**
 * The provider's notice comes first as a rule; one that was lost costs an hour, of a refund that takes days.
 */
const MAX_PAUSE_MS = 60 * 60 * 1000;
/** A payer who has waited so long may need an answer from an operator. */
const SHOW_AFTER_MS = 24 * 60 * 60 * 1000;
/**
 * A look takes a dozen events, so this is some days: replayed within moments, and far below what the server
 * takes.
 */
const HISTORY_EVENTS_MAX = 1_000;

/** A refund that is not finished, since the provider accepted it or something was changed about it. */
interface Pending {
  /** Unix time in ms. */
  sinceMs: number;
  /** Until the next look. */
  pauseMs: number;
  /** To an operator. */
  isShown: boolean;
}

export interface RefundRun extends RefundInput {
  /** Handed on by the run before this one. */
  pending?: Pending;
}

export async function RefundWorkflow(input: RefundRun): Promise<void> {
  let { pending, ...payment } = input;
  const steps = createSteps(refundParking(payment));
  let hasNews = false;
  // Now, and not after the provider's answer: one that is slow must not keep the engine's slots from others.
  const releaseSlot = (): void => engineBudget.release(workflowInfo().workflowId);
  releaseSlot();
  setHandler(refundUpdated, () => {
    hasNews = true;
    releaseSlot();
  });

  // Cancelling the workflow itself, say in the Web UI, is no reason to keep the money.
  await CancellationScope.nonCancellable(async () => {
    do {
      hasNews = false;
      // A call that the provider does not answer, or refuses for now, is repeated inside the step (steps.ts).
      // This looks again at a refund that was accepted and is not finished, or that was refused for good.
      for (;;) {
        const progress = await steps.refundPayment(payment);
        if (progress === 'nothing-due' || progress === 'refunded') break;
        if (progress === 'pending') {
          pending ??= { sinceMs: Date.now(), pauseMs: FIRST_PAUSE_MS, isShown: false };
          if (Date.now() - pending.sinceMs >= SHOW_AFTER_MS) {
            // At each look, for a step that failed and then worked in between has taken it off the list.
            const reason = 'the provider has not finished the refund within a day';
            await steps.parkRefund({ ...payment, reason, cause: 'refund_slow' });
            pending = { ...pending, isShown: true };
          } else if (pending.isShown) {
            // It was refused, and is accepted by now.
            await steps.unparkRefund(payment);
            pending = { ...pending, isShown: false };
          }
          await condition(() => hasNews, pending.pauseMs, { summary: SUMMARIES.refundPending });
          pending = { ...pending, pauseMs: Math.min(pending.pauseMs * 2, MAX_PAUSE_MS) };
        } else {
          await steps.parkRefund({ ...payment, ...progress });
          // Without an end, in sight of an operator. A notice, a request of staff and a retry wake it.
          await condition(() => hasNews);
          pending = { sinceMs: Date.now(), pauseMs: FIRST_PAUSE_MS, isShown: true };
        }
        hasNews = false;
        if (workflowInfo().historyLength > HISTORY_EVENTS_MAX) {
          await continueAsNew<typeof RefundWorkflow>({ ...payment, pending });
        }
      }
      if (pending?.isShown) await steps.unparkRefund(payment);
      pending = undefined;
      await steps.giveBack(payment);
      // News in between may be of a refund that failed after all, or of stock that an operator gives back.
    } while (hasNews);
  });
}

// A refund may wait for weeks, and would keep its version of the worker alive so long. It goes on under the
// current one instead, so this code must always replay what has begun before. The server refuses the option
// of a worker without a version.
setWorkflowOptions(
  () =>
    workflowInfo().currentDeploymentVersion?.deploymentName ? { versioningBehavior: 'AUTO_UPGRADE' } : {},
  RefundWorkflow,
);

function refundParking(payment: RefundInput): Parking {
  return {
    park: (activities, failure) => activities.parkRefund({ ...payment, ...failure }),
    unpark: (activities) => activities.unparkRefund(payment),
  };
}
