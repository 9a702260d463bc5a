/**
 * What several JSON answers of the API share; each answer stands beside its call. Handlers have their types
 * from these schemas, and every answer that a test gets is checked against them; in production nothing is
 * checked, for that would cost each caller time.
 */

import { z } from 'zod';
import { shownContent, orderStateSchema } from '../../orders/content.ts';

/** RFC 3339, in UTC, with milliseconds. */
export const time = z.iso.datetime();
/** Minor units of the currency beside it. */
export const amount = z.int().min(0);
export const count = z.int().min(0);
/** Of a 204. */
export const noBody = z.literal('');

/** An order, in each answer that shows one. */
export const orderReply = z.strictObject({
  orderNo: z.string(),
  saleId: z.string(),
  // Its deadline is shown as such.
  ...orderStateSchema.omit({ extendedUntilMs: true }).shape,
  /** Of the total; what went back by refunds and lost chargebacks. */
  refunded: amount,
  /** Its end is under way and not decided: a payment may still win. */
  closing: z.boolean(),
  items: z.array(z.strictObject({ sku: z.string(), quantity: z.int().min(1), unitPrice: amount })),
  total: amount,
  /** ISO 4217. */
  currency: z.string().length(3),
  ...shownContent,
  reservedAt: time,
  /** Until then a payment can be started. */
  deadline: time,
  /** Milliseconds after which asking again makes sense; null: never, the status is final. */
  pollAfterMs: z.int().min(1).nullable(),
});
export type OrderReply = z.infer<typeof orderReply>;

/** An open order of the caller, where another one is refused: what is needed to go and pay it. */
export const openOrderReply = orderReply.pick({
  orderNo: true,
  status: true,
  payment: true,
  closing: true,
  items: true,
  total: true,
  currency: true,
  deadline: true,
});
export type OpenOrderReply = z.infer<typeof openOrderReply>;

// The answers about orders and refunds that staff get.

// The answers about the feed of events.

// The answers about endpoints of push.
