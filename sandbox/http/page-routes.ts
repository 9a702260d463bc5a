/**
 * What the shopper's browser calls: the payment page and its buttons. The session's unguessable id is the
 * only key.
 */

import type { Router, RouterContext } from '@koa/router';
import type { Session } from '../book/book-state.ts';
import type { Book } from '../book/book.ts';
import type { Refusal } from '../book/session-book.ts';
import { renderPaymentPage } from './page.ts';
import { refuse, statusOf, toSessionReply } from './replies.ts';
import { orNotFound } from './requests.ts';

export interface PageOptions {
  book: Book;
  publicUrl: string;
  returnUrl: string | undefined;
}

export function addPageRoutes(router: Router, options: PageOptions): void {
  const { book, publicUrl } = options;
  router.get('/pay/:id', (ctx) => {
    answerPage(ctx, orNotFound(book.findSession(ctx.params.id ?? '')), options);
  });

  router.post('/v1/payment_sessions/:id/pay', (ctx) => {
    const session = orNotFound(book.findSession(ctx.params.id ?? ''));
    const outcome = book.paySession(session);
    if (outcome.kind === 'paid') answerAttempt(ctx, session, publicUrl);
    // Nothing is taken yet, and it may not be before the deadline.
    else if (outcome.kind === 'processing') answerAttempt(ctx, session, publicUrl, 202);
    else answerRefusal(ctx, session, outcome, options);
  });

  router.post('/v1/payment_sessions/:id/fail', (ctx) => {
    const session = orNotFound(book.findSession(ctx.params.id ?? ''));
    const outcome = book.failSession(session);
    if (outcome.kind === 'failed') answerAttempt(ctx, session, publicUrl);
    else answerRefusal(ctx, session, outcome, options);
  });
}

/** A browser is sent back to the page, so that its reload button does not pay again; a program gets JSON. */
function answerAttempt(ctx: RouterContext, session: Session, publicUrl: string, status = 200): void {
  if (wantsPage(ctx)) {
    ctx.status = 303;
    ctx.set('Location', `${pathOf(publicUrl)}/pay/${session.id}`);
  } else {
    ctx.status = status;
    ctx.body = toSessionReply(session, publicUrl);
  }
}

function answerRefusal(ctx: RouterContext, session: Session, refusal: Refusal, options: PageOptions): void {
  const problem = refuse(refusal);
  if (!wantsPage(ctx)) throw problem;
  answerPage(ctx, session, options);
  ctx.status = problem.status;
}

function wantsPage(ctx: RouterContext): boolean {
  return ctx.accepts('json', 'html') === 'html';
}

function answerPage(ctx: RouterContext, session: Session, { publicUrl, returnUrl }: PageOptions): void {
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
    backUrl: returnUrl === undefined ? null : backUrlOf(session, returnUrl),
  });
}

/**
 * The way back to the shop names the order and what became of the payment. Anyone can write such an address,
 * so the shop takes it for a hint: it learns of money from the signed callback alone.
 */
function backUrlOf(session: Session, returnUrl: string): string {
  const status = statusOf(session);
  const url = new URL(returnUrl);
  url.searchParams.set('payment', status === 'open' && session.failures > 0 ? 'failed' : status);
  url.searchParams.set('orderNo', session.reference);
  return url.href;
}

/** The buttons' addresses name no host: the browser stays with the one by which it came. */
function pathOf(publicUrl: string): string {
  return new URL(publicUrl).pathname.replace(/\/$/, '');
}
