/**
 * The messages between Holdfast and a provider that keeps its contract: one schema a message, used by the
 * adapter and by the sandbox. `docs/provider-openapi.json` is rendered from them.
 */

import { z } from 'zod';
import { REVERSAL_STATUSES } from '../money/payment.ts';
import { metadataSchema, referenceSchema as shopReferenceSchema } from '../orders/content.ts';
import { MAX_SIGNED_ORDER_CHARS } from './signed-order.ts';

/** A payment of 0 or of a negative amount does not exist. */
export const amountSchema = z.int().positive().describe('Minor units of the currency.');
export const currencySchema = z
  .string()
  .regex(/^[A-Z]{3}$/, 'three capital letters, as ISO 4217 has them')
  .describe('ISO 4217.');
export const referenceSchema = z
  .string()
  .min(1)
  .max(128)
  .describe("The order's number. Opaque to the provider.");
/** A character of printable ASCII takes one or two bytes in JSON, so it fits the bound of a body. */
export const signedOrderSchema = z
  .string()
  .regex(/^[!-~]+$/, 'printable ASCII without spaces')
  .max(MAX_SIGNED_ORDER_CHARS)
  .describe(
    'By it an order can be restored that Holdfast has lost. Opaque to the provider, which returns it with each payment of the session.',
  );
export const deploymentSchema = z
  .string()
  .min(1)
  .max(64)
  .describe(
    'Which deployment of Holdfast opened the session. Opaque to the provider, which returns it with each payment and each notice of the session.',
  );
export const reversalStatusSchema = z.enum(REVERSAL_STATUSES);
/** What cannot be read as a fee is none: it must not have a payment refused. */
const feeSchema = z
  .int()
  .nullable()
  .catch(null)
  .describe(
    'What the provider charges for it, in minor units of its currency; negative: it gives a fee back; null: not told. What is told last counts.',
  );
const timeSchema = z.iso.datetime({ offset: true });
/** Of a session, a payment, a refund or a dispute: as long as the column that keeps it. */
export const idSchema = z.string().min(1).max(128);

export const moneySchema = z.object({
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
});

export const sessionRequestSchema = moneySchema.extend({
  signed_order: signedOrderSchema,
  shop_reference: shopReferenceSchema
    .nullable()
    .default(null)
    .describe("The shop's own number of the order, to be shown; null: it gave none."),
  metadata: metadataSchema
    .default({})
    .describe("The shop's own data about the order, to be shown or kept; at most 1,024 bytes."),
  deployment: deploymentSchema.nullable().default(null),
  expires_at: timeSchema.describe('From then on the session takes no payment.'),
});

/**
 * Payments in one page. One takes at most 17 KB, with the longest signed order, and usually a kilobyte.
 */
const MAX_PAGE_SIZE = 1000;

export const paymentsQuerySchema = z.object({
  since: z.iso
    .datetime({ offset: true })
    .default('1970-01-01T00:00:00Z')
    .describe('Only payments collected at or after it.'),
  until: z.iso
    .datetime({ offset: true })
    .default('9999-12-31T00:00:00Z')
    .describe('Only payments collected before it.'),
  limit: z
    .string()
    .regex(/^\d{1,4}$/)
    .transform(Number)
    .pipe(z.int().min(1).max(MAX_PAGE_SIZE))
    .default(100)
    .describe('Payments in the page, at most 1000.'),
  cursor: z
    .string()
    .max(255)
    .default('0')
    .describe('`next_cursor` of the page before; `0` begins. Opaque to Holdfast.'),
});

export const sessionReplySchema = moneySchema.extend({
  id: idSchema,
  url: z
    .url({ protocol: /^https?$/ })
    .max(2_000)
    .describe('The page where the shopper pays.'),
  shop_reference: z.string().nullable().default(null).describe("The request's."),
  metadata: z.record(z.string(), z.string()).default({}).describe("The request's."),
  status: z
    .enum(['open', 'processing', 'paid', 'voided', 'expired'])
    .describe('`processing`: the shopper has paid, and the payment is not collected yet.'),
  expires_at: timeSchema,
  created_at: timeSchema,
  payment_id: idSchema.nullable(),
});
export type SessionReply = z.infer<typeof sessionReplySchema>;

const signedOrderReplySchema = z
  .string()
  .nullable()
  .default(null)
  .describe("The session's; null for a payment outside any session.");
const deploymentReplySchema = z
  .string()
  .nullable()
  .default(null)
  .describe("The session's; null for a payment outside any session.");

export const paymentReplySchema = moneySchema.extend({
  id: idSchema,
  session_id: idSchema.nullable().describe('Null for a payment outside any session.'),
  signed_order: signedOrderReplySchema,
  deployment: deploymentReplySchema,
  returned: z
    .int()
    .min(0)
    .describe('Minor units that went back: refunds that succeeded, and disputes that the shop lost.'),
  disputed: z.boolean().describe('Whether a dispute about it is open.'),
  fee: feeSchema,
  created_at: timeSchema,
});

