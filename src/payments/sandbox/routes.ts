/** What the sandbox answers at which address: the API for the shop, and the page for the shopper. */

import { createHash, timingSafeEqual } from 'node:crypto';

import { Router, type RouterContext } from '@koa/router';
import type { Middleware } from 'koa';
import type { z } from 'zod';

import { IDEMPOTENCY_KEY_PATTERN } from '../../domain/limits.ts';
import { hasExpired, type Book, type Refusal } from './book.ts';
import type { Payment, Session } from './book-state.ts';
import { ProblemError } from './errors.ts';
import { renderPaymentPage } from './page.ts';
import {
  paymentsQuerySchema,
  sessionRequestSchema,
  strayPaymentRequestSchema,
  type PaymentReply,
  type PaymentsReply,
  type SessionReply,
} from './wire.ts';

export interface RoutesOptions {
  book: Book;
  apiKey: string;
  /** Where browsers reach the sandbox, without a trailing slash. */
  publicUrl: string;
  sendEvent: (eventId: string) => void;
}

export function createRoutes(options: RoutesOptions): Router {
  const { book, publicUrl } = options;
  const router = new Router();
  const keyed = requireApiKey(options.apiKey);

  router.post('/v1/payment_sessions', keyed, (ctx) => {
    const key = ctx.get('idempotency-key');
    if (!IDEMPOTENCY_KEY_PATTERN.test(key)) throw new ProblemError('idempotency_key_required');
    const { expires_at, ...money } = parse(sessionRequestSchema, ctx.request.body);
    // A session that is born expired is answered like any other: it simply takes nothing.
    const outcome = book.openSession(key, { ...money, expiresAtMs: Date.parse(expires_at) });
    if (!('session' in outcome)) throw new ProblemError(outcome.kind);
    ctx.status = outcome.kind === 'opened' ? 201 : 200;
    ctx.body = toSessionReply(outcome.session, publicUrl);
  });

  router.get('/v1/payment_sessions/:id', keyed, (ctx) => {
    ctx.body = toSessionReply(findSession(book, ctx), publicUrl);
  });

  router.post('/v1/payment_sessions/:id/void', keyed, (ctx) => {
    const outcome = book.voidSession(findSession(book, ctx));
    if (outcome.kind === 'already_paid') throw refuse(outcome);
    ctx.body = { status: 'voided' };
  });

  router.get('/v1/payments', keyed, (ctx) => {
    const { reference, cursor, limit } = parse(paymentsQuerySchema, ctx.query);
    const page = book.listPayments({ reference, from: cursor, limit });
    ctx.body = {
      data: page.payments.map(toPaymentReply),
      next_cursor: page.next === null ? null : String(page.next),
    } satisfies PaymentsReply;
  });

  router.post('/v1/test/payments', keyed, (ctx) => {
    const outcome = book.takeStrayPayment(parse(strayPaymentRequestSchema, ctx.request.body));
    if (outcome.kind === 'book_full') throw new ProblemError('book_full');
    options.sendEvent(outcome.payment.eventId);
    ctx.status = 201;
    ctx.body = toPaymentReply(outcome.payment);
  });

  router.post('/v1/test/events/:eventId/redeliver', keyed, (ctx) => {
    const event = book.findEvent(ctx.params.eventId ?? '');
    if (!event) throw new ProblemError('not_found');
    options.sendEvent(event.id);
    ctx.status = 202;
    ctx.body = { id: event.id, type: event.type, delivery: event.delivery };
  });

  addPageRoutes(router, options);
  return router;
}

