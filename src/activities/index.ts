/**
 * All activities of the worker: the steps of an order, and by `createRefundActivities` those of a refund.
 * They are thin over the stores and the provider, and each may run twice or die half-way.
 */

import { ApplicationFailure } from '@temporalio/activity';
import type { ClosingReason, FailureReason, Order, OrderState } from '../domain/order.ts';
import type { PaymentSessions } from '../stores/mysql/money/payment-sessions.ts';
import type { Payments } from '../stores/mysql/money/payments.ts';
import type { AbandonOutcome, CancelOutcome, Orders } from '../stores/mysql/orders/orders.ts';
import type { Reservations } from '../stores/redis/reservations.ts';
import { ORDER_REFUSED } from '../workflows/contract.ts';
import { createRefundActivities, type RefundActivityDeps } from './refunds.ts';

export interface ActivityDeps extends RefundActivityDeps {
  orders: Pick<Orders, 'storeOrder' | 'abandon' | 'markPaid' | 'cancel' | 'park' | 'unpark' | 'read'>;
  payments: Pick<Payments, 'record'>;
  paymentSessions: Pick<PaymentSessions, 'listOpen' | 'recordClosed'>;
  reservations: Pick<Reservations, 'confirm' | 'release'> & RefundActivityDeps['reservations'];
}

export type Activities = ReturnType<typeof createActivities>;

export function createActivities(deps: ActivityDeps) {
  const { orders, payments, paymentSessions, reservations, budget, provider } = deps;

  /** Updates the projection to the state that MySQL has committed, and releases the order's engine slot. */
  async function projectState(orderNo: string, state: OrderState): Promise<void> {
    await Promise.all([reservations.project(orderNo, state), budget.release([orderNo])]);
  }

  return {
    ...createRefundActivities(deps),

    /**
     * Stores the order; one that is stored already stays as it is.
     * @throws ApplicationFailure `OrderRefused`, not retryable, when it can never be stored
     */
    async persistOrder({ order }: { order: Order }): Promise<OrderState> {
      const outcome = await orders.storeOrder(order, 'started');
      if (outcome.kind === 'refused') {
        throw ApplicationFailure.nonRetryable(
          `order refused: ${outcome.reason}`,
          ORDER_REFUSED,
          outcome.reason,
        );
      }
      await projectState(order.orderNo, outcome.state);
      return outcome.state;
    },

    /** Unless the order is stored, puts a tombstone in its place, so that no later write stores it. */
    async abandonOrder({ order, reason }: { order: Order; reason: FailureReason }): Promise<AbandonOutcome> {
      const outcome = await orders.abandon(order, reason);
      await projectState(order.orderNo, outcome.state);
      return outcome;
    },

    /** Applies the order's payment from the inbox; without a payment the order stays as it is. */
    async markPaid({ orderNo }: { orderNo: string }): Promise<OrderState> {
      const state = await orders.markPaid(orderNo);
      await projectState(orderNo, state);
      return state;
    },

    /**
     * Cancels the order, unless a payment came first or, without `force`, payment sessions are still open.
     */
    async cancelOrder(input: {
      orderNo: string;
      reason: ClosingReason;
      force: boolean;
    }): Promise<CancelOutcome> {
      const { orderNo, reason, force } = input;
      const outcome = await orders.cancel(orderNo, reason, { force });
      await projectState(orderNo, outcome.state);
      return outcome;
    },

    /** held → sold in Redis. */
    async confirmStock({ orderNo }: { orderNo: string }): Promise<void> {
      await reservations.confirm(orderNo);
    },

    /** held → released in Redis, after MySQL has committed the order's end. */
    async releaseStock({ orderNo }: { orderNo: string }): Promise<void> {
      await reservations.release(orderNo);
    },

    /** Closes the order's sessions at the provider. Records the payment of one that was paid meanwhile. */
    async voidPaymentSessions({ orderNo }: { orderNo: string }): Promise<void> {
      for (const session of await paymentSessions.listOpen(orderNo)) {
        // A process died after asking for the session and before recording its id. A repeat returns the same
        // one.
        const { providerSessionId } =
          session.providerSessionId === null
            ? await provider.openSession(session)
            : { providerSessionId: session.providerSessionId };
        const outcome = await provider.voidSession(providerSessionId);
        if (outcome.kind === 'already_paid') await payments.record(provider.name, outcome.payment);
        await paymentSessions.recordClosed(
          session.sessionId,
          outcome.kind === 'already_paid' ? 'paid' : 'voided',
        );
      }
    },

    /** Parks the order, so that an operator sees that one of its steps keeps failing. */
    async parkOrder({ orderNo, reason }: { orderNo: string; reason: string }): Promise<void> {
      await orders.park(orderNo, reason);
    },

    /** Ends the parking once the step has succeeded. */
    async unparkOrder({ orderNo }: { orderNo: string }): Promise<void> {
      await orders.unpark(orderNo);
    },
  };
}
