/**
 * Notes each failed try of a step of parked work, so that an operator sees the newest error. The worker does
 * it and not the workflow, which would need new commands for it that open orders could not replay.
 */

import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { z } from 'zod';
import type { ParkedKind } from '../stores/mysql/rows/parked-facts.ts';
import type { RefundInput } from '../workflows/contract.ts';

/**
 * Notes under way at once. While a store is away thousands of steps may fail; what is not noted now is noted
 * at the step's next try.
 */
const NOTES_MAX = 10;

export interface FailureNotes {
  noteFailure(kind: ParkedKind, reference: string, error: string): Promise<void>;
  noteRefundFailure(payment: RefundInput, error: string): Promise<void>;
}

const ofOrder = z.object({ orderNo: z.string() });
const ofNewOrder = z.object({ order: ofOrder });
const ofRefund = z.object({
  paymentId: z.int(),
  provider: z.string().optional(),
  providerPaymentId: z.string().optional(),
});

/** A step that failed is never delayed by its note, and a note that fails is left out. */
export function createFailureNotes(notes: FailureNotes): ActivityInterceptorsFactory {
  let underWay = 0;

  async function note([input]: unknown[], error: string): Promise<void> {
    if (underWay >= NOTES_MAX) return;
    underWay += 1;
    try {
      const orderNo =
        ofOrder.safeParse(input).data?.orderNo ?? ofNewOrder.safeParse(input).data?.order.orderNo;
      const payment = ofRefund.safeParse(input).data;
      if (orderNo !== undefined) await notes.noteFailure('order', orderNo, error);
      else if (payment) await notes.noteRefundFailure(payment, error);
    } catch {
      // The store is away; the next failure is noted.
    } finally {
      underWay -= 1;
    }
  }

  return ({ info }) => ({
    inbound: {
      async execute(input, next) {
        try {
          return await next(input);
        } catch (error) {
          // A local activity is one of the quick tries, before anything is parked.
          const text = error instanceof Error ? error.message : String(error);
          if (!info.isLocal) void note(input.args, `${info.activityType}: ${text}`);
          throw error;
        }
      },
    },
  });
}
