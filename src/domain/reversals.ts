/** Refunds and chargebacks of one payment: how they add up, and what the sum makes of the payment. Pure rules. */

import type { PaymentStatus, Reversal } from './payment.ts';

/**
 * What went back of a payment, in minor units of the payment's own currency. An amount in another currency is never added, because no
 * rate is known here: it is only flagged, and a person decides.
 */
export interface ReversalTotals {
  /** Refunds that succeeded and chargebacks that the shop lost. */
  succeeded: number;
  /** On its way, or in dispute. */
  pending: number;
  /** A chargeback is open. */
  isDisputed: boolean;
  /** Something went back, or may, in another currency. */
  isMixed: boolean;
}

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

/** Something of it has gone back, or may. */
export function isTouched({ succeeded, pending, isMixed }: ReversalTotals): boolean {
  return succeeded + pending > 0 || isMixed;
}

/**
 * The payment's status after these reversals.
 * @param mayStay a payment that is no longer refunded may pay for its order again: the shop has won the dispute about it
 */
export function statusAfter(
  payment: { amount: number; status: PaymentStatus },
  totals: ReversalTotals,
  mayStay: boolean,
): PaymentStatus {
  if (totals.succeeded >= payment.amount) return 'refunded';
  switch (payment.status) {
    case 'received':
      // Money that is not all there pays for nothing.
      return isTouched(totals) ? 'parked' : 'received';
    case 'refunded':
      return mayStay ? 'applied' : 'refund_due';
    case 'applied':
    case 'parked':
    case 'refund_due':
      return payment.status;
    default:
      return payment.status satisfies never;
  }
}
