/** The types of payments, refunds and notices, the same for every payment provider. */

/** A payment that the provider reports as collected. `amount` in minor units. */
export interface ProviderPayment {
  /** The provider's own id. It is unique, and the key of the `payments` table. */
  providerPaymentId: string;
  orderNo: string;
  amount: number;
  currency: string;
  /** The signed order as the session carried it, unverified; null for a payment made outside any session. */
  signedOrder: string | null;
  /** What the provider charges for it, in minor units of the same currency; absent: not told. */
  fee?: number;
}

/**
 * What went back of a payment, in minor units of the payment's own currency. An amount in another currency is
 * never added, because no exchange rate is known: it is only flagged, and an operator decides.
 */
export interface ReversalTotals {
  /** Refunds that succeeded, and disputes that the shop lost. */
  succeeded: number;
  /** Refunds on their way, and open disputes. */
  pending: number;
  /** A dispute is open. */
  isDisputed: boolean;
  /** A reversal in another currency succeeded or is pending. */
  isMixed: boolean;
}

/** The totals of what is recorded of a payment, and the sums that a provider's list may show instead. */
export interface RecordedTotals extends ReversalTotals {
  /** Minor units of refunds that succeeded or are pending. */
  refunded: number;
  /** A dispute was opened, also one that is over. */
  wasDisputed: boolean;
  /** What the provider charges for the payment, in minor units; null: not told. */
  fee: number | null;
}

/** A payment as the provider's own list shows it. */
export interface ListedPayment extends ProviderPayment {
  /** What went back, by that list; null: something went back or may, and the list does not say what. */
  totals: Pick<ReversalTotals, 'succeeded' | 'isDisputed'> | null;
  /** Where `totals` is null, what the list shows all the same. */
  counted?: Pick<RecordedTotals, 'refunded' | 'wasDisputed'>;
}

/** A payment that the provider collected, with what of it went back to the payer. */
export interface CollectedPayment extends ProviderPayment {
  /** Minor units; refunds that succeeded and chargebacks that were lost. */
  returned: number;
  /** Something went back, or may, in another currency. */
  isMixed: boolean;
}

/**
 * pending → succeeded: the payer has the money back | failed: the shop kept it. A success may still turn into
 * a failure, never the other way.
 */
export const REVERSAL_STATUSES = ['pending', 'succeeded', 'failed'] as const;
export type ReversalStatus = (typeof REVERSAL_STATUSES)[number];

/**
 * Money that goes back to the payer: a refund, requested here or made at the provider, or a dispute. A
 * dispute has `succeeded` when the shop lost it (a chargeback).
 */
export interface Reversal {
  kind: 'refund' | 'dispute';
  /** Unique among those of its kind and payment. */
  providerReversalId: string;
  providerPaymentId: string;
  /** Minor units; may be less than the payment. */
  amount: number;
  currency: string;
  status: ReversalStatus;
  /**
   * What the provider charges for it, in minor units of the same currency; negative: it gives a fee back;
   * absent: not told.
   */
  fee?: number;
}

/** A verified and parsed webhook. `ignored` covers every event that moves no money. */
export type PaymentNotice =
  | { kind: 'payment_succeeded'; eventId: string; payment: ProviderPayment }
  | { kind: 'payment_failed'; eventId: string; orderNo: string }
  | { kind: 'payment_reversed'; eventId: string; reversal: Reversal }
  | { kind: 'ignored'; eventId: string; type: string };

/**
 * received → applied | parked | refund_due → refunded. An applied payment may become refund_due (an operator
 * requests it) or refunded (at the provider). After a refund in part it is applied again.
 */
export const PAYMENT_STATUSES = ['received', 'applied', 'parked', 'refund_due', 'refunded'] as const;
export type PaymentStatus = (typeof PAYMENT_STATUSES)[number];

/** Why a payment is refunded. */
export const REFUND_REASONS = [
  /** The order has another payment. */
  'duplicate_payment',
  /** The order was cancelled or failed before the payment came. */
  'order_ended',
  /** No such order is known, and the payment carries no signed order to restore it from. */
  'order_unknown',
  /** The order could be restored, but its stock is sold. */
  'sold_out',
  'operator_request',
] as const;
export type RefundReason = (typeof REFUND_REASONS)[number];
