/**
 * Compares the provider's list of payments with MySQL, because a provider gives up repeating a notice some
 * day. A payment or reversal without a notice is recorded as if its notice had come, by the same rules.
 */

import type { Logger } from 'pino';
import type { ListedPayment, ReversalTotals } from '../domain/payment.ts';
import { sumReversals } from '../domain/reversals.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import type { Payments } from '../stores/mysql/money/payments.ts';
import type { Refunds } from '../stores/mysql/money/refunds.ts';
import type { Step } from './report.ts';

/**
 * How far back payments are compared, by the time at which they began. The longest payment window is a day,
 * and a payment that began at its start may be collected at its end.
 */
const LOOK_BACK_MS = 26 * 60 * 60_000;
/** Payments compared by one query. */
const PORTION_SIZE = 500;
const UNTOUCHED: ReversalTotals = { succeeded: 0, pending: 0, isDisputed: false, isMixed: false };

export interface ProviderBookDeps {
  provider: Pick<PaymentProvider, 'name' | 'listPayments' | 'listReversals'>;
  payments: Pick<Payments, 'readReversalTotals' | 'record'>;
  refunds: Pick<Refunds, 'recordReversals'>;
  log: Logger;
}

export function createProviderBookStep(deps: ProviderBookDeps): Step {
  const { provider, payments, refunds, log } = deps;

  /**
   * @returns whether something was recorded
   * @throws when provider and MySQL differ, and the difference cannot be read or recorded now
   */
  async function comparePayment(
    { totals, ...payment }: ListedPayment,
    known: ReversalTotals | undefined,
  ): Promise<boolean> {
    const { providerPaymentId, orderNo } = payment;
    if (!known) log.warn({ providerPaymentId, orderNo }, 'a payment without a notice');
    const recorded = known ?? UNTOUCHED;
    let isMissing = !known;
    // Reversals are recorded before their payment, so that a payment that went back never pays for an order.
    if (totals === null || !isSame({ ...totals, isMixed: false }, recorded)) {
      const reversals = await provider.listReversals(providerPaymentId);
      const listed = sumReversals(payment.currency, reversals);
      if (!isSame(listed, recorded)) {
        isMissing = true;
        log.warn({ providerPaymentId, orderNo, listed, recorded }, 'reversals without a notice');
      }
      await refunds.recordReversals(provider.name, reversals, 'provider');
    }
    if (!known) await payments.record(provider.name, payment);
    return isMissing;
  }

  /**
   * One payment that cannot be compared does not delay the others; the next run compares it again.
   * @returns how many lacked something in MySQL
   * @throws when no payment of the portion could be compared
   */
  async function comparePortion(portion: readonly ListedPayment[], signal: AbortSignal): Promise<number> {
    if (portion.length === 0 || signal.aborted) return 0;
    const known = await payments.readReversalTotals(
      provider.name,
      portion.map(({ providerPaymentId }) => providerPaymentId),
    );
    const failures: unknown[] = [];
    let repaired = 0;
    for (const payment of portion) {
      if (signal.aborted) return repaired;
      const { providerPaymentId, orderNo } = payment;
      try {
        if (await comparePayment(payment, known.get(providerPaymentId))) repaired += 1;
      } catch (error) {
        failures.push(error);
        log.warn(
          { err: error, providerPaymentId, orderNo },
          'a payment could not be compared with the provider',
        );
      }
    }
    if (failures.length === portion.length) {
      throw new Error(`none of ${portion.length} payments could be compared`, { cause: failures[0] });
    }
    return repaired;
  }

  return async (signal) => {
    let portion: ListedPayment[] = [];
    let [looked, repaired] = [0, 0];
    for await (const payment of provider.listPayments(Date.now() - LOOK_BACK_MS)) {
      if (signal.aborted) break;
      looked += 1;
      portion.push(payment);
      if (portion.length < PORTION_SIZE) continue;
      repaired += await comparePortion(portion, signal);
      portion = [];
    }
    repaired += await comparePortion(portion, signal);
    return { looked, repaired, parked: 0 };
  };
}

type Settled = Omit<ReversalTotals, 'pending'>;

/** Pending amounts are not compared, because providers list them differently. Their end is compared. */
function isSame(one: Settled, other: Settled): boolean {
  return (
    one.succeeded === other.succeeded && one.isDisputed === other.isDisputed && one.isMixed === other.isMixed
  );
}
