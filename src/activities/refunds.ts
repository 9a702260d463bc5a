/** The activities of a refund, thin over the stores and the provider. Each may run twice or die half-way. */

import type { GiveBack } from '../domain/order.ts';
import type { Reversal } from '../domain/payment.ts';
import { sumReversals } from '../domain/reversals.ts';
import { RefundRefusedError, type PaymentProvider } from '../payments/provider.ts';
import type { RefundFailure, Refunds, RefundTask } from '../stores/mysql/money/refunds.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { Sales } from '../stores/mysql/sales.ts';
import type { Reservations } from '../stores/redis/reservations.ts';
import { unlessBusy } from './provider-busy.ts';

export interface RefundActivityDeps {
  refunds: Pick<Refunds, 'read' | 'recordReversals' | 'recordRefusal' | 'readGiveBack' | 'park' | 'unpark'>;
  orders: Pick<Orders, 'read'>;
  reservations: Pick<Reservations, 'project'> & {
    giveBack: (giveBack: GiveBack) => Promise<{ kind: string }>;
  };
  sales: Pick<Sales, 'isWatched'>;
  provider: PaymentProvider;
}

/** pending: the whole amount is on its way or disputed, and the payer does not have all of it yet. */
export type RefundProgress = 'nothing-due' | 'pending' | 'refunded';

export type RefundActivities = ReturnType<typeof createRefundActivities>;

export function createRefundActivities(deps: RefundActivityDeps) {
  const { refunds, orders, reservations, sales, provider } = deps;

  /**
   * @throws when the provider is away, refuses, or accepts less than what is due: the step is to be repeated
   */
  async function refund(task: RefundTask): Promise<RefundProgress> {
    // The list is always read first. An earlier request may have succeeded although its answer was lost,
    // longer ago than the provider remembers idempotency keys, and provider staff may have refunded.
    const known = await provider.listReversals(task.providerPaymentId);
    const due = await record(task, known);
    if (!due) return 'refunded';
    // What it is worth in the payment's currency is not known here, so an operator decides how much is left.
    if (sumReversals(due.currency, known).isMixed)
      throw new Error(`something of ${due.providerPaymentId} went back in another currency`);
    const left = unrequestedAmount(due, known);
    if (left <= 0) return progressOf(due, known);

    const made = await requestRefund(due, left);
    const stillDue = await record(due, [made]);
    if (!stillDue) return 'refunded';
    // The list is newer than the answer, because a repeated key gets its first answer again.
    const earlier = known.find(({ providerReversalId }) => providerReversalId === made.providerReversalId);
    const all = earlier ? known : [...known, made];
    if ((earlier ?? made).status === 'failed') {
      // The provider would repeat this answer under the same key, so the next request needs another key.
      await refunds.recordRefusal(task.paymentId);
      throw new Error(`refund ${made.providerReversalId} has failed at the provider`);
    }
    if (unrequestedAmount(stillDue, all) > 0)
      throw new Error(`refund ${made.providerReversalId} covers less than was requested`);
    return progressOf(stillDue, all);
  }

  /** @returns the payment as MySQL has it after recording; undefined when it is no longer to be refunded */
  async function record(
    { paymentId }: RefundTask,
    reversals: readonly Reversal[],
  ): Promise<RefundTask | undefined> {
    if (reversals.length > 0) await refunds.recordReversals(provider.name, reversals);
    const task = await refunds.read(paymentId);
    return task?.status === 'refund_due' ? task : undefined;
  }

  async function requestRefund(task: RefundTask, left: number): Promise<Reversal> {
    const { paymentId, providerPaymentId, currency } = task;
    try {
      return await provider.refund({
        refundKey: refundKeyOf(task, left),
        providerPaymentId,
        amount: left,
        currency,
      });
    } catch (error) {
      if (error instanceof RefundRefusedError) await refunds.recordRefusal(paymentId);
      throw error;
    }
  }

  return {
    /**
     * Refunds what is not refunded yet. What the provider has refunded already is recorded, not repeated.
     * @throws when the provider is away, refuses, or accepts less than what is due: the step is to be
     *   repeated
     */
    async refundPayment({ paymentId }: { paymentId: number }): Promise<RefundProgress> {
      const task = await refunds.read(paymentId);
      if (task?.status !== 'refund_due') return 'nothing-due';
      if (task.provider !== provider.name)
        throw new Error(`the payment was collected by ${task.provider}, but ${provider.name} is configured`);
      return unlessBusy(() => refund(task));
    },

    /**
     * Brings to Redis what MySQL has committed: the order's state, and the limit or stock that it gives back.
     * @throws when Redis is away, or does not have the order's units as sold (yet): the step is to be
     *   repeated
     */
    async giveBack({ paymentId }: { paymentId: number }): Promise<void> {
      const task = await refunds.read(paymentId);
      const stored = task && (await orders.read(task.orderNo));
      if (!stored) return;
      await reservations.project(stored.order.orderNo, stored.state);
      const given = await refunds.readGiveBack(paymentId);
      if (!given) return;
      const { kind } = await reservations.giveBack(given);
      if (kind === 'held' || kind === 'not-sold') throw new Error(`not sold in Redis: ${kind}`);
      // The data of a sale that is long over are not made again, and there is nothing to give back to.
      if (kind === 'sale-absent' && (await sales.isWatched(stored.order.saleId)))
        throw new Error('the data of the sale are being made again');
    },

    /** Parks the refund, so that an operator sees that a step keeps failing, or that the provider is slow. */
    async parkRefund(input: {
      paymentId: number;
      reason: string;
      cause?: RefundFailure['cause'];
      step?: string;
    }): Promise<void> {
      const { paymentId, reason, cause = 'step_failing', step = null } = input;
      await refunds.park(paymentId, reason, { cause, step });
    },

    /** Ends the parking once the refund has succeeded. */
    async unparkRefund({ paymentId }: { paymentId: number }): Promise<void> {
      await refunds.unpark(paymentId);
    },
  };
}

/**
 * Minor units that are still to be requested from the provider; refused ones count again.
 * @param task read after `reversals` were recorded, so that `chargedBack` counts the disputes among them and
 *   those that only a notice reported
 */
function unrequestedAmount(task: RefundTask, reversals: readonly Reversal[]): number {
  const { succeeded, pending } = sumReversals(
    task.currency,
    reversals.filter(({ kind }) => kind === 'refund'),
  );
  return task.amount - task.chargedBack - succeeded - pending;
}

/**
 * The progress of a refund that MySQL still has as due although nothing is left to be requested.
 * @throws when all of it has succeeded at the provider: no waiting settles that difference
 */
function progressOf(task: RefundTask, reversals: readonly Reversal[]): RefundProgress {
  if (sumReversals(task.currency, reversals).succeeded < task.amount) return 'pending';
  // This happens where MySQL has recorded a reversal as failed and the provider lists it as succeeded.
  throw new Error(`${task.providerPaymentId} is refunded in full at the provider, but not in MySQL`);
}

/**
 * The idempotency key of a refund request, the same for each repeat of a call whose outcome is unknown. A
 * refusal changes the key, because providers repeat their answer under the same key. Another amount changes
 * it, because they accept no other request under it. Two such requests cannot both succeed, because together
 * they would exceed the payment.
 */
function refundKeyOf({ paymentId, refusals, amount }: RefundTask, left: number): string {
  const key = `refund-${paymentId}-${refusals}`;
  return left === amount ? key : `${key}-${left}`;
}
