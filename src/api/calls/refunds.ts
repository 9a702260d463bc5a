/** The back office's calls that send money back, and put units on sale again. */

import { z } from 'zod';
import {
  fingerprintOfRefund,
  refundRequestSchema,
  refusalSchema,
  toRefundWish,
} from '../../money/payment.ts';
import type { RequestedRefund } from '../../money/refunds.sql.ts';
import { REFUND_STATUSES } from '../../money/rows.sql.ts';
import { skuSchema } from '../../orders/content.ts';
import { reply } from '../http/answer.ts';
import {
  amount,
  shownCurrency,
  shownOrderNo,
  shownQuantity,
  time,
  nextNumber,
  pageOf,
} from '../http/replies.ts';
import { pageLimit, readIdempotencyKey, wholeNumber } from '../http/request.ts';
import { adminCall, type AdminCalls, decisionBody, decisionReply, ofOrder, rowId } from './call.ts';

export const paymentIdReply = z.int().min(1).describe('The number of the payment.');
const refundReply = z
  .strictObject({
    paymentId: paymentIdReply,
    refund: z.literal('requested').describe('The refund is under way or done.'),
  })
  .describe('The payment that goes back.');

const returnStockReply = z
  .strictObject({
    orderNo: shownOrderNo,
    stock: z.literal('returned').describe('The units are on sale again, or will be.'),
  })
  .describe('The order whose units are on sale again.');

export const orderRefundReply = z
  .strictObject({
    refundId: z.int().min(1).describe('The number of the refund.'),
    orderNo: shownOrderNo,
    status: z
      .enum(REFUND_STATUSES)
      .describe(
        '`requested`: on its way. `succeeded`: the payer has the money back. `failed`: it was withdrawn.',
      ),
    amount,
    currency: shownCurrency,
    lines: z
      .array(z.strictObject({ sku: skuSchema, quantity: shownQuantity }))
      .nullable()
      .describe('The units that are refunded; null: money alone.'),
    charges: z.boolean().describe("The refund covers the order's charges."),
    restock: z.boolean().describe('The units are to be sold again.'),
    restocked: z.boolean().describe('The units are on sale again.'),
    restoreLimit: z.boolean().describe("The units no longer count against the user's limit."),
    ...decisionReply,
    refusal: refusalSchema.nullable().meta({
      description:
        'What the provider said when it last refused the refund; null: it did not refuse, or has accepted since.',
      examples: [null],
    }),
    createdAt: time.describe('When the refund was requested.'),
    endedAt: time
      .nullable()
      .meta({ description: 'When the refund ended; null: it is on its way.', examples: [null] }),
  })
  .meta({ id: 'Refund', description: 'A refund of an order.' });
export type OrderRefundReply = z.infer<typeof orderRefundReply>;

/** Refunds in one answer: some 50 KB. */
const MAX_REFUNDS_PAGE = 100;

const refundListReply = z
  .strictObject({
    refunds: z
      .array(orderRefundReply)
      .describe('Those on their way from the oldest on, others from the newest on.'),
    next: nextNumber,
  })
  .meta({ id: 'RefundList', description: 'A page of refunds.' });

const refundsQuery = z.strictObject({
  status: z
    .enum(REFUND_STATUSES)
    .optional()
    .describe('Those in this state; `requested`, on their way, unless given. `failed` were withdrawn.'),
  after: wholeNumber.optional().describe('Those after the page whose `next` this is.'),
  limit: pageLimit(MAX_REFUNDS_PAGE),
});

const maybeReason = { schema: decisionBody, isOptional: true } as const;

export const refundCalls = {
  'GET /v1/admin/refunds': adminCall({
    id: 'listRefunds',
    does: 'The refunds that staff requested, by their state, a page at a time',
    scope: 'orders:read',
    query: refundsQuery,
    replies: { 200: refundListReply },
    away: 'status_unavailable',
    refuses: {},
    async answer({ refunds }, { query: { status = 'requested', after, limit } }) {
      const found = await refunds.listRefunds(status, after, limit + 1);
      const { page, next } = pageOf(found, limit, ({ refundId }) => refundId);
      return reply({
        refunds: page.map(({ currency, ...refund }) => viewRefund({ refund, currency })),
        next,
      });
    },
  }),
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
    body: maybeReason,
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
    body: maybeReason,
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
    body: maybeReason,
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
