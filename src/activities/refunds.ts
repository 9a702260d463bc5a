/** The activities of a refund, thin over the stores and the provider. Each may run twice or die half-way. */

import { createHash } from 'node:crypto';
import type { Reversal } from '../domain/payment.ts';
import { joinReversals, sumRefunds, sumReversals } from '../domain/reversals.ts';
import { RefundRefusedError } from '../payments/provider.ts';
import type { RefundFailure, RefundTask } from '../stores/mysql/money/refunds.ts';
import type { RefundInput } from '../workflows/contract.ts';
import { unlessBusy } from './provider-busy.ts';
import type { ActivityDeps } from './void-sessions.ts';

/** A step makes refunds for so long: with two more calls of five seconds each it ends in time (steps.ts). */
const REFUNDING_MS = 8_000;

/** pending: all that is requested is on its way or disputed, or a request has to wait for the next look. */
export type RefundProgress = 'nothing-due' | 'pending' | 'refunded';

export type RefundActivities = ReturnType<typeof createRefundActivities>;

export function createRefundActivities(deps: ActivityDeps) {
  const { refunds, orders, reservations, sales, provider } = deps;

  /**
   * Makes one refund after the other, as long as the step may take.
   * @throws when the provider is away, refuses, or accepts less than what is due: the step is to be repeated
   */
  async function refund(task: RefundTask): Promise<RefundProgress> {
    const untilMs = performance.now() + REFUNDING_MS;
    // The list is always read first. An earlier request may have succeeded although its answer was lost,
    // longer ago than the provider remembers idempotency keys, and provider staff may have refunded.
    const listed = await provider.listReversals(task.providerPaymentId);
    let news = listed;
    for (;;) {
      const due = await record(task, news);
      if (!due) return 'refunded';
      const known = joinReversals(listed, due.reversals);
      // What it is worth in the payment's currency is not known, so an operator decides how much is left.
      if (sumReversals(due.currency, known).isMixed)
        throw new Error(`something of ${due.providerPaymentId} went back in another currency`);
      const next = nextRefund(due, known);
      if (!next) return progressOf(due, known);
      if (performance.now() > untilMs) return 'pending';
      news = [await makeRefund(due, next, known)];
    }
  }

  /** @param known all that went back so far, which is newer than the provider's answer to a repeated key */
  async function makeRefund(
    task: RefundTask,
    next: NextRefund,
    known: readonly Reversal[],
  ): Promise<Reversal> {
    const made = await requestRefund(task, next);
    const earlier = known.find(
      (one) => one.kind === 'refund' && one.providerReversalId === made.providerReversalId,
    );
    const isFailed = (earlier ?? made).status === 'failed';
    if (isFailed || earlier) {
      await record(task, [made]);
      // The provider would repeat this answer under the same key, so the next request needs another key. A
      // refund that was listed counts already, and what was requested now is what is left beside it.
      await refunds.recordRefusal(task);
      const what = isFailed ? 'has failed at the provider' : 'was made before, and the rest needs another';
      throw new Error(`refund ${made.providerReversalId} ${what}`);
    }
    if (made.amount < next.amount) {
      await record(task, [made]);
      throw new Error(`refund ${made.providerReversalId} covers less than was requested`);
    }
    return made;
  }

  /** @returns the payment as MySQL has it after recording; undefined when it is no longer to be refunded */
  async function record(which: RefundTask, reversals: readonly Reversal[]): Promise<RefundTask | undefined> {
    if (reversals.length > 0) await refunds.recordReversals(provider.name, reversals);
    const task = await refunds.read(which);
    return task?.status === 'refund_due' ? task : undefined;
  }

  async function requestRefund(task: RefundTask, next: NextRefund): Promise<Reversal> {
    const { providerPaymentId, currency } = task;
    const refundKey = refundKeyOf(task, next);
    try {
      return await provider.refund({ refundKey, providerPaymentId, amount: next.amount, currency });
    } catch (error) {
      if (error instanceof RefundRefusedError) await refunds.recordRefusal(task);
      throw error;
    }
  }

  /** MySQL first: Redis never offers a unit that MySQL still counts. */
  async function giveBack({ paymentId, orderNo }: RefundTask): Promise<void> {
    const stored = await orders.read(orderNo);
    if (!stored) return;
    await reservations.project(orderNo, stored.state);
    await refunds.bookGiveBacks(paymentId);
    for (const given of await refunds.readGiveBacks(paymentId)) {
      const { kind } = await reservations.giveBack(given);
      if (kind === 'held' || kind === 'not-sold') throw new Error(`not sold in Redis: ${kind}`);
      // The data of a sale that is long over are not made again, and there is nothing to give back to.
      if (kind === 'sale-absent' && (await sales.isWatched(stored.order.saleId)))
        throw new Error('the data of the sale are being made again');
    }
  }

  return {
    /**
     * Refunds what is not refunded yet. What the provider has refunded already is recorded, not repeated.
     * @throws when the provider is away, refuses, or accepts less than what is due: the step is to be
     *   repeated
     */
    async refundPayment(which: RefundInput): Promise<RefundProgress> {
      const task = await refunds.read(which);
      const givesBack = async (): Promise<void> => (task?.isGiveBackDue ? giveBack(task) : undefined);
      if (task?.status !== 'refund_due') {
        await givesBack();
        return 'nothing-due';
      }
      if (task.provider !== provider.name)
        throw new Error(`the payment was collected by ${task.provider}, but ${provider.name} is configured`);
      // What has gone back gives its units back before the last refund of the payment is through. Money does
      // not wait for Redis, nor units for the provider.
      const [money, units] = await Promise.allSettled([unlessBusy(() => refund(task)), givesBack()]);
      if (money.status === 'rejected') throw money.reason;
      if (units.status === 'rejected') throw units.reason;
      return money.value;
    },

    /**
     * Brings to Redis what MySQL has committed: the order's state, and the limit or stock that it gives back.
     * @throws when Redis is away, or does not have the order's units as sold (yet): the step is to be
     *   repeated
     */
    async giveBack(which: RefundInput): Promise<void> {
      const task = await refunds.read(which);
      if (task) await giveBack(task);
    },

    /** Parks the refund, so that an operator sees that a step keeps failing, or that the provider is slow. */
    async parkRefund(
      input: RefundInput & { reason: string; cause?: RefundFailure['cause']; step?: string },
    ): Promise<void> {
      const { reason, cause = 'step_failing', step = null } = input;
      const task = await refunds.read(input);
      if (task) await refunds.park(task.paymentId, reason, { cause, step });
    },

    /** Ends the parking once the refund has succeeded. */
    async unparkRefund(which: RefundInput): Promise<void> {
      const task = await refunds.read(which);
      if (task) await refunds.unpark(task.paymentId);
    },
  };
}

