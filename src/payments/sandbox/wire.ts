/** The messages between the sandbox provider and its callers: one schema a message, used by both sides. */

import { z } from 'zod';
import { REVERSAL_STATUSES } from '../../domain/payment.ts';
import { MAX_SIGNED_ORDER_CHARS } from '../signed-order.ts';

/** Minor units. A payment of 0 or of a negative amount does not exist. */
export const amountSchema = z.int().positive();
export const currencySchema = z.string().regex(/^[A-Z]{3}$/, 'three capital letters, as ISO 4217 has them');
/**
 * The caller's own name for what is paid, opaque to the sandbox. Order numbers have at most 73 characters.
 */
export const referenceSchema = z.string().min(1).max(128);
/**
 * Opaque to the sandbox, and returned with the payment. A character of printable ASCII takes one or two bytes
 * in JSON, so the longest signed order fits the bound of a body.
 */
export const signedOrderSchema = z
  .string()
  .regex(/^[!-~]+$/, 'printable ASCII without spaces')
  .max(MAX_SIGNED_ORDER_CHARS);
/** The shop's deployment that opened the session. Opaque to the sandbox, and returned with the payment. */
export const deploymentSchema = z.string().min(1).max(64);
export const reversalStatusSchema = z.enum(REVERSAL_STATUSES);
const timeSchema = z.iso.datetime({ offset: true });

const moneySchema = z.object({ reference: referenceSchema, amount: amountSchema, currency: currencySchema });

export const sessionRequestSchema = moneySchema.extend({
  signed_order: signedOrderSchema,
  deployment: deploymentSchema.nullable().default(null),
  expires_at: timeSchema,
});

export const strayPaymentRequestSchema = moneySchema.extend({
  signed_order: signedOrderSchema.nullable().default(null),
  deployment: deploymentSchema.nullable().default(null),
});

/**
 * Payments in one page. One takes at most 17 KB, with the longest signed order, and usually a kilobyte.
 */
const MAX_PAGE_SIZE = 1000;

export const paymentsQuerySchema = z.object({
  reference: referenceSchema.optional(),
  /** Only payments collected at or after it. */
  since: z.iso.datetime({ offset: true }).default('1970-01-01T00:00:00Z'),
  /** Only payments collected before it. */
  until: z.iso.datetime({ offset: true }).default('9999-12-31T00:00:00Z'),
  limit: z
    .string()
    .regex(/^\d{1,4}$/)
    .transform(Number)
    .pipe(z.int().min(1).max(MAX_PAGE_SIZE))
    .default(100),
  /** Opaque to callers: the position in the book from which the next page is read. */
  cursor: z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .default(0),
});

export const sessionReplySchema = moneySchema.extend({
  id: z.string().min(1),
  url: z.url({ protocol: /^https?$/ }),
  /** `processing`: the shopper has paid, and the payment is not collected yet. */
  status: z.enum(['open', 'processing', 'paid', 'voided', 'expired']),
  expires_at: timeSchema,
  created_at: timeSchema,
  payment_id: z.string().nullable(),
});
export type SessionReply = z.infer<typeof sessionReplySchema>;

/** Null for payments outside any session, and for sessions that are older than signed orders. */
export const signedOrderReplySchema = z.string().nullable().default(null);
/** Null for payments outside any session, and for sessions that are older than this field. */
export const deploymentReplySchema = z.string().nullable().default(null);

export const paymentReplySchema = moneySchema.extend({
  id: z.string().min(1),
  /** Null for a payment outside any session. */
  session_id: z.string().nullable(),
  signed_order: signedOrderReplySchema,
  deployment: deploymentReplySchema,
  /** Minor units that went back: refunds that succeeded, and disputes that the shop lost. */
  returned: z.int().min(0),
  /** Whether a dispute about it is open. */
  disputed: z.boolean(),
  /** The id of the event that reported it, for `/v1/test/events/:eventId/redeliver`. */
  event_id: z.string(),
  created_at: timeSchema,
});
export type PaymentReply = z.infer<typeof paymentReplySchema>;

export const paymentsReplySchema = z.object({
  data: z.array(paymentReplySchema),
  /** Null on the last page. */
  next_cursor: z.string().nullable(),
});
export type PaymentsReply = z.infer<typeof paymentsReplySchema>;

export const voidReplySchema = z.object({ status: z.literal('voided') });

export const problemReplySchema = z.object({ code: z.string() });
export const alreadyPaidReplySchema = z.object({
  code: z.literal('already_paid'),
  payment: moneySchema.extend({ id: z.string().min(1), signed_order: signedOrderReplySchema }),
});
export type AlreadyPaidPayment = z.infer<typeof alreadyPaidReplySchema>['payment'];

export const refundRequestSchema = z.object({
  payment_id: z.string().min(1),
  amount: amountSchema,
  currency: currencySchema,
});

/** The codes with which the sandbox refuses a session: this request opened none. */
export const sessionRefusalCodeSchema = z.enum(['invalid_request', 'idempotency_key_reused']);

/**
 * The codes with which the sandbox refuses a refund, after which nothing was refunded. The reuse of a key
 * with other terms is among them: only a new key helps, and what the old one did is in the list of reversals.
 */
export const refusalCodeSchema = z.enum([
  'refund_refused',
  'refund_exceeds_payment',
  'too_many_refunds',
  'currency_mismatch',
  'idempotency_key_reused',
]);

export const reversalsQuerySchema = z.object({ payment_id: z.string().min(1) });

/** A refund or a dispute. A dispute is pending while it is open, and failed when the shop won it. */
export const reversalReplySchema = moneySchema.extend({
  kind: z.enum(['refund', 'dispute']),
  id: z.string().min(1),
  payment_id: z.string().min(1),
  status: reversalStatusSchema,
  created_at: timeSchema,
});
export type ReversalReply = z.infer<typeof reversalReplySchema>;

/** All reversals of a payment, refunds first. Their number is bounded, so there are no pages. */
export const reversalsReplySchema = z.object({ data: z.array(reversalReplySchema) });
export type ReversalsReply = z.infer<typeof reversalsReplySchema>;

/** A reversal that a test makes at the provider. Without an amount it is all that is left of the payment. */
export const reversalRequestSchema = z.object({ amount: amountSchema.optional() });
export const disputeCloseRequestSchema = z.object({ won: z.boolean() });
