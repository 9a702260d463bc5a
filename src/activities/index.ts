/**
 * The activities of orders and refunds. They are thin over the stores and the provider, and each may run
 * twice or die half-way.
 */

import { createHash } from 'node:crypto';
import { ApplicationFailure, asyncLocalStorage } from '@temporalio/activity';
import { z } from 'zod';
import { formatMoney, type Reversal, joinReversals, sumRefunds, sumReversals } from '../money/payment.ts';
import type { RefundFailure, RefundTask } from '../money/refunds.sql.ts';
import type { UnclearRefund } from '../money/reversal-rows.sql.ts';
import { voidSessions } from '../money/void-sessions.ts';
import { storeWithHold } from '../orders/both-stores.ts';
import type { Order } from '../orders/content.ts';
import { follow } from '../orders/follow.ts';
import type { ClosingReason, FailureReason, OrderState } from '../orders/order.ts';
import type { CancelOutcome } from '../orders/orders.sql.ts';
import type { AbandonOutcome } from '../orders/store.sql.ts';
import { ProviderBusyError, RefundRefusedError, type PaymentProvider } from '../providers/provider.ts';
import type { Stores } from '../stores/open.ts';
import { ORDER_REFUSED, PROVIDER_BUSY, type RefundInput } from '../workflows/contract.ts';

export type Activities = ReturnType<typeof createPlain>;

/**
 * What a step adds to its result when it has settled the stock of an order that has ended. Where it is
 * absent, `confirmStock` or `releaseStock` is still to be done: the step was of an older version, or Redis
 * was away.
 */
export interface StockSettled {
  stockSettled?: true;
}

/** Each with a span in the trace of its order, where there are traces, and a line at debug. */
export function createActivities(deps: ActivityDeps): Activities {
  const plain = createPlain(deps);
  return deps.tracing || deps.log.isLevelEnabled('debug') ? followed(deps, plain) : plain;
}

const ofStep = z.object({
  orderNo: z.string().optional(),
  order: z.object({ orderNo: z.string(), traceparent: z.string().optional() }).optional(),
  paymentId: z.int().optional(),
});
/** What several steps answer: the order's state, or what has it as a member. */
const stateful = z.object({ status: z.string() });
const answerOfStep = z.union([stateful, z.object({ state: stateful }).transform(({ state }) => state)]);

function followed(deps: ActivityDeps, activities: Activities): Activities;
function followed(deps: ActivityDeps, activities: object): object {
  const steps = Object.entries(activities).map(([step, work]) => [step, followStep(deps, step, work)]);
  return Object.fromEntries(steps);
}

function followStep(
  { tracing, log, refunds }: ActivityDeps,
  step: string,
  work: (input: never) => Promise<unknown>,
) {
  return async (input: never): Promise<unknown> => {
    const startedMs = performance.now();
    const { orderNo, order, paymentId } = ofStep.safeParse(input).data ?? {};
    const write = (error?: unknown): void =>
      tracing?.writeLater(step, { startedMs, attributes: attemptOf() }, error, async () => {
        if (order) return order;
        const number = orderNo ?? (await refunds.read(input))?.orderNo;
        return number === undefined
          ? undefined
          : { orderNo: number, traceparent: await tracing.find(number) };
      });
    try {
      const result = await work(input);
      write();
      const status = answerOfStep.safeParse(result).data?.status;
      log.debug({ orderNo: orderNo ?? order?.orderNo, paymentId, step, status }, 'order');
      return result;
    } catch (error) {
      write(error);
      throw error;
    }
  };
}

function attemptOf(): { 'temporal.attempt'?: number } {
  const attempt = asyncLocalStorage.getStore()?.info.attempt;
  return attempt === undefined ? {} : { 'temporal.attempt': attempt };
}

