/**
 * The types of payments, refunds and notices, the same for every payment provider; how the refunds and
 * disputes of one payment add up; and what staff may ask to send back.
 */

import { hash } from 'node:crypto';
import { z } from 'zod';
import { decisionReason, MAX_CART_LINES, MAX_LINE_QUANTITY, skuSchema } from '../orders/content.ts';
import type { OrderUnits } from '../orders/order.ts';

/** Stands where a provider's name does, for the payment of an order that cost nothing. */
export const NO_PROVIDER = 'none';

/** Refunds of one order. Each is a decision of a person; every run of the refund's workflow reads all. */
export const MAX_REFUNDS_PER_ORDER = 100;

/** A payment that the provider reports as collected. `amount` in minor units. */
export interface ProviderPayment {
  /** The provider's own id. It is unique, and the key of the `payments` table. */
  providerPaymentId: string;
  orderNo: string;
  amount: number;
  currency: string;
  /** The signed order as the session carried it, unverified; null for a payment made outside any session. */
  signedOrder: string | null;
  /** What the provider charges for it, in minor units of the same currency; absent: not reported. */
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
  /** What the provider charges for the payment, in minor units; null: not reported. */
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
 * pending → succeeded: the payer has the money back | failed: the shop kept it. A refund that succeeded may
 * still fail, never the other way. A dispute may go any way: one that is closed may open again, or be decided
 * again.
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
  /** Of a pending refund: the provider's word for its state, where that word is not known. */
  unknownState?: string;
  /**
   * Of a dispute: the time of the provider's statement, by the provider's clock (Unix ms). The latest
   * statement counts. Of two statements of one time, or where one has no time, the greater status counts.
   */
  asOfMs?: number;
  /**
   * What the provider charges for it, in minor units of the same currency; negative: it gives a fee back;
   * absent: not reported.
   */
  fee?: number;
}

/** What the provider said when it refused a refund; shortened, and without secrets. */
export const refusalSchema = z.strictObject({
  code: z
    .string()
    .meta({ description: "The provider's own word for it, for programs.", examples: ['closed'] }),
  message: z.string().meta({ description: 'A sentence for operators.', examples: ['The card is closed.'] }),
});
export type Refusal = z.infer<typeof refusalSchema>;

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
  /** The order is called off, and had not been paid. */
  'called_off',
  'operator_request',
] as const;
export type RefundReason = (typeof REFUND_REASONS)[number];

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

/** What is with the payer by disputes, or will be unless they end well. In minor units of `currency`. */
export function sumDisputes(currency: string, reversals: readonly Reversal[]): number {
  const { succeeded, pending } = sumReversals(
    currency,
    reversals.filter(({ kind }) => kind === 'dispute'),
  );
  return succeeded + pending;
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

const CURRENCY_CODE = /^[A-Z]{3}$/i;

/**
 * `49.00 EUR`: minor units with as many decimals as the currency has. Never throws: an amount of an unknown
 * currency is given in minor units.
 */
export function formatMoney(amount: number, currency: string): string {
  if (!CURRENCY_CODE.test(currency)) return `${amount} minor units of ${currency}`;
  const format = new Intl.NumberFormat('en', { style: 'currency', currency });
  const { maximumFractionDigits: decimals = 2 } = format.resolvedOptions();
  return `${(amount / 10 ** decimals).toFixed(decimals)} ${currency}`;
}

/**
 * all: what is left of the money, and of the units. money: so many minor units. units: of these SKUs, for
 * what they cost or for another amount, with the charges of the order where asked for.
 */
export type RefundWish = {
  restock: boolean;
  /** By default the sale's rule. */
  restoresLimit: boolean | undefined;
} & (
  | { kind: 'all' }
  | { kind: 'money'; amount: number }
  | { kind: 'units'; items: OrderUnits[]; amount: number | undefined; charges: boolean }
);

export const refundRequestSchema = z
  .strictObject({
    amount: z
      .int()
      .min(0)
      .optional()
      .describe(
        'Minor units of the currency. Without `lines`: money alone. Unless given: what the lines cost.',
      ),
    lines: z
      .array(
        z.strictObject({
          sku: skuSchema,
          quantity: z.int().min(1).max(MAX_LINE_QUANTITY).describe('Units of the SKU.'),
        }),
      )
      .min(1)
      .max(MAX_CART_LINES)
      .refine((lines) => new Set(lines.map(({ sku }) => sku)).size === lines.length, 'each SKU once')
      .optional()
      .describe('The units to refund, each SKU once.'),
    charges: z
      .boolean()
      .default(false)
      .describe("With `lines` and no `amount`: refund the order's charges too."),
    restock: z.boolean().default(false).describe('Put the units on sale again, once the money is back.'),
    restoreLimit: z
      .boolean()
      .optional()
      .describe(
        "Take the units off the user's limit, once the money is back. Unless given: as the sale says.",
      ),
    reason: decisionReason.optional(),
  })
  .refine(({ amount, lines }) => lines !== undefined || amount !== 0, {
    path: ['amount'],
    message: 'at least 1, unless it is for lines',
  })
  .refine(({ amount, lines, charges }) => !charges || (lines !== undefined && amount === undefined), {
    path: ['charges'],
    message: 'only for lines, and without an amount',
  })
  .refine(({ amount, lines, restock }) => lines !== undefined || amount === undefined || !restock, {
    path: ['restock'],
    message: 'only for lines, or for all that is left',
  })
  .refine(({ amount, lines, restoreLimit }) => lines !== undefined || amount === undefined || !restoreLimit, {
    path: ['restoreLimit'],
    message: 'only for lines, or for all that is left',
  })
  .meta({
    id: 'RefundRequest',
    description: 'What is to go back. Neither `amount` nor `lines`: all that is left.',
    examples: [
      { lines: [{ sku: 'lamp', quantity: 1 }], restock: true, reason: 'The parcel came back unopened.' },
    ],
  });
export type RefundRequest = z.infer<typeof refundRequestSchema>;

export function toRefundWish({ amount, lines, charges, restock, restoreLimit }: RefundRequest): RefundWish {
  const rules = { restock, restoresLimit: restoreLimit };
  if (lines) return { ...rules, kind: 'units', items: lines, amount, charges };
  return amount === undefined ? { ...rules, kind: 'all' } : { ...rules, kind: 'money', amount };
}

/** A digest by which the reuse of a key for another request is noticed. The order of the lines is no part. */
export function fingerprintOfRefund({ lines, ...request }: RefundRequest): string {
  const sorted = lines?.map(({ sku, quantity }) => JSON.stringify([sku, quantity])).toSorted();
  return hash('sha256', JSON.stringify([request, sorted ?? null]), 'base64url');
}
