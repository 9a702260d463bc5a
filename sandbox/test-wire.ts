/** The messages of the sandbox's own calls, which no other provider has: one schema a message. */

import { z } from 'zod';
import {
  amountSchema,
  deploymentSchema,
  moneySchema,
  paymentReplySchema,
  paymentsQuerySchema,
  paymentsReplySchema,
  referenceSchema,
  signedOrderSchema,
} from '../src/providers/remote-wire.ts';

export const strayPaymentRequestSchema = moneySchema.extend({
  signed_order: signedOrderSchema.nullable().default(null),
  deployment: deploymentSchema.nullable().default(null),
});

/** A reversal that a test makes at the provider. Without an amount it is all that is left of the payment. */
export const reversalRequestSchema = z.object({ amount: amountSchema.optional() });
export const disputeCloseRequestSchema = z.object({ won: z.boolean() });

/** The sandbox's cursor is a position in its book. */
export const bookQuerySchema = paymentsQuerySchema.extend({
  reference: referenceSchema.optional(),
  cursor: z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .default(0),
});

export const bookedPaymentSchema = paymentReplySchema.extend({
  /** The id of the event that reported it, for `/v1/test/events/:eventId/redeliver`. */
  event_id: z.string(),
});
export type BookedPayment = z.infer<typeof bookedPaymentSchema>;

export const bookReplySchema = paymentsReplySchema.extend({ data: z.array(bookedPaymentSchema) });
export type BookReply = z.infer<typeof bookReplySchema>;
