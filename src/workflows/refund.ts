/** The life of one refund: the money goes back to whoever paid, and then what is to come back to the sale. */

import {
  CancellationScope,
  condition,
  continueAsNew,
  setHandler,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import type { RefundProgress } from '../activities/refunds.ts';
import { refundUpdated, type RefundInput } from './contract.ts';
import { insist, insistPatiently, type Parking } from './steps.ts';

/** Two calls of the provider, each of which has five seconds, and some statements. */
const REFUND_TIMEOUT = '20 seconds';
/** A refusal may be overcome by a person, say with money on the provider's account: soon enough after that, and still rare. */
const PARKED_INTERVAL = '10 minutes';
/** Most refunds are through by then. */
const FIRST_PAUSE_MS = 5_000;
/** The provider's notice comes first as a rule; one that was lost costs an hour, of a refund that takes days. */
const MAX_PAUSE_MS = 60 * 60 * 1000;
/** So long a payer has waited in vain, and may be told so by a person. */
const SHOW_AFTER_MS = 24 * 60 * 60 * 1000;
/** A look takes a dozen events, so this is some days: replayed within moments, and far below what the server takes. */
const HISTORY_EVENTS_MAX = 1_000;

/** The provider is at it. */
interface Pending {
  /** Unix time in ms. */
  sinceMs: number;
  /** Until the next look. */
  pauseMs: number;
  /** To a person. */
  isShown: boolean;
}

export interface RefundRun extends RefundInput {
  /** Handed on by the run before this one. */
  pending?: Pending;
}

export async function RefundWorkflow(input: RefundRun): Promise<void> {
  const { paymentId } = input;
  const parking = refundParking(paymentId);
  let { pending } = input;
  let isNews = false;
  setHandler(refundUpdated, () => {
    isNews = true;
  });

  // Cancelling the workflow itself, say in the Web UI, is no reason to keep the money.
  await CancellationScope.nonCancellable(async () => {
    do {
      isNews = false;
      while ((await refund(paymentId, parking)) === 'pending') {
        pending ??= { sinceMs: Date.now(), pauseMs: FIRST_PAUSE_MS, isShown: false };
        if (Date.now() - pending.sinceMs >= SHOW_AFTER_MS) {
          await show(parking);
          pending = { ...pending, isShown: true };
        }
        await condition(() => isNews, pending.pauseMs, { summary: 'The provider is at it' });
        isNews = false;
        pending = { ...pending, pauseMs: Math.min(pending.pauseMs * 2, MAX_PAUSE_MS) };
        if (workflowInfo().historyLength > HISTORY_EVENTS_MAX) {
          await continueAsNew<typeof RefundWorkflow>({ paymentId, pending });
        }
      }
      if (pending?.isShown) {
        await insist(parking, 'Show it no longer', (activities) => parking.unpark(activities));
      }
      pending = undefined;
      await insist(parking, 'Limit and stock come back', (activities) => activities.giveBack({ paymentId }));
      // News in between may be of a refund that failed after all, or of stock that a person gives back.
    } while (isNews);
  });
}

// A refund may wait for weeks, and would keep its version of the worker alive so long. It goes on under the current one
// instead, so this code must always replay what has begun before. The server refuses the option of a worker without a version.
setWorkflowOptions(
  () =>
    workflowInfo().currentDeploymentVersion?.deploymentName ? { versioningBehavior: 'AUTO_UPGRADE' } : {},
  RefundWorkflow,
);

function refund(paymentId: number, parking: Parking): Promise<RefundProgress> {
  return insistPatiently(
    parking,
    {
      summary: 'Refund the payment',
      startToCloseTimeout: REFUND_TIMEOUT,
      parkedInterval: PARKED_INTERVAL,
    },
    (activities) => activities.refundPayment({ paymentId }),
  );
}

/** At each look, for a step that failed and then worked in between has taken it off the list. */
function show(parking: Parking): Promise<void> {
  return insist(parking, 'Show it to a person', (activities) =>
    parking.park(activities, 'the provider has not finished the refund within a day'),
  );
}

function refundParking(paymentId: number): Parking {
  return {
    park: (activities, reason) => activities.parkRefund({ paymentId, reason }),
    unpark: (activities) => activities.unparkRefund({ paymentId }),
  };
}
