/** The back office's calls that send money back, and put units on sale again. */

import { z } from 'zod';
import { MAX_DECISION_CHARS, MAX_REFUNDS_PER_ORDER } from '../../domain/limits.ts';
import { parseOrderNo } from '../../domain/order.ts';
import { fingerprintOfRefund, refundRequestSchema, toRefundWish } from '../../domain/refund-wish.ts';
import type { RequestedRefund, RequestRefundOutcome } from '../../stores/mysql/money/refund-requests.ts';
import type { Stores } from '../../stores/open.ts';
import { readIdempotencyKey } from '../http/json-body.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import type { OrderRefundReply, RefundReply, ReturnStockReply } from '../http/replies.ts';
import type { AdminContext } from './calls.ts';

/** As MySQL numbers refunds, and no longer than JavaScript's numbers are exact. */
const REFUND_ID = /^[1-9]\d{0,14}$/;

const decisionBody = z.strictObject({ reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional() });

export function createRefundRoutes({ refunds }: Stores) {
  return {
    /** The same key again answers with the same refund, as it is now. */
    async request(ctx: AdminContext): Promise<void> {
      const orderNo = orderNoOf(ctx);
      const idempotencyKey = readIdempotencyKey(ctx);
      const body = parseInput(refundRequestSchema, ctx.state.body);
      const key = { idempotencyKey, fingerprint: fingerprintOfRefund(body) };
      const decision = { actor: ctx.state.userId, reason: body.reason ?? null };
      const outcome = await decide(() => refunds.requestByOrder(orderNo, toRefundWish(body), decision, key));
      if (outcome.kind !== 'requested' && outcome.kind !== 'repeated') throw toRefusal(outcome);
      ctx.status = outcome.kind === 'requested' ? 202 : 200;
      ctx.body = viewRefund(outcome);
    },

    async withdraw(ctx: AdminContext): Promise<void> {
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
    },
  };
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

/** What both calls may carry. */

// What an operator decides: a payment goes back, or a refunded order's units are sold again.

/** As MySQL numbers payments, and no longer than JavaScript's numbers are exact. */
const PAYMENT_ID = /^[1-9]\d{0,14}$/;

/**
 * Each call answers the same when it is repeated: the decision is under way, or done. The operator's user id
 * is recorded with it, and the reason where one is given.
 */
export function createMoneyBackRoutes({ refunds }: Stores) {
  return {
    async refundPayment(ctx: AdminContext): Promise<void> {
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
    },

    async returnStock(ctx: AdminContext): Promise<void> {
      const orderNo = ctx.params['orderNo'] ?? '';
      if (!parseOrderNo(orderNo)) throw orderUnknown();
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
    },
  };
}

function paymentNotFound(): Problem {
  return new Problem('payment_not_found', 'There is no such payment.');
}
