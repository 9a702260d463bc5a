/**
 * Compares the provider's list of payments with MySQL, because a provider gives up repeating a notice some
 * day. Each run goes on with two walks over the list: a near one over payments that may have been collected
 * since the last, and rarely one over all older ones of a day.
 */

import type { ListedPayment } from '../domain/payment.ts';
import { UnreadablePaymentsError, type PaymentProvider } from '../payments/provider.ts';
import type { BookWalk, BookWalkState } from '../stores/mysql/upkeep/compared-book.ts';
import { comparePayments, type ComparePaymentsDeps } from './compare-payments.ts';
import type { Step, StepReport } from './report.ts';

/**
 * How far back payments are compared, by the time at which they began. The longest payment window is a day,
 * and a payment that began at its start may be collected at its end.
 */
const LOOK_BACK_MS = 26 * 60 * 60_000;
/** How often the older ones are walked: what happens to them without a notice is rare, and is not urgent. */
const FAR_EVERY_MS = 60 * 60_000;
/** A session is open no longer than its order may be paid; Stripe's are for 40 minutes at least. */
const LEAST_SESSION_MS = 40 * 60_000;
/** For clocks that differ, and for a list that lags behind what was collected. */
const SLACK_MS = 20 * 60_000;
/** The part of the list after which a walk saves its place: one call of the provider unless many pay. */
const SLICE_MS: Readonly<Record<BookWalk, number>> = { near: 5 * 60_000, far: 30 * 60_000 };
/** A run ends after so many, or so many payments. The next run, a minute later, goes on. */
const SLICES_MAX = 60;
const PAYMENTS_MAX = 10_000;
/** Payments compared by one query. */
const PORTION_SIZE = 500;

export interface ProviderBookDeps extends ComparePaymentsDeps {
  provider: Pick<PaymentProvider, 'name' | 'listPayments' | 'listReversals'>;
}

export function createProviderBookStep(deps: ProviderBookDeps): Step {
  const { provider, comparedBook } = deps;

  /** @returns the walk to go on with: the one under way, or a new one; undefined: none is due */
  async function begin(walk: BookWalk, nearMs: number): Promise<BookWalkState | undefined> {
    const state = await comparedBook.read(provider.name, walk);
    if (state.at < state.until) return state;
    // Whole seconds, as providers count.
    const startedAt = Math.floor(Date.now() / 1_000) * 1_000;
    const dayAgo = startedAt - LOOK_BACK_MS;
    const fresh = { ...state, startedAt, failedFrom: null };
    if (walk === 'near') {
      // What could not be compared is met again, so that only what is known counts as compared.
      const at = Math.min((state.finished || startedAt) - nearMs, state.failedFrom ?? startedAt);
      return { ...fresh, at: Math.max(at, dayAgo), until: startedAt };
    }
    const isDue = startedAt - state.finished >= FAR_EVERY_MS;
    return isDue ? { ...fresh, at: dayAgo, until: startedAt - nearMs } : undefined;
  }

  async function goOn(
    walk: BookWalk,
    nearMs: number,
    signal: AbortSignal,
  ): Promise<StepReport & { failed: number }> {
    const report = { looked: 0, repaired: 0, parked: 0, failed: 0 };
    let state = await begin(walk, nearMs);
    for (let slices = 0; state && state.at < state.until; slices += 1) {
      if (slices >= SLICES_MAX || report.looked >= PAYMENTS_MAX) break;
      const end = Math.min(state.at + SLICE_MS[walk], state.until);
      const slice = await compareSlice(state.at, end, walk, signal);
      report.looked += slice.looked;
      report.repaired += slice.repaired;
      report.failed += slice.failed;
      // Not all of it was compared, so the place stays.
      if (signal.aborted) break;
      state = advance(state, end, slice.failed);
      await comparedBook.save(provider.name, walk, state);
    }
    return report;
  }

  async function compareSlice(fromMs: number, untilMs: number, walk: BookWalk, signal: AbortSignal) {
    const slice = { looked: 0, repaired: 0, failed: 0 };
    let portion: ListedPayment[] = [];
    const compare = async (): Promise<void> => {
      const { repaired, failed } = await comparePayments(deps, portion, walk === 'far', signal);
      slice.repaired += repaired;
      slice.failed += failed;
      portion = [];
    };
    try {
      for await (const payment of provider.listPayments(fromMs, untilMs)) {
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

  return async (signal) => {
    const windowMs = await deps.sales.longestPaymentWindowMs();
    const nearMs = Math.max(windowMs, LEAST_SESSION_MS) + SLACK_MS;
    const near = await goOn('near', nearMs, signal);
    const far = await goOn('far', nearMs, signal);
    const looked = near.looked + far.looked;
    const failed = near.failed + far.failed;
    if (failed > 0 && failed === looked) throw new Error(`none of ${looked} payments could be compared`);
    return { looked, repaired: near.repaired + far.repaired, parked: 0 };
  };
}

/** A payment that could not be compared is met by later walks; a walk that waited for it would never end. */
function advance(state: BookWalkState, at: number, failed: number): BookWalkState {
  const failedFrom = state.failedFrom ?? (failed > 0 ? state.at : null);
  const next = { ...state, at, failedFrom };
  if (at < state.until) return next;
  const { startedAt: finished } = state;
  return { ...next, finished, complete: failedFrom === null ? finished : state.complete };
}
