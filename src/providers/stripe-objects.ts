/** The schemas of the fields read from Stripe's objects, in replies and notices, and their translation. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import type {
  ListedPayment,
  ProviderPayment,
  Reversal,
  ReversalStatus,
  PaymentNotice,
} from '../money/payment.ts';
import { type SessionRequest, MalformedNoticeError } from './provider.ts';
import { isForeign, MAX_SIGNED_ORDER_CHARS } from './signed-order.ts';

// The metadata of a session and its payment at Stripe, by which a payment finds its order or restores it.

const ORDER_NO_KEY = 'holdfast_order_no';
const DEPLOYMENT_KEY = 'holdfast_deployment';
const REFERENCE_KEY = 'holdfast_reference';
const SIGNED_KEY = 'holdfast_signed_';
/**
 * Characters of one value at Stripe. An object has up to 50 values: a shop's metadata have ten at most, and
 * the longest signed order 33.
 */
const MAX_VALUE_CHARS = 500;

interface OrderMetadata {
  orderNo: string;
  /** Null when the metadata has no part of it. */
  signedOrder: string | null;
}

/** The shop's own metadata stand beside Holdfast's, whose keys no shop may use (`metadataSchema`). */
export function writeMetadata(
  order: Pick<SessionRequest, 'orderNo' | 'signedOrder' | 'reference' | 'metadata'> & { deployment: string },
): Record<string, string> {
  const { orderNo, signedOrder, deployment, reference } = order;
  assert(signedOrder.length <= MAX_SIGNED_ORDER_CHARS, 'a signed order has a bound');
  const metadata: Record<string, string> = {
    ...order.metadata,
    [ORDER_NO_KEY]: orderNo,
    [DEPLOYMENT_KEY]: deployment,
    ...(reference !== null && { [REFERENCE_KEY]: reference }),
  };
  for (let start = 0; start < signedOrder.length; start += MAX_VALUE_CHARS) {
    metadata[`${SIGNED_KEY}${start / MAX_VALUE_CHARS}`] = signedOrder.slice(start, start + MAX_VALUE_CHARS);
  }
  return metadata;
}

/**
 * Undefined where the object is for no order of ours, because a Stripe account may serve other business too.
 * A signed order of which a part was removed comes back shorter, and is then not authentic.
 */
function readMetadata(metadata: Readonly<Record<string, string>>): OrderMetadata | undefined {
  const orderNo = metadata[ORDER_NO_KEY];
  if (orderNo === undefined || orderNo === '') return undefined;
  let signedOrder = '';
  for (let part = 0; signedOrder.length < MAX_SIGNED_ORDER_CHARS; part++) {
    const value = metadata[`${SIGNED_KEY}${part}`];
    if (value === undefined) break;
    signedOrder += value;
  }
  return { orderNo, signedOrder: signedOrder === '' ? null : signedOrder };
}

/** Of the metadata of a session, a payment or a refund; null when it names none. */
function readDeployment(metadata: Readonly<Record<string, string>>): string | null {
  return metadata[DEPLOYMENT_KEY] ?? null;
}

/** The metadata of a refund, by which its notice is known for this deployment's. */
export function writeRefundMetadata(refundKey: string, deployment: string): Record<string, string> {
  return { holdfast_refund_key: refundKey, [DEPLOYMENT_KEY]: deployment };
}

/** Far more than Stripe's ids have, and within the width of the columns. */
const stripeIdSchema = z.string().min(1).max(128);
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
function isOfAnother(object: unknown, deployment: string): boolean {
  return isForeign(readDeployment(metadataOf(object)), deployment);
}

