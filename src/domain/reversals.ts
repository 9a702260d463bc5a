/** Pure rules: how the refunds and disputes of one payment add up, and which status they give the payment. */

import type { PaymentStatus, Reversal, ReversalTotals } from './payment.ts';

/** @param currency of the payment */
export function sumReversals(
  currency: string,
  reversals: readonly Pick<Reversal, 'kind' | 'amount' | 'currency' | 'status'>[],
): ReversalTotals {
  const alive = reversals.filter(({ status }) => status !== 'failed');
  const sum = (status: string) =>
    alive
      .filter((reversal) => reversal.currency === currency && reversal.status === status)
      .reduce((total, { amount }) => total + amount, 0);
  return {
    succeeded: sum('succeeded'),
    pending: sum('pending'),
    isDisputed: alive.some(({ kind, status }) => kind === 'dispute' && status === 'pending'),
    isMixed: alive.some((reversal) => reversal.currency !== currency),
  };
}

/**
 * All that went back, by the provider's list and by our record of it, each reversal once. A list may lag
 * behind notices and answers that are recorded, and MySQL may have lost what is listed: the greater of both
 * counts.
 * @param recorded has each that is listed
 */
export function joinReversals(listed: readonly Reversal[], recorded: readonly Reversal[]): Reversal[] {
  const nameOf = ({ kind, providerReversalId }: Reversal) => `${kind} ${providerReversalId}`;
  const alive = new Map(listed.filter(({ status }) => status !== 'failed').map((one) => [nameOf(one), one]));
  return recorded.map((one) => {
    const other = alive.get(nameOf(one));
    return other && (one.status === 'failed' || other.amount > one.amount) ? other : one;
  });
}

/** Whether any of the payment went back or still may. */
export function isTouched({ succeeded, pending, isMixed }: ReversalTotals): boolean {
  return succeeded + pending > 0 || isMixed;
}

/**
 * Of the refunds alone, without disputes.
 * @param currency of the payment
 */
export function sumRefunds(
  currency: string,
  reversals: readonly Pick<Reversal, 'kind' | 'amount' | 'currency' | 'status'>[],
): Pick<ReversalTotals, 'succeeded' | 'pending'> {
  return sumReversals(
    currency,
    reversals.filter(({ kind }) => kind === 'refund'),
  );
}

/** A payment, with what was requested of it. */
interface Requested {
  /** Minor units. */
  amount: number;
  status: PaymentStatus;
  /** Minor units that are to be refunded in all; 0: no refund was requested here. */
  refundTarget: number;
}

/** What the status depends on beside the totals. */
interface Circumstances {
  /** Minor units of refunds that succeeded. */
  refunded: number;
  /**
   * A payment that is no longer refunded may pay for its order again, because the shop won the dispute about
   * it.
   */
  mayPayAgain: boolean;
}

/** The payment's status after these reversals. */
export function statusAfter(
  { amount, status, refundTarget }: Requested,
  totals: ReversalTotals,
  { refunded, mayPayAgain }: Circumstances,
): PaymentStatus {
  if (totals.succeeded >= amount) return 'refunded';
  switch (status) {
    case 'received':
      // A payment of which part may go back does not pay for an order.
      return isTouched(totals) ? 'parked' : 'received';
    case 'refunded':
      return mayPayAgain ? 'applied' : 'refund_due';
    // Only a payment that paid for its order is refunded in part, and what is left of it still does.
    case 'refund_due':
      return refundTarget < amount && refunded >= refundTarget ? 'applied' : 'refund_due';
    case 'applied':
      return refunded < refundTarget ? 'refund_due' : 'applied';
    case 'parked':
      return status;
    default:
      return status satisfies never;
  }
}

/** Whether money of a payment that paid for its order goes back, or went, that was not requested here. */
export function isUnrequested(
  { refundTarget }: Pick<Requested, 'refundTarget'>,
  totals: ReversalTotals,
  refunds: Pick<ReversalTotals, 'succeeded' | 'pending'>,
): boolean {
  const refunded = refunds.succeeded + refunds.pending;
  const disputed = totals.succeeded + totals.pending - refunded;
  return totals.isMixed || disputed > 0 || refunded > refundTarget;
}