function createPlain(deps: ActivityDeps) {
  const { orders, refunds, budget } = deps;

  /**
   * Brings to Redis what a step has committed, and gives the order's engine slot back. When the hold cannot
   * be ended, the workflow does so in a step of its own, which is shown by its own name while it keeps
   * failing.
   */
  async function show(orderNo: string, state: OrderState): Promise<OrderState & StockSettled> {
    const [shownOf] = await Promise.all([
      follow(deps, [{ orderNo, state }], { byWorkflow: true }),
      budget.release([orderNo]),
    ]);
    const { hold, state: shown } = shownOf.get(orderNo) ?? { hold: 'open', state };
    return { ...shown, ...(hold === 'settled' && { stockSettled: true }) };
  }

  /** @throws while the sale's data are being rebuilt, or Redis is away: the step is to be repeated */
  async function endHold({ orderNo }: { orderNo: string }): Promise<void> {
    const stored = await orders.read(orderNo);
    if (!stored) return;
    const { stockSettled } = await show(orderNo, stored.state);
    if (!stockSettled) throw new Error('Redis does not have the end of the order yet');
  }

  return {
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
      return show(order.orderNo, outcome.state);
    },

    /** Unless the order is stored, puts a tombstone in its place, so that no later write stores it. */
    async abandonOrder(input: {
      order: Order;
      reason: FailureReason;
    }): Promise<AbandonOutcome & StockSettled> {
      const outcome = await orders.abandon(input.order, input.reason);
      const { stockSettled } = await show(input.order.orderNo, outcome.state);
      return { ...outcome, ...(stockSettled && { stockSettled }) };
    },

    /** The order as its payment has made it; without a payment it is as it was. */
    async markPaid({ orderNo }: { orderNo: string }): Promise<OrderState & StockSettled> {
      return show(orderNo, await orders.markPaid(orderNo));
    },

    /** Cancels the order, unless it is paid or, without `force`, payment sessions are still open. */
    async cancelOrder(input: {
      orderNo: string;
      reason: ClosingReason;
      force: boolean;
    }): Promise<CancelOutcome & StockSettled> {
      const { orderNo, reason, force } = input;
      const outcome = await orders.cancel(orderNo, reason, { force });
      const { stockSettled } = await show(orderNo, outcome.state);
      return { ...outcome, ...(stockSettled && { stockSettled }) };
    },

    /** held → sold in Redis. */
    confirmStock: endHold,

    /** held → released in Redis, after MySQL has committed the order's end. */
    releaseStock: endHold,

    /** Closes the order's sessions at the provider. Records the payment of one that was paid meanwhile. */
    async voidPaymentSessions({ orderNo }: { orderNo: string }): Promise<void> {
      await unlessBusy(() => voidSessions(deps, orderNo));
    },

    /** Parks the order, so that an operator sees that one of its steps keeps failing. */
    async parkOrder(input: { orderNo: string; reason: string; step?: string }): Promise<void> {
      await orders.park(input.orderNo, input.reason, input.step ?? null);
    },

    /** Ends the parking once the step has succeeded. */
    async unparkOrder({ orderNo }: { orderNo: string }): Promise<void> {
      await orders.unpark(orderNo);
    },

    /** Refunds what is not refunded yet, and gives back what has gone back. */
    refundPayment: (which: RefundInput): Promise<RefundProgress> => refundPayment(deps, which),

    /** Brings to Redis what MySQL has committed of a refund. */
    async giveBack(which: RefundInput): Promise<void> {
      const task = await refunds.read(which);
      if (task) await giveBack(deps, task);
    },

    /** Parks the refund, so that an operator sees that a step keeps failing, or that the provider is slow. */
    async parkRefund(input: RefundInput & Partial<RefundFailure> & { reason: string }): Promise<void> {
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

/**
 * For how long Temporal has known the order at the least: since the step was first tried. Both times are of
 * one clock.
 */
function knownForMs(): number {
  const info = asyncLocalStorage.getStore()?.info;
  if (!info) return 0;
  return Math.max(0, Math.round(info.currentAttemptScheduledTimestampMs - info.scheduledTimestampMs));
}

/** @throws ApplicationFailure `ProviderBusy`, to be retried after the provider's pause */
async function unlessBusy<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ProviderBusyError)) throw error;
    throw ApplicationFailure.create({
      message: error.message,
      type: PROVIDER_BUSY,
      nextRetryDelay: error.retryAfterMs,
      cause: error,
    });
  }
}

/** A step makes refunds for so long: with two more calls of five seconds each it ends in time (steps.ts). */
const REFUNDING_MS = 8_000;

/** Nothing goes on by itself: an operator, staff or the provider has to change something. */
interface RefundStopped {
  cause: 'refund_refused' | 'refund_unclear';
  reason: string;
}

/** pending: all that is requested is on its way or disputed, or a request has to wait for the next look. */
type RefundProgress = 'nothing-due' | 'pending' | 'refunded' | RefundStopped;