/** What is to be requested from the provider next. Amounts in minor units. */
interface NextRefund {
  amount: number;
  /** What is refunded in all afterwards. */
  target: number;
}

/**
 * The next of the requests that the refunds have not covered yet; refused ones count again. One request
 * after the other: while the outcome of one is unknown, a larger one would send its money twice.
 * @param task read after `reversals` were recorded, so that `chargedBack` counts the disputes among them and
 *   those that only a notice reported
 * @returns undefined when all is requested, or the rest is disputed
 */
function nextRefund(task: RefundTask, reversals: readonly Reversal[]): NextRefund | undefined {
  const { succeeded, pending } = sumRefunds(task.currency, reversals);
  const refunded = succeeded + pending;
  const target = task.targets.find((one) => one > refunded) ?? task.refundTarget;
  const amount = Math.min(target, task.amount - task.chargedBack) - refunded;
  return amount > 0 ? { amount, target } : undefined;
}

/**
 * The progress of a refund that MySQL still has as due although nothing is left to be requested.
 * @throws when all of it has succeeded at the provider: no waiting settles that difference
 */
function progressOf(task: RefundTask, reversals: readonly Reversal[]): RefundProgress {
  const isWhole = sumReversals(task.currency, reversals).succeeded >= task.amount;
  const isReached = sumRefunds(task.currency, reversals).succeeded >= task.refundTarget;
  if (!isWhole && !isReached) return 'pending';
  // This happens where MySQL has recorded a reversal as failed and the provider lists it as succeeded.
  throw new Error(`${task.providerPaymentId} is refunded in full at the provider, but not in MySQL`);
}

/** Provider's ids that are a part of a key as they are. A colon follows them. */
const PLAIN_ID_PATTERN = /^[\w.-]{1,64}$/;

/**
 * The idempotency key of a refund request, the same for each repeat of a call whose outcome is unknown. It
 * is made of what the request does to the provider's own payment, and of no number that MySQL gives: one
 * that lost commits asks under the same key again, and another deployment on the account never does. A
 * refusal changes the key, because providers repeat their answer under the same key. Another amount changes
 * it, because they accept no other request under it; and so does another request of staff, which may be for
 * the same amount. Two requests of one amount up to the same target are left, as where an earlier refund
 * has failed since, or the shop has won a dispute: `makeRefund` tells by the answer that the key was used.
 */
function refundKeyOf(task: RefundTask, next: NextRefund): string {
  const { providerPaymentId, refusals } = task;
  // A key is of at most 128 printable characters (limits.ts), an id of as many of any kind.
  const payment = PLAIN_ID_PATTERN.test(providerPaymentId)
    ? providerPaymentId
    : `~${createHash('sha256').update(providerPaymentId).digest('base64url')}`;
  const key = `refund-${payment}:${refusals}`;
  if (next.amount === task.amount) return key;
  const whole = `${key}-${next.amount}`;
  return next.target === task.amount ? whole : `${whole}-of-${next.target}`;
}