export const paymentsReplySchema = z.object({
  data: z.array(paymentReplySchema),
  next_cursor: z.string().max(255).nullable().describe('Null on the last page.'),
});
/** As it is read: each payment by itself, so that one of a wrong form does not hide the others. */
export const paymentsPageSchema = paymentsReplySchema.extend({ data: z.array(z.unknown()) });

export const voidReplySchema = z.object({ status: z.literal('voided') });

export const problemReplySchema = z.object({
  code: z.string(),
  title: z.string().optional().describe('The code in a sentence.'),
  detail: z
    .string()
    .optional()
    .describe(
      'Why, in a sentence for the operators of the shop, instead of the title. At most 300 characters are kept.',
    ),
});
export const alreadyPaidReplySchema = z.object({
  code: z.literal('already_paid'),
  payment: moneySchema.extend({ id: idSchema, signed_order: signedOrderReplySchema }),
});
export type AlreadyPaidPayment = z.infer<typeof alreadyPaidReplySchema>['payment'];

export const refundRequestSchema = z.object({
  payment_id: idSchema,
  amount: amountSchema,
  currency: currencySchema,
});

/** The codes with which a provider refuses a session: this request opened none. */
export const sessionRefusalCodeSchema = z.enum(['invalid_request', 'idempotency_key_reused']);

/**
 * The codes with which a provider refuses a refund, after which nothing was refunded. The reuse of a key with
 * other terms is among them: only a new key helps, and what the old one did is in the list of reversals.
 */
export const refusalCodeSchema = z.enum([
  'refund_refused',
  'refund_exceeds_payment',
  'too_many_refunds',
  'currency_mismatch',
  'idempotency_key_reused',
]);
/** Those after which the same request is not repeated, as it would be refused again. */
export const FINAL_REFUSALS: readonly z.infer<typeof refusalCodeSchema>[] = [
  'refund_exceeds_payment',
  'too_many_refunds',
  'currency_mismatch',
];

export const reversalsQuerySchema = z.object({ payment_id: idSchema });

export const reversalReplySchema = moneySchema.extend({
  kind: z.enum(['refund', 'dispute']),
  id: idSchema,
  payment_id: idSchema,
  status: reversalStatusSchema.describe(
    'A dispute is pending while it is open, succeeded when the payer got the money back, failed when the shop won.',
  ),
  fee: feeSchema,
  created_at: timeSchema,
});
export type ReversalReply = z.infer<typeof reversalReplySchema>;

export const reversalsReplySchema = z.object({
  data: z.array(reversalReplySchema).describe('All of them; there are no pages.'),
});
export type ReversalsReply = z.infer<typeof reversalsReplySchema>;

// The schemas of the callbacks that the provider sends.

/** The part that every callback has. */
export const noticeEnvelopeSchema = z.object({ type: z.string().min(1) });

const timestampSchema = z.iso.datetime({ offset: true });
const disputeTimeSchema = timestampSchema.describe(
  'When it happened. Of several notices about one dispute the latest by this time counts, in whatever order they come.',
);
const noticeMoneySchema = z.object({
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
  deployment: deploymentReplySchema,
});
const attemptSchema = noticeMoneySchema.extend({ session_id: idSchema.nullable() });
const reversedSchema = noticeMoneySchema.extend({ payment_id: idSchema, fee: feeSchema });
const disputeSchema = reversedSchema.extend({ dispute_id: idSchema });

/** The callbacks about money. A failed attempt collected nothing, so it names no payment. */
export const moneyNoticeSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('payment.succeeded'),
    timestamp: timestampSchema,
    data: attemptSchema.extend({
      payment_id: idSchema,
      signed_order: signedOrderReplySchema,
      fee: feeSchema,
    }),
  }),
  z.object({
    type: z.literal('payment.failed'),
    timestamp: timestampSchema,
    data: attemptSchema.extend({ payment_id: z.null() }),
  }),
  z.object({
    type: z.literal('refund.updated'),
    timestamp: timestampSchema,
    data: reversedSchema.extend({ refund_id: idSchema, status: reversalStatusSchema }),
  }),
  z.object({
    type: z.literal('dispute.opened').describe('Also when a dispute that was closed opens again.'),
    timestamp: disputeTimeSchema,
    data: disputeSchema,
  }),
  z.object({
    type: z.literal('dispute.closed').describe('Also when a dispute that was closed is decided otherwise.'),
    timestamp: disputeTimeSchema,
    data: disputeSchema.extend({ won: z.boolean() }),
  }),
]);
export type MoneyNotice = z.infer<typeof moneyNoticeSchema>;

/** The types of callbacks about money. Callbacks of any other type are recorded and ignored. */
export const MONEY_TYPES: readonly string[] = [
  'payment.succeeded',
  'payment.failed',
  'refund.updated',
  'dispute.opened',
  'dispute.closed',
] satisfies MoneyNotice['type'][];
