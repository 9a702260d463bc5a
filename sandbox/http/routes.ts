/** The sandbox's API for the shop: payment sessions, payments, refunds. */

import { Router } from '@koa/router';
import {
  refundRequestSchema,
  reversalsQuerySchema,
  sessionRequestSchema,
  type ReversalsReply,
} from '../../src/providers/remote-wire.ts';
import type { Book } from '../book/book.ts';
import { bookQuerySchema, type BookReply } from '../test-wire.ts';
import { ProblemError } from './errors.ts';
import { addPageRoutes } from './page-routes.ts';
import { refuse, toDisputeReply, toPaymentReply, toRefundReply, toSessionReply } from './replies.ts';
import { limitCalls, orNotFound, parse, requireApiKey, requireIdempotencyKey } from './requests.ts';
import { addTestRoutes } from './test-routes.ts';

export interface RoutesOptions {
  book: Book;
  apiKey: string;
  /** Where browsers reach the sandbox, without a trailing slash. */
  publicUrl: string;
  /** The shop's page, to which the payment page links back. */
  returnUrl: string | undefined;
  /** Sends an event once more, or for the first time if it was dropped. */
  redeliver: (eventId: string) => void;
}

export function createRoutes(options: RoutesOptions): Router {
  const { book, publicUrl } = options;
  const router = new Router();
  const keyed = requireApiKey(options.apiKey);
  const shop = [keyed, limitCalls(book)] as const;

  router.post('/v1/payment_sessions', ...shop, (ctx) => {
    const key = requireIdempotencyKey(ctx);
    const { expires_at, signed_order, shop_reference, ...rest } = parse(
      sessionRequestSchema,
      ctx.request.body,
    );
    const named = { signedOrder: signed_order, shopReference: shop_reference };
    // A session that is born expired is answered like any other: it simply takes nothing.
    const terms = { ...rest, ...named, expiresAtMs: Date.parse(expires_at) };
    const outcome = book.openSession(key, terms);
    if (!('session' in outcome)) throw new ProblemError(outcome.kind);
    ctx.status = outcome.kind === 'opened' ? 201 : 200;
    ctx.body = toSessionReply(outcome.session, publicUrl);
  });

  router.get('/v1/payment_sessions/:id', ...shop, (ctx) => {
    ctx.body = toSessionReply(orNotFound(book.findSession(ctx.params.id ?? '')), publicUrl);
  });

  router.post('/v1/payment_sessions/:id/void', ...shop, (ctx) => {
    const outcome = book.voidSession(orNotFound(book.findSession(ctx.params.id ?? '')));
    if (outcome.kind === 'already_paid') throw refuse(outcome);
    ctx.body = { status: 'voided' };
  });

  router.get('/v1/payments', ...shop, (ctx) => {
    const { reference, since, until, cursor, limit } = parse(bookQuerySchema, ctx.query);
    const page = book.listPayments({
      reference,
      sinceMs: Date.parse(since),
      untilMs: Date.parse(until),
      from: cursor,
      limit,
    });
    ctx.body = {
      data: page.payments.map((payment) => toPaymentReply(payment, book)),
      next_cursor: page.next === null ? null : String(page.next),
    } satisfies BookReply;
  });

  router.post('/v1/refunds', ...shop, (ctx) => {
    const key = requireIdempotencyKey(ctx);
    const { payment_id, ...terms } = parse(refundRequestSchema, ctx.request.body);
    const outcome = book.reversals.refund(orNotFound(book.findPayment(payment_id)), key, terms);
    if (!('refund' in outcome)) throw new ProblemError(outcome.kind);
    ctx.status = outcome.kind === 'made' ? 201 : 200;
    ctx.body = toRefundReply(outcome.refund);
  });

  router.get('/v1/reversals', ...shop, (ctx) => {
    const payment = orNotFound(book.findPayment(parse(reversalsQuerySchema, ctx.query).payment_id));
    const { refunds, disputes } = book.reversals.list(payment);
    ctx.body = {
      data: [...refunds.map(toRefundReply), ...disputes.map(toDisputeReply)],
    } satisfies ReversalsReply;
  });

  addTestRoutes(router, keyed, options);
  addPageRoutes(router, options);
  return router;
}
