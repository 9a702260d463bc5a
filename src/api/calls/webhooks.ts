/** POST /v1/webhooks/payments: verifies a notice, commits it to the inbox, and only then acknowledges it. */

import type { Middleware } from 'koa';
import { z } from 'zod';
import type { Metrics, NoticeOutcome } from '../../metrics.ts';
import type { PaymentNotice } from '../../money/payment.ts';
import {
  InvalidSignatureError,
  MalformedNoticeError,
  type PaymentProvider,
} from '../../providers/provider.ts';
import type { Stores } from '../../stores/open.ts';
import { reply } from '../http/answer.ts';
import type { CallContext, ShopCalls } from '../http/entry.ts';
import { requestIdOf, toProblem } from '../http/problem.ts';
import { createForgeryLog } from '../http/refusal-logs.ts';
import { noBody } from '../http/replies.ts';
import type { NoticeInbox } from '../notice-inbox.ts';
import { shopCall } from './call.ts';

/** Bytes of a webhook body. Providers send whole objects, and Stripe's largest are about 100 KiB. */
export const MAX_WEBHOOK_BYTES = 256 * 1024;

/** Enough of an authentic notice of an unknown shape to see what it is. */
const LOGGED_BODY_CHARS = 1_000;

interface WebhookDeps extends Stores {
  provider: PaymentProvider;
  inbox: NoticeInbox;
}

/** Each provider has its own form of it. */
const noticeBody = z.looseObject({}).meta({
  examples: [
    {
      type: 'payment.succeeded',
      timestamp: '2026-11-21T10:01:12.345Z',
      data: {
        reference: 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG',
        amount: 10_295,
        currency: 'EUR',
        deployment: 'holdfast',
        session_id: 'ps_1',
        payment_id: 'pay_1',
        signed_order: null,
        fee: null,
      },
    },
  ],
});

export interface Receiver {
  receiveNotice: ReturnType<typeof createReceiveNotice>;
}

export const noticeCalls = {
  'POST /v1/webhooks/payments': shopCall<Receiver>()({
    id: 'receiveNotice',
    does: "Takes a notice of the payment provider's",
    who: 'provider',
    lane: 'notices',
    body: { schema: noticeBody, bytesMax: MAX_WEBHOOK_BYTES, isSigned: true },
    replies: { 204: noBody },
    // The provider repeats what is not acknowledged: exactly as long as this store is away.
    away: 'inbox_unavailable',
    refuses: { forged: 'invalid_signature', malformed: 'malformed_notice' },
    answer: ({ receiveNotice }, { ctx }) => receiveNotice(ctx),
  }),
} satisfies ShopCalls<Receiver>;

/** Comes before everything that may refuse a notice: the body's parser and the lane do so too. */
export function countNotices({ noticeAnswered }: Pick<Metrics, 'noticeAnswered'>): Middleware {
  return async (_, next) => {
    try {
      await next();
      noticeAnswered('accepted');
    } catch (error) {
      noticeAnswered(refusalOutcome(toProblem(error).status));
      throw error;
    }
  };
}

function refusalOutcome(status: number): NoticeOutcome {
  if (status === 401) return 'forged';
  return status < 500 ? 'malformed' : 'unavailable';
}

export function createReceiveNotice({ provider, inbox, paymentAttempts, tracing, log }: WebhookDeps) {
  const reportForgery = createForgeryLog(log);

  function verify(rawBody: string, ctx: CallContext): PaymentNotice | { kind: 'forged' | 'malformed' } {
    try {
      return provider.verifyNotice(rawBody, headersOf(ctx));
    } catch (error) {
      if (error instanceof InvalidSignatureError) {
        reportForgery(reasonOf(error));
        return { kind: 'forged' };
      }
      if (error instanceof MalformedNoticeError) {
        log.warn(
          { err: error, requestId: requestIdOf(ctx.req), rawBody: rawBody.slice(0, LOGGED_BODY_CHARS) },
          'payment notice malformed',
        );
        return { kind: 'malformed' };
      }
      throw error;
    }
  }

  return async function receiveNotice(ctx: CallContext) {
    const { rawBody } = ctx.state;
    const startedMs = performance.now();
    const notice = verify(rawBody, ctx);
    if (!('eventId' in notice)) return notice;
    const stored = await inbox.receive({ notice, rawBody });
    const { kind, eventId } = notice;
    // The provider knows nothing of the order's trace: the notice joins it once the order is known.
    if (stored && tracing) {
      const attributes = { 'holdfast.notice': kind };
      tracing
        .begin('payment notice', stored.order, { kind: 'consumer', attributes, startedMs, cause: ctx.req })
        ?.end();
    }
    if (log.isLevelEnabled('debug')) {
      const { orderNo } = stored?.order ?? {};
      log.debug({ orderNo, requestId: requestIdOf(ctx.req), step: 'payment notice', kind, eventId }, 'order');
    }
    // The notice is committed: what fails here changes no answer.
    if (stored?.isNewFailure === true)
      await paymentAttempts.countFailed(stored.order).catch((error: unknown) => {
        log.warn({ err: error, orderNo: stored.order.orderNo }, 'a failed attempt to pay was not counted');
      });
    return reply('' as const, 204);
  };
}

function headersOf(ctx: CallContext): Record<string, string> {
  return Object.fromEntries(
    Object.entries(ctx.headers).flatMap(([name, value]) =>
      typeof value === 'string' ? [[name, value]] : [],
    ),
  );
}

/** The library's own words say which check failed; they quote nothing of the notice. */
function reasonOf({ message, cause }: InvalidSignatureError): string {
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}
