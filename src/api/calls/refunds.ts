/** The back office's calls that send money back, and put units on sale again. */

import { z } from 'zod';
import { MAX_DECISION_CHARS } from '../../limits.ts';
import { MAX_REFUNDS_PER_ORDER } from '../../money/payment.ts';
import {
  fingerprintOfRefund,
  refundRequestSchema,
  refusalSchema,
  toRefundWish,
} from '../../money/payment.ts';
import type { RequestedRefund, RequestRefundOutcome } from '../../money/refunds.sql.ts';
import { parseOrderNo } from '../../orders/order.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { amount, time } from '../http/replies.ts';
import { readIdempotencyKey } from '../http/request.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';

const refundReply = z.strictObject({ paymentId: z.int().min(1), refund: z.literal('requested') });
type RefundReply = z.infer<typeof refundReply>;

const returnStockReply = z.strictObject({ orderNo: z.string(), stock: z.literal('returned') });
type ReturnStockReply = z.infer<typeof returnStockReply>;

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

/** As MySQL numbers refunds, and no longer than JavaScript's numbers are exact. */
const REFUND_ID = /^[1-9]\d{0,14}$/;

const decisionBody = z.strictObject({ reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional() });

const reasonBody = { schema: decisionBody, isOptional: true } as const;

export const refundCalls = {
  'POST /v1/admin/orders/:orderNo/refunds': {
    id: 'refundOrder',
    does: 'Sends money of a paid order back',
    scope: 'refunds:write',
    body: { schema: refundRequestSchema, isOptional: true },
    reads: ['Idempotency-Key'],
    replies: { 200: orderRefundReply, 202: orderRefundReply },
    refuses: [
      'order_not_found',
      'not_refundable',
      'refund_exceeds',
      'refund_exceeds_units',
      'idempotency_key_reused',
      'decision_unavailable',
    ],
    handle: requestRefund,
  },
  'POST /v1/admin/orders/:orderNo/refunds/:refundId/withdraw': {
    id: 'withdrawRefund',
    does: 'Takes a refund back whose money is not on its way',
    scope: 'refunds:write',
    body: reasonBody,
    replies: { 200: orderRefundReply },
    refuses: ['order_not_found', 'refund_not_found', 'refund_on_its_way', 'decision_unavailable'],
    handle: withdrawRefund,
  },
  'POST /v1/admin/payments/:paymentId/refund': {
    id: 'refundPayment',
    does: 'Sends an applied, parked or held payment back',
    scope: 'refunds:write',
    body: reasonBody,
    replies: { 202: refundReply },
    refuses: ['payment_not_found', 'not_refundable', 'decision_unavailable'],
    handle: refundPayment,
  },
  'POST /v1/admin/orders/:orderNo/return-stock': {
    id: 'returnStock',
    does: 'Puts the units of a paid order whose money went back on sale again, once',
    scope: 'refunds:write',
    body: reasonBody,
    replies: { 202: returnStockReply },
    refuses: ['order_not_found', 'not_refunded', 'decision_unavailable'],
    handle: returnStock,
  },
} satisfies AdminCalls;

/** The same key again answers with the same refund, as it is now. */
async function requestRefund({ refunds, provider }: BackOffice, ctx: AdminContext): Promise<void> {
  const orderNo = orderNoOf(ctx);
  const idempotencyKey = readIdempotencyKey(ctx);
  const body = parseInput(refundRequestSchema, ctx.state.body);
  const key = { idempotencyKey, fingerprint: fingerprintOfRefund(body) };
  const decision = { actor: ctx.state.userId, reason: body.reason ?? null };
  const outcome = await decide(() =>
    refunds.requestByOrder(orderNo, toRefundWish(body), decision, key, provider.refundFault),
  );
  if (outcome.kind !== 'requested' && outcome.kind !== 'repeated') throw toRefusal(outcome);
  ctx.status = outcome.kind === 'requested' ? 202 : 200;
  ctx.body = viewRefund(outcome);
}

