/**
 * Looks into the provider's own book for money, taken or returned, that no notice told of: a provider gives up repeating one some day.
 * What is found is recorded as if a notice had come, and so meets the same rules.
 */

import type { Logger } from 'pino';
import type { ListedPayment } from '../domain/payment.ts';
import { sumReversals, type ReversalTotals } from '../domain/reversals.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import type { Payments } from '../stores/mysql/money/payments.ts';
import type { Refunds } from '../stores/mysql/money/refunds.ts';

/** The longest payment window is a day; a payment begun at its start may be taken at its end. */
const LOOK_BACK_MS = 26 * 60 * 60_000;
/** Compared in one query. */
const PORTION = 500;
const UNTOUCHED: ReversalTotals = { succeeded: 0, pending: 0, isDisputed: false, isMixed: false };

export interface ReconciliationDeps {
  provider: Pick<PaymentProvider, 'name' | 'listPayments' | 'listReversals'>;
  payments: Pick<Payments, 'readReversalTotals' | 'record'>;
  refunds: Pick<Refunds, 'recordReversals'>;
  everyMs: number;
  /** Aborts: a long look is not looked to its end. */
  signal: AbortSignal;
  log: Logger;
}

/** @returns one pass of the check's loop; it answers the pause before the next */
export function createReconciliation(deps: ReconciliationDeps): () => Promise<number> {
  const { provider, payments, refunds, everyMs, signal, log } = deps;

  /** @throws when the books differ, and the difference cannot be read or recorded now */
  async function settle(
    { totals, ...payment }: ListedPayment,
    known: ReversalTotals | undefined,
  ): Promise<void> {
    const { providerPaymentId, orderNo } = payment;
    if (!known) log.warn({ providerPaymentId, orderNo }, 'a payment without a notice');
    const recorded = known ?? UNTOUCHED;
    // Before the payment: reversals wait for theirs, and money that is gone must pay for nothing.
    if (totals === null || !isSame({ ...totals, isMixed: false }, recorded)) {
      const reversals = await provider.listReversals(providerPaymentId);
      const listed = sumReversals(payment.currency, reversals);
      if (!isSame(listed, recorded)) {
        log.warn({ providerPaymentId, orderNo, listed, recorded }, 'reversals without a notice');
      }
      await refunds.recordReversals(provider.name, reversals, 'provider');
    }
    if (!known) await payments.record(provider.name, payment);
  }

  /** @throws when nothing of it could be compared; a single payment holds up no other, and is met again by the next pass */
  async function compare(portion: readonly ListedPayment[]): Promise<void> {
    if (portion.length === 0) return;
    const known = await payments.readReversalTotals(
      provider.name,
      portion.map(({ providerPaymentId }) => providerPaymentId),
    );
    const failures: unknown[] = [];
    for (const payment of portion) {
      if (signal.aborted) return;
      const { providerPaymentId, orderNo } = payment;
      try {
        await settle(payment, known.get(providerPaymentId));
      } catch (error) {
        failures.push(error);
        log.warn({ err: error, providerPaymentId, orderNo }, 'a payment could not be compared with the book');
      }
    }
    if (failures.length === portion.length) {
      throw new Error(`none of ${portion.length} payments could be compared`, { cause: failures[0] });
    }
  }

  return async function pass(): Promise<number> {
    let portion: ListedPayment[] = [];
    for await (const payment of provider.listPayments(Date.now() - LOOK_BACK_MS)) {
      if (signal.aborted) return 0;
      portion.push(payment);
      if (portion.length < PORTION) continue;
      await compare(portion);
      portion = [];
    }
    if (signal.aborted) return 0;
    await compare(portion);
    return everyMs;
  };
}

type Settled = Omit<ReversalTotals, 'pending'>;

/** What is pending is left out: providers list it under different conditions, and its end is compared anyway. */
function isSame(one: Settled, other: Settled): boolean {
  return (
    one.succeeded === other.succeeded && one.isDisputed === other.isDisputed && one.isMixed === other.isMixed
  );
}