/** The order for which a session or a payment was opened; undefined when the object is not of Holdfast. */
function orderOf(object: unknown): { orderNo: string; signedOrder: string | null } | undefined {
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

/** In the second Stripe asks the payer where to send the money. */
const PENDING_REFUNDS: readonly string[] = ['pending', 'requires_action'];
/** A refund of any other status is pending, also one that has none, or one that Stripe may add. */
const ENDED_REFUNDS: Readonly<Record<string, ReversalStatus>> = {
  succeeded: 'succeeded',
  failed: 'failed',
  canceled: 'failed',
};

const refundSchema = z.object({
  id: stripeIdSchema,
  amount: amountSchema,
  currency: currencySchema,
  status: z
    .string()
    .nullish()
    .transform((status) => status ?? 'null'),
});

/** Characters of a state that is not known: it is shown to operators. */
const MAX_STATE_CHARS = 64;

/** @throws ZodError */
export function toRefund(refund: unknown, providerPaymentId: string): Reversal {
  const { id, status: state, ...money } = refundSchema.parse(refund);
  const status = ENDED_REFUNDS[state] ?? 'pending';
  const isKnown = status !== 'pending' || PENDING_REFUNDS.includes(state);
  return {
    kind: 'refund',
    providerReversalId: id,
    providerPaymentId,
    ...money,
    status,
    ...(isKnown ? {} : { unknownState: state.replaceAll(/[^\w.-]/g, '_').slice(0, MAX_STATE_CHARS) }),
  };
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
export function toDispute(dispute: unknown, providerPaymentId: string, asOfMs: number): Reversal {
  const { id, balance_transactions: booked, ...rest } = disputeSchema.parse(dispute);
  const fee = feeOf(booked ?? [], rest.currency);
  return { kind: 'dispute', providerReversalId: id, providerPaymentId, ...rest, asOfMs, ...fee };
}

const reversedSchema = z.object({ payment_intent: referenceSchema.nullish() });

/**
 * The payment of a refund or a dispute; undefined for a charge without a payment, which is never of Holdfast.
 */
function reversedPaymentOf(object: unknown): string | undefined {
  return reversedSchema.parse(object).payment_intent ?? undefined;
}

// Translates Stripe's events to notices. The caller has verified their signature.

const eventSchema = z.object({
  id: stripeIdSchema,
  type: z.string().min(1),
  /** Unix seconds. What the event says of its object is as of then, however late the event comes. */
  created: z.int(),
  data: z.object({ object: z.unknown() }),
});
type Event = z.infer<typeof eventSchema>;

/**
 * A notice about a payment of another deployment than `deployment` is ignored. A refund made by provider
 * staff and a dispute name no deployment: they are kept, and never settle anything unless their payment is
 * known.
 * @throws MalformedNoticeError
 */
export function toNotice(event: unknown, deployment: string): PaymentNotice {
  try {
    const parsed = eventSchema.parse(event);
    return isOfAnother(parsed.data.object, deployment) ? ignored(parsed) : mapEvent(parsed);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    throw new MalformedNoticeError('the notice is no known event of Stripe', { cause: error });
  }
}

function mapEvent(event: Event): PaymentNotice {
  const { id: eventId, type } = event;
  const { object } = event.data;
  switch (type) {
    case 'checkout.session.completed':
    case 'checkout.session.async_payment_succeeded': {
      const isPaid = sessionStateSchema.parse(object).payment_status === 'paid';
      const payment = isPaid ? toSessionPayment(object) : undefined;
      return payment ? { kind: 'payment_succeeded', eventId, payment } : ignored(event);
    }
    case 'payment_intent.payment_failed': {
      const order = orderOf(object);
      return order ? { kind: 'payment_failed', eventId, orderNo: order.orderNo } : ignored(event);
    }
    case 'refund.created':
    case 'refund.updated':
    case 'refund.failed':
      return reversed(event, toRefund);
    case 'charge.dispute.created':
    case 'charge.dispute.updated':
    case 'charge.dispute.closed':
    // A closed dispute that takes the money again, or gives it back, says so by these at the least.
    case 'charge.dispute.funds_withdrawn':
    case 'charge.dispute.funds_reinstated':
      return reversed(event, toDispute);
    default:
      return ignored(event);
  }
}

/** A refund made by provider staff carries no metadata, so the notice names only the payment and no order. */
function reversed(
  event: Event,
  toReversal: (object: unknown, providerPaymentId: string, asOfMs: number) => Reversal,
): PaymentNotice {
  const { object } = event.data;
  const providerPaymentId = reversedPaymentOf(object);
  if (providerPaymentId === undefined) return ignored(event);
  const reversal = toReversal(object, providerPaymentId, event.created * 1_000);
  return { kind: 'payment_reversed', eventId: event.id, reversal };
}

function ignored({ id, type }: Event): PaymentNotice {
  return { kind: 'ignored', eventId: id, type };
}
