/**
 * Compares the provider's list of payments with MySQL, because a provider gives up repeating a notice some
 * day. Each run goes on with two walks over the list: a near one over payments that may have been collected
 * since the last, and rarely one over all older ones of a day.
 */

import { LEAST_SESSION_MS } from '../limits.ts';
import {
  type ListedPayment,
  type RecordedTotals,
  type ReversalTotals,
  sumReversals,
} from '../money/payment.ts';
import { recordPayment } from '../money/void-sessions.ts';
import { ProviderBusyError, type PaymentProvider, UnreadablePaymentsError } from '../providers/provider.ts';
import type { Stores } from '../stores/open.ts';
import type { StepReport } from '../workflows/contract.ts';
import type { BookWalk, BookWalkState } from './compared-book.sql.ts';

// Compares payments of the provider's list with MySQL. A payment or reversal without a notice is recorded
// as if its notice had come, by the same rules.

const UNTOUCHED: RecordedTotals = {
  succeeded: 0,
  pending: 0,
  isDisputed: false,
  isMixed: false,
  refunded: 0,
  wasDisputed: false,
  fee: null,
};

export interface ProviderBookDeps extends Stores {
  provider: Pick<PaymentProvider, 'name' | 'listPayments' | 'listReversals'>;
}

interface Compared {
  /** Payments that lacked something in MySQL. */
  repaired: number;
  /** Payments that could not be compared. */
  failed: number;
}

/**
 * One payment that cannot be compared does not delay the others; a later run compares it again.
 * @param asksPending whether the reversals of a payment are looked up only because one of them is pending
 * @throws when MySQL is away, or the provider must not be called now
 */
async function comparePayments(
  deps: ProviderBookDeps,
  portion: readonly ListedPayment[],
  asksPending: boolean,
  signal: AbortSignal,
): Promise<Compared> {
  const compared = { repaired: 0, failed: 0 };
  if (portion.length === 0 || signal.aborted) return compared;
  const { provider, payments, log } = deps;
  const ids = portion.map(({ providerPaymentId }) => providerPaymentId);
  const known = await payments.readReversalTotals(provider.name, ids);
  for (const payment of portion) {
    if (signal.aborted) break;
    const { providerPaymentId, orderNo } = payment;
    try {
      if (await comparePayment(deps, payment, known.get(providerPaymentId), asksPending))
        compared.repaired += 1;
    } catch (error) {
      if (error instanceof ProviderBusyError) throw error;
      compared.failed += 1;
      const about = { err: error, providerPaymentId, orderNo };
      log.warn(about, 'a payment could not be compared with the provider');
    }
  }
  await payments.recordFees(provider.name, findNewFees(portion, known));
  return compared;
}

/** Fees of known payments that no notice told, as of a provider whose notices have none. */
function findNewFees(
  portion: readonly ListedPayment[],
  known: ReadonlyMap<string, RecordedTotals>,
): Map<string, number> {
  const fees = new Map<string, number>();
  for (const { providerPaymentId, fee } of portion) {
    const recorded = known.get(providerPaymentId);
    if (fee !== undefined && recorded && recorded.fee !== fee) fees.set(providerPaymentId, fee);
  }
  return fees;
}

/**
 * @returns whether something was recorded
 * @throws when provider and MySQL differ, and the difference cannot be read or recorded now
 */
async function comparePayment(
  deps: ProviderBookDeps,
  { totals, counted, ...payment }: ListedPayment,
  known: RecordedTotals | undefined,
  asksPending: boolean,
): Promise<boolean> {
  const { provider, refunds, log } = deps;
  const { providerPaymentId, orderNo } = payment;
  if (!known) log.warn({ providerPaymentId, orderNo }, 'a payment without a notice');
  const recorded = known ?? UNTOUCHED;
  let isMissing = !known;
  const isSettled = totals
    ? isSame({ ...totals, isMixed: false }, recorded)
    : counted !== undefined && isCounted(counted, recorded) && !(asksPending && isPending(recorded));
  // Reversals are recorded before their payment, so that a payment that went back never pays for an order.
  if (!isSettled) {
    const reversals = await provider.listReversals(providerPaymentId);
    const listed = sumReversals(payment.currency, reversals);
    if (!isSame(listed, recorded)) {
      isMissing = true;
      log.warn({ providerPaymentId, orderNo, listed, recorded }, 'reversals without a notice');
    }
    await refunds.recordReversals(provider.name, reversals, 'provider');
  }
  if (!known) await recordPayment(deps, payment);
  return isMissing;
}

type Settled = Omit<ReversalTotals, 'pending'>;

/** Pending amounts are not compared, because providers list them differently. Their end is compared. */
function isSame(one: Settled, other: Settled): boolean {
  return (
    one.succeeded === other.succeeded && one.isDisputed === other.isDisputed && one.isMixed === other.isMixed
  );
}

/** Whether a list that only counts shows nothing that is not recorded. */
function isCounted(counted: NonNullable<ListedPayment['counted']>, recorded: RecordedTotals): boolean {
  return (
    counted.refunded === recorded.refunded &&
    counted.wasDisputed === recorded.wasDisputed &&
    !recorded.isMixed
  );
}

function isPending({ pending, isDisputed }: RecordedTotals): boolean {
  return pending > 0 || isDisputed;
}

/**
 * How far back payments are compared, by the time at which they began, before the last walk that was
 * finished. The longest payment window is a day, and a payment that began at its start may be collected at
 * its end.
 */
