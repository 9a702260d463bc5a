/** What we read of Stripe's objects, from replies and notices alike, and what it means to us. */

import { z } from 'zod';
import type { ListedPayment, ProviderPayment, Reversal, ReversalStatus } from '../../domain/payment.ts';
import { readMetadata } from './metadata.ts';

/** Far above Stripe's own lengths, within what we store. */
export const stripeIdSchema = z.string().min(1).max(128);
/** Some fields are an id, or the object itself where it was asked for. */
const referenceSchema = z
  .union([stripeIdSchema, z.object({ id: stripeIdSchema })])
  .transform((value) => (typeof value === 'string' ? value : value.id));
/** Lower case at Stripe. */
const currencySchema = z
  .string()
  .regex(/^[a-z]{3}$/)
  .transform((currency) => currency.toUpperCase());
/** Minor units. */
const amountSchema = z.int().positive();

export const openedSessionSchema = z.object({
  id: stripeIdSchema,
  url: z.url({ protocol: /^https?$/ }),
});

/** By which we know whose object it is, before we ask more of it. */
const tagsSchema = z.object({ metadata: z.record(z.string(), z.string()).nullish() });

/** The order that a session or a payment was opened for; undefined when it is no business of ours. */
export function orderOf(object: unknown) {
  return readMetadata(tagsSchema.parse(object).metadata ?? {});
}

export const sessionStateSchema = z.object({
  status: z.string().nullable(),
  payment_status: z.string(),
});

const paidSessionSchema = z.object({
  payment_intent: referenceSchema,
  amount_total: amountSchema,
  currency: currencySchema,
});

/** @throws ZodError when a session of ours is not as a paid one must be */
export function toSessionPayment(session: unknown): ProviderPayment | undefined {
  const order = orderOf(session);
  if (!order) return undefined;
  const {
    payment_intent: providerPaymentId,
    amount_total: amount,
    currency,
  } = paidSessionSchema.parse(session);
  return { providerPaymentId, ...order, amount, currency };
}

const takenIntentSchema = z.object({
  id: stripeIdSchema,
  amount_received: amountSchema,
  currency: currencySchema,
  latest_charge: z.object({ amount_refunded: z.int().nonnegative(), disputed: z.boolean() }),
});

const UNTOUCHED: ListedPayment['totals'] = { succeeded: 0, isDisputed: false };

/**
 * A payment from the book; undefined when it is no business of ours. Its charge must be expanded. The charge counts refunds also while
 * they are pending, and calls itself disputed also when that is over: more than that there is something, it does not tell.
 */
export function toListedPayment(intent: unknown): ListedPayment | undefined {
  const order = orderOf(intent);
  if (!order) return undefined;
  const { id, amount_received: amount, currency, latest_charge: charge } = takenIntentSchema.parse(intent);
  const isTouched = charge.amount_refunded > 0 || charge.disputed;
  return { providerPaymentId: id, ...order, amount, currency, totals: isTouched ? null : UNTOUCHED };
}

const REFUND_STATUSES = {
  pending: 'pending',
  // The payer is asked where to send it.
  requires_action: 'pending',
  succeeded: 'succeeded',
  failed: 'failed',
  canceled: 'failed',
} satisfies Record<string, ReversalStatus>;

const refundSchema = z.object({
  id: stripeIdSchema,
  amount: amountSchema,
  currency: currencySchema,
  status: z
    .enum(['pending', 'requires_action', 'succeeded', 'failed', 'canceled'])
    .transform((status) => REFUND_STATUSES[status]),
});

/** @throws ZodError */
export function toRefund(refund: unknown, providerPaymentId: string): Reversal {
  const { id, ...rest } = refundSchema.parse(refund);
  return { kind: 'refund', providerReversalId: id, providerPaymentId, ...rest };
}

/**
 * All others leave it open, also an appeal. So does `prevented`: it says that the payer was content before it came to a chargeback, but
 * not whether by our money, so a person looks; a refund is told of by itself.
 */
const CLOSED_DISPUTES: Readonly<Record<string, ReversalStatus>> = {
  won: 'failed',
  lost: 'succeeded',
  warning_closed: 'failed',
};

const disputeSchema = z.object({
  id: stripeIdSchema,
  amount: amountSchema,
  currency: currencySchema,
  status: z.string().transform((status) => CLOSED_DISPUTES[status] ?? ('pending' as const)),
});

/** @throws ZodError */
export function toDispute(dispute: unknown, providerPaymentId: string): Reversal {
  const { id, ...rest } = disputeSchema.parse(dispute);
  return { kind: 'dispute', providerReversalId: id, providerPaymentId, ...rest };
}

const reversedSchema = z.object({ payment_intent: referenceSchema.nullish() });

/** The payment that a refund or a dispute is about; undefined for a charge without one, which is never ours. */
export function reversedPaymentOf(object: unknown): string | undefined {
  return reversedSchema.parse(object).payment_intent ?? undefined;
}
