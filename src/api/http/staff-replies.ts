/** The answers about orders and refunds that staff get. */

import { z } from 'zod';
import { ORDER_STATUSES, PAYMENT_STATES } from '../../domain/order.ts';
import { PAYMENT_STATUSES, REVERSAL_STATUSES } from '../../domain/payment.ts';
import { amount, count, orderReply, time } from './replies.ts';

export const orderRefundReply = z.strictObject({
  refundId: z.int().min(1),
  orderNo: z.string(),
  /** requested: on its way. failed: it was withdrawn. */
  status: z.enum(['requested', 'succeeded', 'failed']),
  amount,
  currency: z.string().length(3),
  /** The units that it is about; null: it is about money alone. */
  lines: z.array(z.strictObject({ sku: z.string(), quantity: z.int().min(1) })).nullable(),
  /** It covers what the order's charges come to. */
  charges: z.boolean(),
  /** Its units are to be sold again, and are by now. */
  restock: z.boolean(),
  restocked: z.boolean(),
  /** Its units no longer count against the user's limit. */
  restoreLimit: z.boolean(),
  reason: z.string().nullable(),
  actor: z.string(),
  createdAt: time,
  endedAt: time.nullable(),
});
export type OrderRefundReply = z.infer<typeof orderRefundReply>;

export const staffOrderReply = orderReply.extend({ userId: z.string() });
export type StaffOrderReply = z.infer<typeof staffOrderReply>;

/** A page of orders. */
export const staffOrdersReply = z.strictObject({
  orders: z.array(staffOrderReply),
  /** The `after` of the next page; null: this is the last one. */
  next: z.string().nullable(),
});
export type StaffOrdersReply = z.infer<typeof staffOrdersReply>;

/** An order with all that is known of its money, what happened to it, and what waits for an operator. */
export const orderFileReply = staffOrderReply.extend({
  payments: z.array(
    z.strictObject({
      paymentId: z.int().min(1),
      provider: z.string(),
      providerPaymentId: z.string(),
      amount,
      currency: z.string(),
      status: z.enum(PAYMENT_STATUSES),
      /** Why it is refunded; null: no refund was requested here. */
      reason: z.string().nullable(),
      /** Of the amount; what is to go back in all, by all requests. */
      refundTarget: amount,
      receivedAt: time,
    }),
  ),
  /** What went back to the payer or may, by whomever: as the provider reports it. */
  reversals: z.array(
    z.strictObject({
      providerPaymentId: z.string(),
      kind: z.enum(['refund', 'dispute']),
      amount,
      currency: z.string(),
      status: z.enum(REVERSAL_STATUSES),
      createdAt: time,
    }),
  ),
  refunds: z.array(orderRefundReply),
  history: z.array(
    z.strictObject({
      version: z.int().min(1),
      status: z.enum(ORDER_STATUSES),
      payment: z.enum(PAYMENT_STATES),
      refunded: amount,
      reason: z.string().nullable(),
      occurredAt: time,
    }),
  ),
  parked: z.array(
    z.strictObject({
      parkedId: z.int().min(1),
      kind: z.string(),
      cause: z.string(),
      reason: z.string(),
      times: count,
      since: time,
      resolvedAt: time.nullable(),
    }),
  ),
});
export type OrderFileReply = z.infer<typeof orderFileReply>;

export const settlementReply = z.strictObject({
  saleId: z.string(),
  lines: z.array(
    z.strictObject({
      line: z.enum(['order', 'charge', 'payment', 'refund', 'dispute', 'fee']),
      orderNo: z.string(),
      /** The provider's id of it, of a fee that of what it is for; or the code of a charge. */
      id: z.string(),
      provider: z.string(),
      /** Minor units; what goes back to the payer, or to the provider, is negative. */
      amount: z.int(),
      currency: z.string().length(3),
      status: z.string(),
      /** The shop's, of the order. */
      reference: z.string(),
      at: time,
    }),
  ),
  /** One a currency; `kept` is `paid` less what went back for sure and the fees. */
  totals: z.array(
    z.strictObject({
      currency: z.string().length(3),
      paid: amount,
      refunded: amount,
      chargedBack: amount,
      fees: z.int(),
      kept: z.int(),
    }),
  ),
});