async function withdrawRefund({ refunds }: BackOffice, ctx: AdminContext): Promise<void> {
  const orderNo = orderNoOf(ctx);
  const refundId = ctx.params['refundId'] ?? '';
  if (!REFUND_ID.test(refundId)) throw refundNotFound();
  const { reason: why = null } = parseInput(decisionBody, ctx.state.body);
  const decision = { actor: ctx.state.userId, reason: why };
  const outcome = await decide(() => refunds.withdraw(orderNo, Number(refundId), decision));
  switch (outcome.kind) {
    case 'withdrawn':
      ctx.body = viewRefund(outcome);
      return;
    case 'on-its-way':
      throw new Problem('refund_on_its_way', 'Its money is back, or on its way.');
    case 'no-such-refund':
      throw refundNotFound();
    case 'unknown':
      throw orderUnknown();
    default:
      outcome satisfies never;
  }
}

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

function toRefusal(outcome: Exclude<RequestRefundOutcome, { kind: 'requested' | 'repeated' }>): Problem {
  switch (outcome.kind) {
    case 'unknown':
      return orderUnknown();
    case 'key-reused':
      return new Problem('idempotency_key_reused', 'This Idempotency-Key was used for another request.');
    case 'not-refundable':
      return new Problem('not_refundable', 'No payment of this order can be refunded now.');
    case 'charges-refunded':
      return new Problem('not_refundable', 'The charges of this order were refunded before.');
    case 'too-many':
      return new Problem('not_refundable', `One order has at most ${MAX_REFUNDS_PER_ORDER} refunds.`);
    case 'exceeds': {
      const { refundable, currency } = outcome;
      return new Problem('refund_exceeds', 'So much of the money is not left to be refunded.', {
        extra: { refundable, currency },
      });
    }
    case 'not-taken':
      return new Problem('invalid_request', 'The provider cannot send this amount back.', {
        extra: { faults: [{ path: 'amount', message: outcome.fault }] },
      });
    case 'no-units': {
      const { sku, refundable } = outcome;
      return new Problem('refund_exceeds_units', 'The order has not so many units left of this SKU.', {
        extra: { sku, refundable },
      });
    }
    default:
      return outcome satisfies never;
  }
}

export function orderNoOf(ctx: AdminContext): string {
  const orderNo = ctx.params['orderNo'] ?? '';
  if (!parseOrderNo(orderNo)) throw orderUnknown();
  return orderNo;
}

async function decide<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw unavailable('decision_unavailable', 'The decision could not be recorded; send it again.', error);
  }
}

/** Not "of yours": staff see every order. */
export function orderUnknown(): Problem {
  return new Problem('order_not_found', 'There is no such order.');
}

function refundNotFound(): Problem {
  return new Problem('refund_not_found', 'The order has no such refund.');
}

// What an operator decides: a payment goes back, or a refunded order's units are sold again. Each call
// answers the same when it is repeated: the decision is under way, or done. The operator's user id is
// recorded with it, and the reason where one is given.

/** As MySQL numbers payments, and no longer than JavaScript's numbers are exact. */
const PAYMENT_ID = /^[1-9]\d{0,14}$/;

async function refundPayment({ refunds }: BackOffice, ctx: AdminContext): Promise<void> {
  const paymentId = ctx.params['paymentId'] ?? '';
  if (!PAYMENT_ID.test(paymentId)) throw paymentNotFound();
  const { reason = null } = parseInput(decisionBody, ctx.state.body);
  const outcome = await decide(() => refunds.request(Number(paymentId), ctx.state.userId, reason));
  switch (outcome) {
    case 'requested':
      ctx.status = 202;
      ctx.body = { paymentId: Number(paymentId), refund: outcome } satisfies RefundReply;
      return;
    case 'not-refundable':
      throw new Problem('not_refundable', 'This payment cannot be refunded now.');
    case 'unknown':
      throw paymentNotFound();
    default:
      outcome satisfies never;
  }
}

async function returnStock({ refunds }: BackOffice, ctx: AdminContext): Promise<void> {
  const orderNo = orderNoOf(ctx);
  const { reason = null } = parseInput(decisionBody, ctx.state.body);
  const outcome = await decide(() => refunds.returnStock(orderNo, ctx.state.userId, reason));
  switch (outcome) {
    case 'returned':
      ctx.status = 202;
      ctx.body = { orderNo, stock: outcome } satisfies ReturnStockReply;
      return;
    case 'not-refunded':
      throw new Problem('not_refunded', 'Only what was paid and refunded can be sold again.');
    case 'unknown':
      throw orderUnknown();
    default:
      outcome satisfies never;
  }
}

function paymentNotFound(): Problem {
  return new Problem('payment_not_found', 'There is no such payment.');
}
