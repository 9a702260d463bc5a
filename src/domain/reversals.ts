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

/** Whether any of the payment went back or still may. */
export function isTouched({ succeeded, pending, isMixed }: ReversalTotals): boolean {
  return succeeded + pending > 0 || isMixed;
}

/**
 * The payment's status after these reversals.
 * @param mayPayAgain a payment that is no longer refunded may pay for its order again, because the shop won
 *   the dispute about it
 */
export function statusAfter(
  payment: { amount: number; status: PaymentStatus },
  totals: ReversalTotals,
  mayPayAgain: boolean,
): PaymentStatus {
  if (totals.succeeded >= payment.amount) return 'refunded';
  switch (payment.status) {
    case 'received':
      // A payment of which part may go back does not pay for an order.
      return isTouched(totals) ? 'parked' : 'received';
    case 'refunded':
      return mayPayAgain ? 'applied' : 'refund_due';
    case 'applied':
    case 'parked':
    case 'refund_due':
      return payment.status;
    default:
      return payment.status satisfies never;
  }
}