export interface ActivityDeps extends Stores {
  provider: PaymentProvider;
}

/**
 * Refunds what is not refunded yet. What the provider has refunded already is recorded, not repeated.
 * @throws when the provider is away, refuses, or accepts less than what is due: the step is to be repeated
 */
async function refundPayment(deps: ActivityDeps, which: RefundInput): Promise<RefundProgress> {
  const { refunds, provider } = deps;
  const task = await refunds.read(which);
  const givesBack = async (): Promise<void> => (task?.isGiveBackDue ? giveBack(deps, task) : undefined);
  if (task?.status !== 'refund_due') {
    await givesBack();
    return 'nothing-due';
  }
  if (task.provider !== provider.name)
    throw new Error(`the payment was collected by ${task.provider}, but ${provider.name} is configured`);
  // What has gone back gives its units back before the last refund of the payment is through. Money does
  // not wait for Redis, nor units for the provider.
  const [money, units] = await Promise.allSettled([unlessBusy(() => refund(deps, task)), givesBack()]);
  if (money.status === 'rejected') throw money.reason;
  if (units.status === 'rejected') throw units.reason;
  return money.value;
}

/**
 * Brings to Redis what MySQL has committed: the order's state, and the limit or stock that it gives back.
 * MySQL comes first: Redis never offers a unit that MySQL still counts.
 * @throws when Redis is away, or does not have the order's units as sold (yet): the step is to be repeated
 */
