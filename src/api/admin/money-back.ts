/** What an operator decides: a payment goes back, or a refunded order's units are sold again. */

import { z } from 'zod';
import { MAX_DECISION_CHARS } from '../../domain/limits.ts';
import { parseOrderNo } from '../../domain/order.ts';
import type { Stores } from '../../stores/open.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import type { RefundReply, ReturnStockReply } from '../http/replies.ts';
import type { AdminContext } from './routes.ts';

/** What both calls may carry. */

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

