/**
 * Routes for tests: payments outside any session, refunds and disputes by provider staff, redeliveries,
 * mischief.
 */

import type { Router } from '@koa/router';
import type { Middleware } from 'koa';
import type { Book } from '../book/book.ts';
import { mischiefSettingsSchema, type MischiefReply } from '../book/mischief.ts';
import { disputeCloseRequestSchema, reversalRequestSchema, strayPaymentRequestSchema } from '../test-wire.ts';
import { ProblemError } from './errors.ts';
import { toDisputeReply, toPaymentReply, toRefundReply } from './replies.ts';
import { orNotFound, parse } from './requests.ts';

export function addTestRoutes(
  router: Router,
  keyed: Middleware,
  { book, redeliver }: { book: Book; redeliver: (eventId: string) => void },
): void {
  addReversalRoutes(router, keyed, book);

  router.post('/v1/test/payments', keyed, (ctx) => {
    const { signed_order, ...money } = parse(strayPaymentRequestSchema, ctx.request.body);
    const outcome = book.takeStrayPayment({ ...money, signedOrder: signed_order });
    if (outcome.kind === 'book_full') throw new ProblemError('book_full');
    ctx.status = 201;
    ctx.body = toPaymentReply(outcome.payment, book);
  });

  // A late payment is taken before its time.
  router.post('/v1/test/payment_sessions/:id/take', keyed, (ctx) => {
    const session = orNotFound(book.findSession(ctx.params.id ?? ''));
    book.keepPromise(session.id);
    ctx.body = toPaymentReply(orNotFound(book.findPayment(session.paymentId ?? '')), book);
  });

  router.post('/v1/test/events/:eventId/redeliver', keyed, (ctx) => {
    const event = orNotFound(book.findEvent(ctx.params.eventId ?? ''));
    redeliver(event.id);
    ctx.status = 202;
    ctx.body = { id: event.id, type: event.type, delivery: event.delivery };
  });

  router.get('/v1/test/mischief', keyed, (ctx) => {
    ctx.body = toMischiefReply(book);
  });

  // As a whole: a switch that is left out is off.
  router.put('/v1/test/mischief', keyed, (ctx) => {
    book.setMischief(parse(mischiefSettingsSchema, ctx.request.body));
    ctx.body = toMischiefReply(book);
  });
}

function addReversalRoutes(router: Router, keyed: Middleware, book: Book): void {
  const { reversals } = book;

  router.post('/v1/test/payments/:id/refund', keyed, (ctx) => {
    const { amount } = parse(reversalRequestSchema, ctx.request.body ?? {});
    const outcome = reversals.refundByStaff(orNotFound(book.findPayment(ctx.params.id ?? '')), amount);
    if (outcome.kind !== 'made') throw new ProblemError(outcome.kind);
    ctx.status = 201;
    ctx.body = toRefundReply(outcome.refund);
  });

  router.post('/v1/test/refunds/:id/fail', keyed, (ctx) => {
    const refund = orNotFound(reversals.findRefund(ctx.params.id ?? ''));
    const outcome = reversals.failRefund(refund);
    if (outcome.kind !== 'failed') throw new ProblemError(outcome.kind);
    ctx.body = toRefundReply(refund);
  });

  router.post('/v1/test/payments/:id/dispute', keyed, (ctx) => {
    const { amount } = parse(reversalRequestSchema, ctx.request.body ?? {});
    const outcome = reversals.openDispute(orNotFound(book.findPayment(ctx.params.id ?? '')), amount);
    if (outcome.kind !== 'opened') throw new ProblemError(outcome.kind);
    ctx.status = 201;
    ctx.body = toDisputeReply(outcome.dispute);
  });

  router.post('/v1/test/disputes/:id/close', keyed, (ctx) => {
    const dispute = orNotFound(reversals.findDispute(ctx.params.id ?? ''));
    const { won } = parse(disputeCloseRequestSchema, ctx.request.body);
    const outcome = reversals.closeDispute(dispute, orNotFound(book.findPayment(dispute.paymentId)), won);
    if (outcome.kind !== 'closed') throw new ProblemError(outcome.kind);
    ctx.body = toDisputeReply(dispute);
  });

  router.post('/v1/test/disputes/:id/reopen', keyed, (ctx) => {
    const dispute = orNotFound(reversals.findDispute(ctx.params.id ?? ''));
    const outcome = reversals.reopenDispute(dispute, orNotFound(book.findPayment(dispute.paymentId)));
    if (outcome.kind !== 'reopened') throw new ProblemError(outcome.kind);
    ctx.body = toDisputeReply(dispute);
  });
}

function toMischiefReply(book: Book): MischiefReply {
  const { settings, struck } = book.mischief();
  return { settings, struck };
}
