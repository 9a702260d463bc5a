/** The back office's calls that send money back, and put units on sale again. */

import { z } from 'zod';
import { MAX_DECISION_CHARS } from '../../limits.ts';
import {
  fingerprintOfRefund,
  refundRequestSchema,
  refusalSchema,
  toRefundWish,
} from '../../money/payment.ts';
import type { RequestedRefund } from '../../money/refunds.sql.ts';
import { reply } from '../http/answer.ts';
import { amount, time } from '../http/replies.ts';
import { readIdempotencyKey } from '../http/request.ts';
import { adminCall, type AdminCalls, ofOrder } from './call.ts';

const refundReply = z.strictObject({ paymentId: z.int().min(1), refund: z.literal('requested') });

const returnStockReply = z.strictObject({ orderNo: z.string(), stock: z.literal('returned') });

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
  /** The provider's words at its last refusal; null: it did not refuse, or has accepted since. */
  refusal: refusalSchema.nullable(),
  createdAt: time,
  endedAt: time.nullable(),
});
export type OrderRefundReply = z.infer<typeof orderRefundReply>;

/** As MySQL numbers payments and refunds, and no longer than JavaScript's numbers are exact. */
const rowId = z
  .string()
  .regex(/^[1-9]\d{0,14}$/)
  .transform(Number);

const decisionBody = z.strictObject({ reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional() });

const reasonBody = { schema: decisionBody, isOptional: true } as const;

export const refundCalls = {
  'POST /v1/admin/orders/:orderNo/refunds': adminCall({
    id: 'refundOrder',
    does: 'Sends money of a paid order back',
    scope: 'refunds:write',
    params: ofOrder,
    body: { schema: refundRequestSchema, isOptional: true },
    reads: ['Idempotency-Key'],
    replies: { 200: orderRefundReply, 202: orderRefundReply },
    away: 'decision_unavailable',
    refuses: {
      unknown: 'order_not_found',
      'key-reused': 'idempotency_key_reused',
      'not-refundable': 'not_refundable',
      'charges-refunded': 'not_refundable',
      'too-many': 'not_refundable',
      exceeds: 'refund_exceeds',
      'no-units': 'refund_exceeds_units',
      'not-taken': 'invalid_request',
    },
    /** The same key again answers with the same refund, as it is now. */
    async answer({ refunds, provider }, { params, body, actor, ctx }) {
      const key = { idempotencyKey: readIdempotencyKey(ctx), fingerprint: fingerprintOfRefund(body) };
      const decision = { actor, reason: body.reason ?? null };
      const outcome = await refunds.requestByOrder(
        params.orderNo,
        toRefundWish(body),
        decision,
        key,
        provider.refundFault,
      );
      if (outcome.kind === 'requested') return reply(viewRefund(outcome), 202);
      if (outcome.kind === 'repeated') return reply(viewRefund(outcome));
      if (outcome.kind !== 'not-taken') return outcome;
      const faults = [{ path: 'amount', message: outcome.fault }];
      return { kind: outcome.kind, faults };
    },
  }),
  'POST /v1/admin/orders/:orderNo/refunds/:refundId/withdraw': adminCall({
    id: 'withdrawRefund',
    does: 'Takes a refund back whose money is not on its way',
    scope: 'refunds:write',
    params: { schema: ofOrder.schema.extend({ refundId: rowId }), otherwise: 'refund_not_found' },
    body: reasonBody,
    replies: { 200: orderRefundReply },
    away: 'decision_unavailable',
    refuses: {
      unknown: 'order_not_found',
      'no-such-refund': 'refund_not_found',
      'on-its-way': 'refund_on_its_way',
    },
    async answer({ refunds }, { params, body: { reason = null }, actor }) {
      const outcome = await refunds.withdraw(params.orderNo, params.refundId, { actor, reason });
      return outcome.kind === 'withdrawn' ? reply(viewRefund(outcome)) : outcome;
    },
  }),
  'POST /v1/admin/payments/:paymentId/refund': adminCall({
    id: 'refundPayment',
    does: 'Sends an applied, parked or held payment back',
    scope: 'refunds:write',
    params: { schema: z.object({ paymentId: rowId }), otherwise: 'payment_not_found' },
    body: reasonBody,
    replies: { 202: refundReply },
    away: 'decision_unavailable',
    refuses: { unknown: 'payment_not_found', 'not-refundable': 'not_refundable' },
    async answer({ refunds }, { params: { paymentId }, body: { reason = null }, actor }) {
      const kind = await refunds.request(paymentId, actor, reason);
      return kind === 'requested' ? reply({ paymentId, refund: kind }, 202) : { kind };
    },
  }),
  'POST /v1/admin/orders/:orderNo/return-stock': adminCall({
    id: 'returnStock',
    does: 'Puts the units of a paid order whose money went back on sale again, once',
    scope: 'refunds:write',
    params: ofOrder,
    body: reasonBody,
    replies: { 202: returnStockReply },
    away: 'decision_unavailable',
    refuses: { unknown: 'order_not_found', 'not-refunded': 'not_refunded' },
    async answer({ refunds }, { params, body: { reason = null }, actor }) {
      const kind = await refunds.returnStock(params.orderNo, actor, reason);
      return kind === 'returned' ? reply({ orderNo: params.orderNo, stock: kind }, 202) : { kind };
    },
  }),
} satisfies AdminCalls;

export function viewRefund({ refund, currency }: RequestedRefund): OrderRefundReply {
  return {
    refundId: refund.refundId,
    orderNo: refund.orderNo,
    status: refund.status,
    amount: refund.amount,
    currency,
    lines: refund.items,
    charges: refund.charges,
    restock: refund.restock,
    restocked: refund.isStockGiven,
    restoreLimit: refund.restoresLimit,
    reason: refund.reason,
    actor: refund.actor,
    refusal: refund.refusal,
    createdAt: refund.createdAt.toISOString(),
    endedAt: refund.endedAt?.toISOString() ?? null,
  };
}
