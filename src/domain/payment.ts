/** Payments as Holdfast sees them, whichever provider took them. */

/** A payment the provider says it took. `amount` in minor units. */
export interface ProviderPayment {
  /** The provider's own id: unique, and the key of the `payments` table. */
  providerPaymentId: string;
  orderNo: string;
  amount: number;
  currency: string;
}

/** A verified webhook, parsed. `ignored` covers every event that moves no money. */
export type PaymentNotice =
  | { kind: 'payment_succeeded'; eventId: string; payment: ProviderPayment }
  | { kind: 'payment_failed'; eventId: string; orderNo: string }
  | { kind: 'ignored'; eventId: string; type: string };

/** received → applied | parked | refund_due → refunded. */
export type PaymentStatus = 'received' | 'applied' | 'parked' | 'refund_due' | 'refunded';
