/**
 * Compares payments of the provider's list with MySQL. A payment or reversal without a notice is recorded as
 * if its notice had come, by the same rules.
 */

import type { ListedPayment, RecordedTotals, ReversalTotals } from '../domain/payment.ts';
import { sumReversals } from '../domain/reversals.ts';
import { ProviderBusyError, type PaymentProvider } from '../payments/provider.ts';
import type { Stores } from '../stores/open.ts';

const UNTOUCHED: RecordedTotals = {
  succeeded: 0,
  pending: 0,
  isDisputed: false,
  isMixed: false,
  refunded: 0,
  wasDisputed: false,
  fee: null,
};

export interface ComparePaymentsDeps extends Stores {
  provider: Pick<PaymentProvider, 'name' | 'listReversals'>;
}

export interface Compared {
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
export async function comparePayments(
  deps: ComparePaymentsDeps,
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
  { provider, payments, refunds, log }: ComparePaymentsDeps,
  { totals, counted, ...payment }: ListedPayment,
  known: RecordedTotals | undefined,
  asksPending: boolean,
): Promise<boolean> {
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
  if (!known) await payments.record(provider.name, payment);
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
