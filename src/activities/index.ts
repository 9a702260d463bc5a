/**
 * All activities of the worker: the steps of an order, and by `createRefundActivities` those of a refund.
 * They are thin over the stores and the provider, and each may run twice or die half-way.
 */

import { ApplicationFailure, asyncLocalStorage } from '@temporalio/activity';
import type { Order } from '../domain/content.ts';
import { isFinal, type ClosingReason, type FailureReason, type OrderState } from '../domain/order.ts';
import { settleStock } from '../rebuild/settle-stock.ts';
import { storeWithHold } from '../rebuild/store-with-hold.ts';
import type { AbandonOutcome, CancelOutcome } from '../stores/mysql/orders/orders.ts';
import { ORDER_REFUSED } from '../workflows/contract.ts';
import { unlessBusy } from './provider-busy.ts';
import { createRefundActivities } from './refunds.ts';
import { createVoidSessions, type ActivityDeps } from './void-sessions.ts';

export type Activities = ReturnType<typeof createActivities>;

/**
 * What a step adds to its result when it has settled the stock of an order that has ended. Where it is
 * absent, `confirmStock` or `releaseStock` is still to be done: the step was of an older version, or Redis
 * was away.
 */
export interface StockSettled {
  stockSettled?: true;
}

export function createActivities(deps: ActivityDeps) {
  const { orders, reservations, budget } = deps;
  const voidSessions = createVoidSessions(deps);

  /**
   * Brings to Redis what MySQL has committed: the projection, the end of the order's engine slot, and the
   * stock of an order that has ended. When the stock cannot be settled, the workflow does so in a step of its
   * own, which is shown by its own name while it keeps failing.
   */
  async function follow(orderNo: string, state: OrderState): Promise<StockSettled> {
    const [isSettled] = await Promise.all([
      isFinal(state.status) && trySettleStock(orderNo, state),
      reservations.project(orderNo, state),
      budget.release([orderNo]),
    ]);
    return isSettled ? { stockSettled: true } : {};
  }

  async function trySettleStock(orderNo: string, state: OrderState): Promise<boolean> {
    try {
      return (await settleStock(deps, orderNo, state)) === 'settled';
    } catch {
      return false;
    }
  }

  /**
   * Settles the stock, and projects once more: what was made again may show the order as it was before its
   * end.
   * @throws while the sale's data are being made again: the step is to be repeated
   */
  async function mustSettleStock(orderNo: string, status: 'paid' | 'cancelled'): Promise<void> {
    const outcome = await settleStock(deps, orderNo, { status });
    if (outcome === 'later') throw new Error('the data of the sale are being made again');
    const stored = await orders.read(orderNo);
    if (stored) await reservations.project(orderNo, stored.state);
  }

  return {
    ...createRefundActivities(deps),

    /**
     * Stores the order; one that is stored already stays as it is. Where the sale's data were made again
     * since it was accepted, its stock is reserved again first.
     * @throws ApplicationFailure `OrderRefused`, not retryable, when it can never be stored
     */
    async persistOrder({ order }: { order: Order }): Promise<OrderState & StockSettled> {
      const outcome = await storeWithHold(deps, order, 'started', knownForMs());
      if (outcome.kind === 'refused') {
        throw ApplicationFailure.nonRetryable(
          `order refused: ${outcome.reason}`,
          ORDER_REFUSED,
          outcome.reason,
        );
      }
      return { ...outcome.state, ...(await follow(order.orderNo, outcome.state)) };
    },

    /** Unless the order is stored, puts a tombstone in its place, so that no later write stores it. */
    async abandonOrder(input: {
      order: Order;
      reason: FailureReason;
    }): Promise<AbandonOutcome & StockSettled> {
      const { orderNo } = input.order;
      const outcome = await orders.abandon(input.order, input.reason);
      return { ...outcome, ...(await follow(orderNo, outcome.state)) };
    },

    /** Applies the order's payment from the inbox; without a payment the order stays as it is. */
    async markPaid({ orderNo }: { orderNo: string }): Promise<OrderState & StockSettled> {
      const state = await orders.markPaid(orderNo);
      return { ...state, ...(await follow(orderNo, state)) };
    },

    /**
     * Cancels the order, unless a payment came first or, without `force`, payment sessions are still open.
     */
    async cancelOrder(input: {
      orderNo: string;
      reason: ClosingReason;
      force: boolean;
    }): Promise<CancelOutcome & StockSettled> {
      const { orderNo, reason, force } = input;
      const outcome = await orders.cancel(orderNo, reason, { force });
      return { ...outcome, ...(await follow(orderNo, outcome.state)) };
    },

    /** held → sold in Redis. */
    async confirmStock({ orderNo }: { orderNo: string }): Promise<void> {
      await mustSettleStock(orderNo, 'paid');
    },

    /** held → released in Redis, after MySQL has committed the order's end. */
    async releaseStock({ orderNo }: { orderNo: string }): Promise<void> {
      await mustSettleStock(orderNo, 'cancelled');
    },

    /** Closes the order's sessions at the provider. Records the payment of one that was paid meanwhile. */
    async voidPaymentSessions({ orderNo }: { orderNo: string }): Promise<void> {
      await unlessBusy(() => voidSessions(orderNo));
    },

    /** Parks the order, so that an operator sees that one of its steps keeps failing. */
    async parkOrder(input: { orderNo: string; reason: string; step?: string }): Promise<void> {
      await orders.park(input.orderNo, input.reason, input.step ?? null);
    },

    /** Ends the parking once the step has succeeded. */
    async unparkOrder({ orderNo }: { orderNo: string }): Promise<void> {
      await orders.unpark(orderNo);
    },
  };
}

/**
 * For how long Temporal has known the order at the least: since the step was first tried. Both times are of
 * one clock.
 */
function knownForMs(): number {
  const info = asyncLocalStorage.getStore()?.info;
  if (!info) return 0;
  return Math.max(0, Math.round(info.currentAttemptScheduledTimestampMs - info.scheduledTimestampMs));
}
