/** What travels between the sandbox provider and whoever calls it: one schema a message, used by both ends. */

import { z } from 'zod';

/** Minor units. Nobody opens a payment over nothing, and a provider never takes a negative amount. */
export const amountSchema = z.int().positive();
export const currencySchema = z.string().regex(/^[A-Z]{3}$/, 'three capital letters, as ISO 4217 has them');
/** The caller's own name for what is being paid; opaque here. Order numbers have at most 73 characters. */
export const referenceSchema = z.string().min(1).max(128);

export const sessionRequestSchema = z.object({
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
  expires_at: z.iso.datetime({ offset: true }),
});

export const strayPaymentRequestSchema = z.object({
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
});

/** Payments in one page: about 250 bytes each, so a full page stays near 250 KB. */
const MAX_PAGE_SIZE = 1000;

export const paymentsQuerySchema = z.object({
  reference: referenceSchema.optional(),
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

export const sessionReplySchema = z.object({
  id: z.string().min(1),
  url: z.url({ protocol: /^https?$/ }),
  status: z.enum(['open', 'paid', 'voided', 'expired']),
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
  expires_at: z.iso.datetime({ offset: true }),
  created_at: z.iso.datetime({ offset: true }),
  payment_id: z.string().nullable(),
});
export type SessionReply = z.infer<typeof sessionReplySchema>;

export const paymentReplySchema = z.object({
  id: z.string().min(1),
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
  /** Null for money that came outside any session. */
  session_id: z.string().nullable(),
  /** The event that tells of it, for `/v1/test/events/:eventId/redeliver`. */
  event_id: z.string(),
  created_at: z.iso.datetime({ offset: true }),
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
  payment: z.object({
    id: z.string().min(1),
    reference: referenceSchema,
    amount: amountSchema,
    currency: currencySchema,
  }),
});

/** The part that every callback has, whatever it tells. */
export const noticeEnvelopeSchema = z.object({ type: z.string().min(1) });

const noticeDataSchema = z.object({
  session_id: z.string().nullable(),
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
});

/** The callbacks that speak of money. A failed attempt took none, so it names no payment. */
export const moneyNoticeSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('payment.succeeded'),
    timestamp: z.iso.datetime({ offset: true }),
    data: noticeDataSchema.extend({ payment_id: z.string().min(1) }),
  }),
  z.object({
    type: z.literal('payment.failed'),
    timestamp: z.iso.datetime({ offset: true }),
    data: noticeDataSchema.extend({ payment_id: z.null() }),
  }),
]);
export type MoneyNotice = z.infer<typeof moneyNoticeSchema>;
