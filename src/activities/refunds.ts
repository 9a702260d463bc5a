/** The steps of a refund, thin over the stores and the provider. Each may run twice or die half-way. */

import type { GiveBack } from '../domain/order.ts';
import type { Reversal } from '../domain/payment.ts';
import { sumReversals } from '../domain/reversals.ts';
import { RefundRefusedError, type PaymentProvider } from '../payments/provider.ts';
import type { Refunds, RefundTask } from '../stores/mysql/money/refunds.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { EngineBudget } from '../stores/redis/engine-budget.ts';
import type { Reservations } from '../stores/redis/reservations.ts';
import { refundWorkflowId } from '../workflows/contract.ts';

export interface RefundActivityDeps {
  refunds: Pick<Refunds, 'read' | 'recordReversals' | 'recordRefusal' | 'readGiveBack' | 'park' | 'unpark'>;
  orders: Pick<Orders, 'read'>;
  reservations: Pick<Reservations, 'project'> & {
    giveBack: (giveBack: GiveBack) => Promise<{ kind: string }>;
  };
  budget: Pick<EngineBudget, 'release'>;
  provider: PaymentProvider;
}

/** pending: all of it is on its way (or disputed), and the payer does not have all of it yet. */
export type RefundProgress = 'nothing-due' | 'pending' | 'refunded';

export type RefundActivities = ReturnType<typeof createRefundActivities>;

export function createRefundActivities(deps: RefundActivityDeps) {
  const { refunds, orders, reservations, budget, provider } = deps;

  /** @throws when the provider is away, refuses, or has not taken on all of what is due: try again */
  async function refund(task: RefundTask): Promise<RefundProgress> {
    // Always first: an earlier try may have worked unheard, longer ago than the provider remembers keys, and people refund by hand.
    const known = await provider.listReversals(task.providerPaymentId);
    const due = await record(task, known);
    if (!due) return 'refunded';
    const left = leftOf(due, known);
    if (left <= 0) return awaited(due, known);

    const made = await askFor(due, left);
    const stillDue = await record(due, [made]);
    if (!stillDue) return 'refunded';
    // What was looked up is newer than the answer to a repeated key.
    const earlier = known.find(({ providerReversalId }) => providerReversalId === made.providerReversalId);
    const all = earlier ? known : [...known, made];
    if ((earlier ?? made).status === 'failed') {
      // The same key would be answered the same for ever.
      await refunds.recordRefusal(task.paymentId);
      throw new Error(`refund ${made.providerReversalId} has failed at the provider`);
    }
    if (leftOf(stillDue, all) > 0)
      throw new Error(`refund ${made.providerReversalId} is not what was asked for`);
    return awaited(stillDue, all);
  }

  /** @returns the payment as it is now, with all that is recorded of it; undefined when it is no longer to be refunded */
  async function record(
    { paymentId }: RefundTask,
    reversals: readonly Reversal[],
  ): Promise<RefundTask | undefined> {
    if (reversals.length > 0) await refunds.recordReversals(provider.name, reversals);
    const task = await refunds.read(paymentId);
    return task?.status === 'refund_due' ? task : undefined;
  }

  async function askFor(task: RefundTask, left: number): Promise<Reversal> {
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
     * Sends back what the payment still owes its payer, or finds it sent.
     * @throws when the provider is away, refuses, or has not taken on all of what is due: try again
     */
    async refundPayment({ paymentId }: { paymentId: number }): Promise<RefundProgress> {
      try {
        const task = await refunds.read(paymentId);
        if (task?.status !== 'refund_due') return 'nothing-due';
        if (task.provider !== provider.name) {
          throw new Error(`the payment was taken by ${task.provider}, and ${provider.name} is configured`);
        }
        return await refund(task);
      } finally {
        // The slot is a lease and returns by itself: money must not wait for Redis.
        await budget.release([refundWorkflowId(paymentId)]).catch(() => undefined);
      }
    },

    /**
     * Redis follows what MySQL has committed: the order's state for pollers, and the limit or stock that came back.
     * @throws when Redis is away, or has the order's units not as sold (yet): try again
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
    },

    /** Shows a person that the money does not get back. */
    async parkRefund({ paymentId, reason }: { paymentId: number; reason: string }): Promise<void> {
      await refunds.park(paymentId, reason);
    },

    /** It is back after all. */
    async unparkRefund({ paymentId }: { paymentId: number }): Promise<void> {
      await refunds.unpark(paymentId);
    },
  };
}

/**
 * Minor units that the provider has not been asked for, or that it has decided against.
 * @param task read after `reversals` were recorded: it counts the disputes among them, and those that only a notice reported
 */
function leftOf(task: RefundTask, reversals: readonly Reversal[]): number {
  const { succeeded, pending } = sumReversals(
    task.currency,
    reversals.filter(({ kind }) => kind === 'refund'),
  );
  return task.amount - task.chargedBack - succeeded - pending;
}

/** Once nothing is left to be asked for, of a payment that MySQL still has as due: it must be on its way. */
function awaited(task: RefundTask, reversals: readonly Reversal[]): RefundProgress {
  if (sumReversals(task.currency, reversals).succeeded < task.amount) return 'pending';
  // As where something counts as failed here, and as succeeded there: no waiting settles it.
  throw new Error(`all of ${task.providerPaymentId} is back as the provider has it, and not as MySQL has it`);
}

/**
 * The same for each repeat of a call whose outcome is unknown. A refusal changes it, because providers repeat their answer under
 * the same key; so does the amount, because they take no other request under it. That both are made is no danger: together they
 * would exceed the payment.
 */
function refundKeyOf({ paymentId, refusals, amount }: RefundTask, left: number): string {
  const key = `refund-${paymentId}-${refusals}`;
  return left === amount ? key : `${key}-${left}`;
}