const LOOK_BACK_MS = 26 * 60 * 60_000;
/** How often the older ones are walked: what happens to them without a notice is rare, and is not urgent. */
const FAR_EVERY_MS = 60 * 60_000;
/** For clocks that differ, and for a list that lags behind what was collected. */
const SLACK_MS = 20 * 60_000;
/** The part of the list after which a walk saves its cursor: one call of the provider unless many pay. */
const SLICE_MS: Readonly<Record<BookWalk, number>> = { near: 5 * 60_000, far: 30 * 60_000 };
/** Of what is older than a day. */
const OLD_SLICE_MS = 60 * 60_000;
/** No walk goes further back: a backup from before that is not one to restore. */
const LONGEST_GAP_MS = 31 * 24 * 60 * 60_000;
/** A run ends after so many, or so many payments. The next run, a minute later, goes on. */
const SLICES_MAX = 60;
const PAYMENTS_MAX = 10_000;
/** Payments compared by one query. */
const PORTION_SIZE = 500;

export async function compareProviderBook(deps: ProviderBookDeps, signal: AbortSignal): Promise<StepReport> {
  const windowMs = await deps.sales.longestPaymentWindowMs();
  // A session that lives longer, as its order's deadline was extended, is met by the far walk alone, and is
  // not taken as known (`src/money/void-sessions.ts`).
  const nearMs = Math.max(windowMs, LEAST_SESSION_MS) + SLACK_MS;
  const near = await goOn(deps, 'near', nearMs, signal);
  const far = await goOn(deps, 'far', nearMs, signal);
  const looked = near.looked + far.looked;
  const failed = near.failed + far.failed;
  if (failed > 0 && failed === looked) throw new Error(`none of ${looked} payments could be compared`);
  return { looked, repaired: near.repaired + far.repaired, parked: 0 };
}

async function goOn(
  deps: ProviderBookDeps,
  walk: BookWalk,
  nearMs: number,
  signal: AbortSignal,
): Promise<StepReport & { failed: number }> {
  const report = { looked: 0, repaired: 0, parked: 0, failed: 0 };
  let state = await begin(deps, walk, nearMs);
  for (let slices = 0; state && state.at < state.until; slices += 1) {
    if (slices >= SLICES_MAX || report.looked >= PAYMENTS_MAX) break;
    const isOld = state.at < state.startedAt - LOOK_BACK_MS;
    const end = Math.min(state.at + (isOld ? OLD_SLICE_MS : SLICE_MS[walk]), state.until);
    const slice = await compareSlice(deps, state.at, end, walk, signal);
    report.looked += slice.looked;
    report.repaired += slice.repaired;
    report.failed += slice.failed;
    // Not all of it was compared, so the cursor stays.
    if (signal.aborted) break;
    state = advance(state, end, slice.failed);
    await deps.comparedBook.save(deps.provider.name, walk, state);
  }
  return report;
}

/** @returns the walk to go on with: the one under way, or a new one; undefined: none is due */
async function begin(
  { comparedBook, provider }: ProviderBookDeps,
  walk: BookWalk,
  nearMs: number,
): Promise<BookWalkState | undefined> {
  const state = await comparedBook.read(provider.name, walk);
  if (state.at < state.until) return state;
  // Whole seconds, as providers count.
  const startedAt = Math.floor(Date.now() / 1_000) * 1_000;
  const dayAgo = startedAt - LOOK_BACK_MS;
  // After a standstill, or in a MySQL that was restored, that is long ago.
  const finished = Math.max(state.finished || startedAt, startedAt - LONGEST_GAP_MS);
  const fresh = { ...state, startedAt, failedFrom: null };
  if (walk === 'near') {
    // What could not be compared is met again, so that only what is known counts as compared; for a day.
    const failedFrom = Math.max(state.failedFrom ?? startedAt, dayAgo);
    return { ...fresh, at: Math.min(finished - nearMs, failedFrom), until: startedAt };
  }
  const isDue = startedAt - state.finished >= FAR_EVERY_MS;
  const gapMs = Math.max(0, startedAt - finished - 2 * FAR_EVERY_MS);
  return isDue ? { ...fresh, at: dayAgo - gapMs, until: startedAt - nearMs } : undefined;
}

async function compareSlice(
  deps: ProviderBookDeps,
  fromMs: number,
  untilMs: number,
  walk: BookWalk,
  signal: AbortSignal,
) {
  const slice = { looked: 0, repaired: 0, failed: 0 };
  let portion: ListedPayment[] = [];
  const compare = async (): Promise<void> => {
    const { repaired, failed } = await comparePayments(deps, portion, walk === 'far', signal);
    slice.repaired += repaired;
    slice.failed += failed;
    portion = [];
  };
  try {
    for await (const payment of deps.provider.listPayments(fromMs, untilMs)) {
      if (signal.aborted) break;
      slice.looked += 1;
      portion.push(payment);
      if (portion.length >= PORTION_SIZE) await compare();
    }
  } catch (error) {
    // A walk that waited for what cannot be read would never come to the payments after it.
    if (!(error instanceof UnreadablePaymentsError)) throw error;
    deps.log.error({ err: error, fromMs, untilMs }, 'the provider lists payments that cannot be read');
    slice.looked += error.count;
    slice.failed += error.count;
  }
  await compare();
  return slice;
}

/** A payment that could not be compared is met by later walks; a walk that waited for it would never end. */
function advance(state: BookWalkState, at: number, failed: number): BookWalkState {
  const failedFrom = state.failedFrom ?? (failed > 0 ? state.at : null);
  const next = { ...state, at, failedFrom };
  if (at < state.until) return next;
  const { startedAt: finished } = state;
  return { ...next, finished, complete: failedFrom === null ? finished : state.complete };
}
