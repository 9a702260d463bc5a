/** What travels between the sandbox provider and whoever calls it: one schema a message, used by both ends. */

import { z } from 'zod';
import { REVERSAL_STATUSES } from '../../domain/payment.ts';
import { MAX_SIGNED_ORDER_CHARS } from '../signed-order.ts';

/** Minor units. Nobody opens a payment over nothing, and a provider never takes a negative amount. */
export const amountSchema = z.int().positive();
export const currencySchema = z.string().regex(/^[A-Z]{3}$/, 'three capital letters, as ISO 4217 has them');
/** The caller's own name for what is being paid; opaque here. Order numbers have at most 73 characters. */
export const referenceSchema = z.string().min(1).max(128);
/** Opaque here, and given back with the payment. Printable ASCII takes one or two bytes in JSON, so the body's bound holds it. */
export const signedOrderSchema = z
  .string()
  .regex(/^[!-~]+$/, 'printable ASCII without spaces')
  .max(MAX_SIGNED_ORDER_CHARS);
export const reversalStatusSchema = z.enum(REVERSAL_STATUSES);
const timeSchema = z.iso.datetime({ offset: true });

const moneySchema = z.object({ reference: referenceSchema, amount: amountSchema, currency: currencySchema });

export const sessionRequestSchema = moneySchema.extend({
  signed_order: signedOrderSchema,
  expires_at: timeSchema,
});

export const strayPaymentRequestSchema = moneySchema.extend({
  signed_order: signedOrderSchema.nullable().default(null),
});

/** Payments in one page: at most 4.5 KB each with a signed order of the greatest length, and usually a fifth of that. */
const MAX_PAGE_SIZE = 1000;

export const paymentsQuerySchema = z.object({
  reference: referenceSchema.optional(),
  /** Only those taken at or after it. */
  since: z.iso.datetime({ offset: true }).default('1970-01-01T00:00:00Z'),
  limit: z
    .string()
    .regex(/^\d{1,4}$/)
    .transform(Number)
    .pipe(z.int().min(1).max(MAX_PAGE_SIZE))
    .default(100),
  /** Opaque to callers; in truth the position in the book from which to read on. */
  cursor: z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .default(0),
});

export const sessionReplySchema = moneySchema.extend({
  id: z.string().min(1),
  url: z.url({ protocol: /^https?$/ }),
  /** `processing`: the shopper has paid, and the money is not taken yet. */
  status: z.enum(['open', 'processing', 'paid', 'voided', 'expired']),
  expires_at: timeSchema,
  created_at: timeSchema,
  payment_id: z.string().nullable(),
});
export type SessionReply = z.infer<typeof sessionReplySchema>;

/** Null for money that came outside any session, and for sessions from before there were signed orders. */
export const signedOrderReplySchema = z.string().nullable().default(null);

export const paymentReplySchema = moneySchema.extend({
  id: z.string().min(1),
  /** Null for money that came outside any session. */
  session_id: z.string().nullable(),
  signed_order: signedOrderReplySchema,
  /** Minor units that went back: refunds that succeeded, and disputes that were lost. */
  returned: z.int().min(0),
  /** A dispute about it is open. */
  disputed: z.boolean(),
  /** The event that tells of it, for `/v1/test/events/:eventId/redeliver`. */
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

/**
 * The provider has decided against a refund, and refunded nothing. A key that was used with other terms is among them: only a new key
 * leads on, and what the old one did is found in the list of reversals.
 */
export const refusalCodeSchema = z.enum([
  'refund_refused',
  'refund_exceeds_payment',
  'too_many_refunds',
  'currency_mismatch',
  'idempotency_key_reused',
]);

export const reversalsQuerySchema = z.object({ payment_id: z.string().min(1) });

/** A refund, or a dispute: pending while that is open, failed when the shop won. */
export const reversalReplySchema = moneySchema.extend({
  kind: z.enum(['refund', 'dispute']),
  id: z.string().min(1),
  payment_id: z.string().min(1),
  status: reversalStatusSchema,
  created_at: timeSchema,
});
export type ReversalReply = z.infer<typeof reversalReplySchema>;

/** All of a payment, refunds first: it has a bounded number. */
export const reversalsReplySchema = z.object({ data: z.array(reversalReplySchema) });
export type ReversalsReply = z.infer<typeof reversalsReplySchema>;

/** For what a test does to a payment at the provider; left out: all that is left of it. */
export const reversalRequestSchema = z.object({ amount: amountSchema.optional() });
export const disputeCloseRequestSchema = z.object({ won: z.boolean() });
