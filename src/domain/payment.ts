/** Payments as Holdfast sees them, whichever provider took them. */

import type { ReversalTotals } from './reversals.ts';

/** A payment the provider says it took. `amount` in minor units. */
export interface ProviderPayment {
  /** The provider's own id: unique, and the key of the `payments` table. */
  providerPaymentId: string;
  orderNo: string;
  amount: number;
  currency: string;
  /** The order's essentials as the session carried them, still signed; null for money that came outside any session. */
  signedOrder: string | null;
}

/** A payment as the list of the provider's own book has it. */
export interface ListedPayment extends ProviderPayment {
  /** As the list has it; null: something of it went back or may, and the list does not say what. */
  totals: Pick<ReversalTotals, 'succeeded' | 'isDisputed'> | null;
}

/** A payment in the provider's own book, with what went back to the payer. */
export interface CollectedPayment extends ProviderPayment {
  /** Minor units; refunds that succeeded and chargebacks that were lost. */
  returned: number;
}

/** pending → succeeded: the payer has the money back | failed: the shop kept it. A success may still turn into a failure, never the other way. */
export const REVERSAL_STATUSES = ['pending', 'succeeded', 'failed'] as const;
export type ReversalStatus = (typeof REVERSAL_STATUSES)[number];

/** Money on its way back: a refund (ours, or made at the provider), or a chargeback, which `succeeded` when the shop lost it. */
export interface Reversal {
  kind: 'refund' | 'dispute';
  /** Unique at the provider. */
  providerReversalId: string;
  providerPaymentId: string;
  /** Minor units; may be less than the payment. */
  amount: number;
  currency: string;
  status: ReversalStatus;
}

/** A verified webhook, parsed. `ignored` covers every event that moves no money. */
export type PaymentNotice =
  | { kind: 'payment_succeeded'; eventId: string; payment: ProviderPayment }
  | { kind: 'payment_failed'; eventId: string; orderNo: string }
  | { kind: 'payment_reversed'; eventId: string; reversal: Reversal }
  | { kind: 'ignored'; eventId: string; type: string };

/** received → applied | parked | refund_due → refunded. An applied payment may become refund_due (a person says so) or refunded (at the provider). */
export const PAYMENT_STATUSES = ['received', 'applied', 'parked', 'refund_due', 'refunded'] as const;
export type PaymentStatus = (typeof PAYMENT_STATUSES)[number];

/** Why money goes back. */
export const REFUND_REASONS = [
  /** The order has another payment. */
  'duplicate_payment',
  /** The order was cancelled or failed before the money came. */
  'order_ended',
  /** No such order, and nothing to restore it from. */
  'order_unknown',
  /** The order could be restored, but its stock is sold. */
  'sold_out',
  'operator_request',
] as const;
export type RefundReason = (typeof REFUND_REASONS)[number];
