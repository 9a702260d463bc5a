/** The schemas of the callbacks that the provider sends. */

import { z } from 'zod';
import {
  amountSchema,
  currencySchema,
  deploymentReplySchema,
  feeSchema,
  idSchema,
  referenceSchema,
  reversalStatusSchema,
  signedOrderReplySchema,
} from './wire.ts';

/** The part that every callback has. */
export const noticeEnvelopeSchema = z.object({ type: z.string().min(1) });

const timestampSchema = z.iso.datetime({ offset: true });
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
  z.object({ type: z.literal('dispute.opened'), timestamp: timestampSchema, data: disputeSchema }),
  z.object({
    type: z.literal('dispute.closed'),
    timestamp: timestampSchema,
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
