/** What refunds and chargebacks make of a payment: pure rules. */

import type { PaymentStatus, Reversal } from '../domain/payment.ts';
import type { Payment } from './payment-rows.ts';

/** What went back of a payment; minor units of its currency. */
export interface Returned {
  succeeded: number;
  /** On its way, or in dispute. */
  pending: number;
  /** A chargeback is open. */
  isDisputed: boolean;
  /** Something went back in another currency, which nobody can add up. */
  isMixed: boolean;
}

export function sumReversals(currency: string, reversals: readonly Reversal[]): Returned {
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
export function isTouched({ succeeded, pending, isMixed }: Returned): boolean {
  return succeeded + pending > 0 || isMixed;
}

/**
 * The payment's status, now that so much of it went back.
 * @param mayStay a payment that is no longer refunded may pay for its order again: the shop has won the dispute about it
 */
export function statusAfter(payment: Payment, returned: Returned, mayStay: boolean): PaymentStatus {
  if (returned.succeeded >= payment.amount) return 'refunded';
  switch (payment.status) {
    case 'received':
      // Money that is not all there pays for nothing.
      return isTouched(returned) ? 'parked' : 'received';
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