/** What the shopper's browser calls: knowing the session's unguessable id is enough. */
function addPageRoutes(router: Router, { book, publicUrl, sendEvent }: RoutesOptions): void {
  router.get('/pay/:id', (ctx) => {
    answerPage(ctx, findSession(book, ctx), publicUrl);
  });

  router.post('/v1/payment_sessions/:id/pay', (ctx) => {
    const session = findSession(book, ctx);
    const outcome = book.paySession(session);
    if (outcome.kind === 'paid') sendEvent(outcome.payment.eventId);
    answerAttempt(ctx, session, outcome.kind === 'paid' ? undefined : outcome, publicUrl);
  });

  router.post('/v1/payment_sessions/:id/fail', (ctx) => {
    const session = findSession(book, ctx);
    const outcome = book.failSession(session);
    if (outcome.kind === 'failed') sendEvent(outcome.event.id);
    answerAttempt(ctx, session, outcome.kind === 'failed' ? undefined : outcome, publicUrl);
  });
}

/** A browser is sent back to the page, so that its reload button does not pay again; a program gets JSON. */
function answerAttempt(
  ctx: RouterContext,
  session: Session,
  refusal: Refusal | undefined,
  publicUrl: string,
): void {
  const wantsPage = ctx.accepts('json', 'html') === 'html';
  if (refusal) {
    const problem = refuse(refusal);
    if (!wantsPage) throw problem;
    answerPage(ctx, session, publicUrl);
    ctx.status = problem.status;
  } else if (wantsPage) {
    ctx.status = 303;
    ctx.set('Location', `${pathOf(publicUrl)}/pay/${session.id}`);
  } else {
    ctx.body = toSessionReply(session, publicUrl);
  }
}

function answerPage(ctx: RouterContext, session: Session, publicUrl: string): void {
  const action = `${pathOf(publicUrl)}/v1/payment_sessions/${session.id}`;
  ctx.type = 'html';
  ctx.body = renderPaymentPage({
    reference: session.reference,
    amount: session.amount,
    currency: session.currency,
    expiresAtMs: session.expiresAtMs,
    status: statusOf(session),
    paymentId: session.paymentId,
    lastAttemptFailed: session.failures > 0,
    payAction: `${action}/pay`,
    failAction: `${action}/fail`,
  });
}

function requireApiKey(apiKey: string): Middleware {
  const expected = digest(`Bearer ${apiKey}`);
  return async (ctx, next) => {
    if (!timingSafeEqual(digest(ctx.get('authorization')), expected)) throw new ProblemError('unauthorized');
    await next();
  };
}

/** Keys are compared by their digests, so neither the time nor an exception tells their length. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ProblemError('invalid_request', {
    errors: parsed.error.issues.map(({ path, message }) => ({ field: path.join('.'), message })),
  });
}

function findSession(book: Book, ctx: RouterContext): Session {
  const session = book.findSession(ctx.params.id ?? '');
  if (!session) throw new ProblemError('not_found');
  return session;
}

function refuse(refusal: Refusal): ProblemError {
  if (refusal.kind !== 'already_paid') return new ProblemError(refusal.kind);
  const { id, reference, amount, currency } = refusal.payment;
  return new ProblemError('already_paid', { payment: { id, reference, amount, currency } });
}

function statusOf(session: Session): SessionReply['status'] {
  return hasExpired(session) ? 'expired' : session.status;
}

function toSessionReply(session: Session, publicUrl: string): SessionReply {
  return {
    id: session.id,
    url: `${publicUrl}/pay/${session.id}`,
    status: statusOf(session),
    reference: session.reference,
    amount: session.amount,
    currency: session.currency,
    expires_at: new Date(session.expiresAtMs).toISOString(),
    created_at: new Date(session.createdAtMs).toISOString(),
    payment_id: session.paymentId,
  };
}

function toPaymentReply(payment: Payment): PaymentReply {
  return {
    id: payment.id,
    reference: payment.reference,
    amount: payment.amount,
    currency: payment.currency,
    session_id: payment.sessionId,
    event_id: payment.eventId,
    created_at: new Date(payment.createdAtMs).toISOString(),
  };
}

/** Links on the page name no host: the browser stays with the one by which it came. */
function pathOf(publicUrl: string): string {
  return new URL(publicUrl).pathname.replace(/\/$/, '');
}