async function giveBack(
  { orders, reservations, refunds, sales }: ActivityDeps,
  { paymentId, orderNo }: RefundTask,
): Promise<void> {
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

/**
 * Makes one refund after the other, as long as the step may take. One that is refused lets the others go
 * first.
 * @throws when the provider is away, refuses what it may accept later, or accepts less than what is due: the
 *   step is to be repeated
 */
async function refund(deps: ActivityDeps, task: RefundTask): Promise<RefundProgress> {
  const untilMs = performance.now() + REFUNDING_MS;
  // The list is always read first. An earlier request may have succeeded although its answer was lost,
  // longer ago than the provider remembers idempotency keys, and provider staff may have refunded.
  const listed = await deps.provider.listReversals(task.providerPaymentId);
  const refusals: RefundRefusedError[] = [];
  let news = listed;
  for (;;) {
    const due = await record(deps, task, news);
    if (!due) return 'refunded';
    const known = joinReversals(listed, due.reversals);
    // What it is worth in the payment's currency is not known, so an operator decides how much is left.
    if (sumReversals(due.currency, known).isMixed)
      throw new Error(`something of ${due.providerPaymentId} went back in another currency`);
    const usual = nextRefund(due, known);
    const unclear = usual ? [] : await deps.refunds.listUnclear(due);
    const next = usual ?? besideUnclear(due, known, unclear);
    if (!next) return unclear.length > 0 ? endUnclear(unclear, refusals) : progressOf(due, known);
    // A refused one is the last of them by now, so each was asked for once.
    if (refusals.length >= next.requests)
      return unclear.length > 0 ? endUnclear(unclear, refusals) : endRefused(refusals);
    if (performance.now() > untilMs) return 'pending';
    try {
      news = [await makeRefund(deps, due, next, known)];
    } catch (error) {
      if (!(error instanceof RefundRefusedError)) throw error;
      refusals.push(error);
      news = [];
    }
  }
}

/**
 * The amount to ask for while other refunds of the payment are in an unknown state. A refund of the whole
 * payment is safe to ask for: the provider never sends back more than was paid, so it decides whether the
 * others count. The money of a part could be sent twice, so an operator decides.
 */
function besideUnclear(
  task: RefundTask,
  reversals: readonly Reversal[],
  unclear: readonly UnclearRefund[],
): NextRefund | undefined {
  if (task.refundTarget < task.amount || unclear.length === 0) return undefined;
  const ids = new Set(unclear.map(({ id }) => id));
  const others = reversals.filter(
    ({ kind, providerReversalId }) => kind !== 'refund' || !ids.has(providerReversalId),
  );
  return nextRefund(task, others);
}

function endUnclear(
  unclear: readonly UnclearRefund[],
  refusals: readonly RefundRefusedError[],
): RefundStopped {
  const states = unclear.map(
    ({ id, amount, currency, state }) =>
      `refund ${id} of ${formatMoney(amount, currency)} is in the state ${state} at the provider, which is not known`,
  );
  return {
    cause: 'refund_unclear',
    reason: [...states, ...refusals.map(({ message }) => message)].join('; '),
  };
}

/** @throws a refusal that may pass: the step is to be repeated */
function endRefused(refusals: readonly RefundRefusedError[]): RefundStopped {
  const passing = refusals.find(({ isForGood }) => !isForGood);
  if (passing) throw passing;
  return { cause: 'refund_refused', reason: refusals.map(({ message }) => message).join('; ') };
}

/** @param known all that went back so far, which is newer than the provider's answer to a repeated key */
async function makeRefund(
  deps: ActivityDeps,
  task: RefundTask,
  next: NextRefund,
  known: readonly Reversal[],
): Promise<Reversal> {
  const made = await requestRefund(deps, task, next);
  const earlier = known.find(
    (one) => one.kind === 'refund' && one.providerReversalId === made.providerReversalId,
  );
  const isFailed = (earlier ?? made).status === 'failed';
  if (isFailed || earlier) {
    await record(deps, task, [made]);
    // The provider would repeat this answer under the same key, so the next request needs another key. A
    // refund that was listed counts already, and what was requested now is what is left beside it.
    await deps.refunds.recordRefusal(task);
    const what = isFailed ? 'has failed at the provider' : 'was made before, and the rest needs another';
    throw new Error(`refund ${made.providerReversalId} ${what}`);
  }
  if (made.amount < next.amount) {
    await record(deps, task, [made]);
    throw new Error(`refund ${made.providerReversalId} covers less than was requested`);
  }
  if (task.refusal) await deps.refunds.forgetRefusal(task.paymentId, next.target);
  return made;
}

/** @returns the payment as MySQL has it after recording; undefined when it is no longer to be refunded */
async function record(
  { refunds, provider }: ActivityDeps,
  which: RefundTask,
  reversals: readonly Reversal[],
): Promise<RefundTask | undefined> {
  if (reversals.length > 0) await refunds.recordReversals(provider.name, reversals);
  const task = await refunds.read(which);
  return task?.status === 'refund_due' ? task : undefined;
}

async function requestRefund(
  { refunds, provider, log }: ActivityDeps,
  task: RefundTask,
  next: NextRefund,
): Promise<Reversal> {
  const { paymentId, providerPaymentId, orderNo, currency } = task;
  const refundKey = refundKeyOf(task, next);
  try {
    return await provider.refund({ refundKey, providerPaymentId, amount: next.amount, currency });
  } catch (error) {
    if (!(error instanceof RefundRefusedError)) throw error;
    const { refusal, isForGood } = error;
    const about = {
      orderNo,
      paymentId,
      providerPaymentId,
      amount: next.amount,
      currency,
      refusal,
      isForGood,
    };
    log.warn(about, 'the provider refused a refund');
    await refunds.recordRefusal(task, { target: next.target, refusal });
    throw error;
  }
}

/** What is to be requested from the provider next. Amounts in minor units. */
interface NextRefund {
  amount: number;
  /** What is refunded in all afterwards. */
  target: number;
  /** How many requests are left to be made, this one included. */
  requests: number;
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
  const targets = task.targets.filter((one) => one > refunded);
  const target = targets[0] ?? task.refundTarget;
  const amount = Math.min(target, task.amount - task.chargedBack) - refunded;
  return amount > 0 ? { amount, target, requests: Math.max(1, targets.length) } : undefined;
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
 * has failed since, or the shop has won a dispute: `makeRefund` knows by the answer that the key was used.
 */
function refundKeyOf(task: RefundTask, next: NextRefund): string {
  const { providerPaymentId, refusals } = task;
  // A key is of at most 128 printable characters (`IDEMPOTENCY_KEY_PATTERN`), an id of as many of any kind.
  const payment = PLAIN_ID_PATTERN.test(providerPaymentId)
    ? providerPaymentId
    : `~${createHash('sha256').update(providerPaymentId).digest('base64url')}`;
  const key = `refund-${payment}:${refusals}`;
  if (next.amount === task.amount) return key;
  const whole = `${key}-${next.amount}`;
  return next.target === task.amount ? whole : `${whole}-of-${next.target}`;
}
