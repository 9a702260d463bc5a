/** The schemas of the fields read from Stripe's objects, in replies and notices, and their translation. */

import { z } from 'zod';
import type { ListedPayment, ProviderPayment, Reversal, ReversalStatus } from '../../domain/payment.ts';
import { isForeign } from '../deployment.ts';
import { readDeployment, readMetadata } from './metadata.ts';

/** Far more than Stripe's ids have, and within the width of the columns. */
export const stripeIdSchema = z.string().min(1).max(128);
/** Some fields hold an id, or the object itself where it was expanded. */
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
  /** Unix seconds. */
  expires_at: z.int().nullish(),
});

/** Metadata says whether an object is of Holdfast, before any other field is required. */
const taggedSchema = z.object({ metadata: z.record(z.string(), z.string()).nullish() });

/** Metadata of an object; empty where it has none. */
function metadataOf(object: unknown): Record<string, string> {
  return taggedSchema.parse(object).metadata ?? {};
}

/** Whether an object names another deployment than `deployment`. */
export function isOfAnother(object: unknown, deployment: string): boolean {
  return isForeign(readDeployment(metadataOf(object)), deployment);
}

/** The order for which a session or a payment was opened; undefined when the object is not of Holdfast. */
export function orderOf(object: unknown): { orderNo: string; signedOrder: string | null } | undefined {
  return readMetadata(metadataOf(object));
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

/**
 * The payment of a paid session; undefined when the session is not of Holdfast.
 * @throws ZodError when the session lacks what a paid one must have
 */
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

/** What Stripe booked on the account's balance, and what it took for that. */
const balanceTransactionSchema = z.object({ fee: z.int(), currency: currencySchema });

/**
 * The fees of these, in minor units of `currency`. Nothing where there are none, or where the account's
 * balance is in another currency: no exchange rate is known for it.
 */
function feeOf(
  transactions: readonly z.infer<typeof balanceTransactionSchema>[],
  currency: string,
): { fee?: number } {
  if (transactions.length === 0 || transactions.some((each) => each.currency !== currency)) return {};
  return { fee: transactions.reduce((sum, { fee }) => sum + fee, 0) };
}

const collectedIntentSchema = z.object({
  id: stripeIdSchema,
  amount_received: amountSchema,
  currency: currencySchema,
  latest_charge: z.object({
    amount_refunded: z.int().nonnegative(),
    disputed: z.boolean(),
    // Nothing before the money is booked. A fee that cannot be read must not hide the payment.
    balance_transaction: balanceTransactionSchema.nullish().catch(null),
  }),
});

const UNTOUCHED: ListedPayment['totals'] = { succeeded: 0, isDisputed: false };

/**
 * A listed payment, whose charge must be expanded; undefined when it is not of Holdfast. The charge counts
 * refunds also while they are pending, and stays disputed when a dispute is over. So it says that there are
 * reversals, but not what they amount to.
 */
function toListedPayment(intent: unknown): ListedPayment | undefined {
  const order = orderOf(intent);
  if (!order) return undefined;
  const {
    id,
    amount_received: amount,
    currency,
    latest_charge: charge,
  } = collectedIntentSchema.parse(intent);
  const booked = charge.balance_transaction;
  const fee = feeOf(booked ? [booked] : [], currency);
  const payment = { providerPaymentId: id, ...order, amount, currency, ...fee };
  if (charge.amount_refunded === 0 && !charge.disputed) return { ...payment, totals: UNTOUCHED };
  const counted = { refunded: charge.amount_refunded, wasDisputed: charge.disputed };
  return { ...payment, totals: null, counted };
}

/** The payments of a page that were collected for this deployment, and why others cannot be read. */
export function readListed(
  intents: readonly { status: string }[],
  deployment: string,
): { payments: ListedPayment[]; faults: z.ZodError[] } {
  const payments: ListedPayment[] = [];
  const faults: z.ZodError[] = [];
  for (const intent of intents) {
    if (intent.status !== 'succeeded') continue;
    try {
      const payment = isOfAnother(intent, deployment) ? undefined : toListedPayment(intent);
      if (payment) payments.push(payment);
    } catch (error) {
      if (!(error instanceof z.ZodError)) throw error;
      faults.push(error);
    }
  }
  return { payments, faults };
}

const REFUND_STATUSES = {
  pending: 'pending',
  // Stripe asks the payer where to send the money.
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
 * A dispute of any other status is open, also under appeal. So is a `prevented` one: it means that the payer
 * was content before it came to a chargeback, but not whether by a refund, so an operator looks at it. A
 * refund is reported as such.
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
  balance_transactions: z.array(balanceTransactionSchema).nullish().catch(null),
});

/** @throws ZodError */
export function toDispute(dispute: unknown, providerPaymentId: string): Reversal {
  const { id, balance_transactions: booked, ...rest } = disputeSchema.parse(dispute);
  const fee = feeOf(booked ?? [], rest.currency);
  return { kind: 'dispute', providerReversalId: id, providerPaymentId, ...rest, ...fee };
}

const reversedSchema = z.object({ payment_intent: referenceSchema.nullish() });

/**
 * The payment of a refund or a dispute; undefined for a charge without a payment, which is never of Holdfast.
 */
export function reversedPaymentOf(object: unknown): string | undefined {
  return reversedSchema.parse(object).payment_intent ?? undefined;
}
