/** The lines of the book's file, one for each kind of change. A field that older files lack has a default. */

import { z } from 'zod';
import {
  amountSchema,
  currencySchema,
  deploymentSchema,
  referenceSchema,
  reversalStatusSchema,
  signedOrderSchema,
} from '../../src/providers/remote-wire.ts';
import { fateSchema, mischiefSettingsSchema, UNTOUCHED } from './mischief.ts';

/** What a session, a payment, a refund, a dispute and an event have in common. */
const moneySchema = z.object({
  id: z.string(),
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
  createdAtMs: z.int(),
});
/** What the sandbox charges, in minor units; null: it reports none. */
const feeSchema = z.int().min(0).nullable().default(null);

const openedSessionSchema = moneySchema.extend({
  idempotencyKey: z.string(),
  expiresAtMs: z.int(),
  signedOrder: signedOrderSchema.nullable().default(null),
  shopReference: z.string().nullable().default(null),
  metadata: z.record(z.string(), z.string()).default({}),
  deployment: deploymentSchema.nullable().default(null),
});

const paymentSchema = moneySchema.extend({
  sessionId: z.string().nullable(),
  eventId: z.string(),
  fee: feeSchema,
  /**
   * Only of money outside any session: elsewhere the session has it, and need not write its four kilobytes
   * twice.
   */
  signedOrder: signedOrderSchema.nullable().default(null),
  deployment: deploymentSchema.nullable().default(null),
});

const refundSchema = moneySchema.extend({
  paymentId: z.string(),
  status: reversalStatusSchema,
  /** Null for one made by provider staff. */
  idempotencyKey: z.string().nullable(),
  /** When a slow one succeeds; null for one that has an outcome from the start. */
  dueAtMs: z.int().nullable(),
});

const disputeSchema = moneySchema.extend({ paymentId: z.string(), fee: feeSchema });

/** The status is that of the time of the event, so that a repeat reports the same. */
const eventAboutSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('payment.succeeded'), paymentId: z.string(), sessionId: z.string().nullable() }),
  z.object({ type: z.literal('payment.failed'), paymentId: z.null(), sessionId: z.string() }),
  z.object({
    type: z.literal('refund.updated'),
    refundId: z.string(),
    paymentId: z.string(),
    status: reversalStatusSchema,
  }),
  z.object({ type: z.literal('dispute.opened'), disputeId: z.string(), paymentId: z.string() }),
  z.object({
    type: z.literal('dispute.closed'),
    disputeId: z.string(),
    paymentId: z.string(),
    won: z.boolean(),
  }),
]);

const eventSchema = z.intersection(
  moneySchema.extend({ fate: fateSchema.default(UNTOUCHED), fee: feeSchema }),
  eventAboutSchema,
);

const promiseSchema = z.object({
  sessionId: z.string(),
  amount: amountSchema,
  /** When the money is taken, whatever became of the session. */
  dueAtMs: z.int(),
});

const refusalSchema = z.object({
  idempotencyKey: z.string(),
  paymentId: z.string(),
  amount: amountSchema,
  currency: currencySchema,
});

export const entrySchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('session_opened'), session: openedSessionSchema }),
  z.object({ kind: z.literal('session_voided'), sessionId: z.string() }),
  z.object({ kind: z.literal('payment_promised'), promise: promiseSchema }),
  z.object({ kind: z.literal('payment_taken'), payment: paymentSchema, event: eventSchema }),
  z.object({ kind: z.literal('payment_failed'), event: eventSchema }),
  z.object({ kind: z.literal('refund_made'), refund: refundSchema, event: eventSchema }),
  z.object({ kind: z.literal('refund_refused'), refusal: refusalSchema }),
  z.object({
    kind: z.literal('refund_settled'),
    refundId: z.string(),
    status: z.enum(['succeeded', 'failed']),
    event: eventSchema,
  }),
  z.object({ kind: z.literal('dispute_opened'), dispute: disputeSchema, event: eventSchema }),
  z.object({ kind: z.literal('dispute_reopened'), disputeId: z.string(), event: eventSchema }),
  z.object({
    kind: z.literal('dispute_closed'),
    disputeId: z.string(),
    won: z.boolean(),
    event: eventSchema,
  }),
  z.object({
    kind: z.literal('event_settled'),
    eventId: z.string(),
    delivery: z.enum(['delivered', 'given_up']),
  }),
  z.object({ kind: z.literal('call_limited') }),
  z.object({ kind: z.literal('mischief_set'), settings: mischiefSettingsSchema }),
]);
export type Entry = z.infer<typeof entrySchema>;

export type OpenedSession = z.infer<typeof openedSessionSchema>;
export type Payment = z.infer<typeof paymentSchema>;
export type PaymentPromise = z.infer<typeof promiseSchema>;
export type Refund = z.infer<typeof refundSchema>;
export type OpenedDispute = z.infer<typeof disputeSchema>;
export type RefundRefusal = z.infer<typeof refusalSchema>;
export type WrittenEvent = z.infer<typeof eventSchema>;
export type EventAbout = z.infer<typeof eventAboutSchema>;
