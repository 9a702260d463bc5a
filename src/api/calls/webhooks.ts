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
import type { CallContext, ShopCalls } from '../http/entry.ts';
import { Problem, requestIdOf, toProblem, unavailable } from '../http/problem.ts';
import { createForgeryLog } from '../http/refusal-logs.ts';
import { noBody } from '../http/replies.ts';
import type { NoticeInbox } from '../notice-inbox.ts';

/** Bytes of a webhook body. Providers send whole objects, and Stripe's largest are about 100 KiB. */
export const MAX_WEBHOOK_BYTES = 256 * 1024;

/** Enough of an authentic notice of an unknown shape to see what it is. */
const LOGGED_BODY_CHARS = 1_000;

interface WebhookDeps extends Stores {
  provider: PaymentProvider;
  inbox: NoticeInbox;
}

/** Each provider has its own form of it. */
const noticeBody = z.looseObject({});

export interface Receiver {
  receiveNotice: ReturnType<typeof createReceiveNotice>;
}

export const noticeCalls = {
  'POST /v1/webhooks/payments': {
    id: 'receiveNotice',
    does: "Takes a notice of the payment provider's",
    who: 'provider',
    lane: 'notices',
    body: { schema: noticeBody, bytesMax: MAX_WEBHOOK_BYTES, isSigned: true },
    replies: { 204: noBody },
    refuses: ['malformed_notice', 'invalid_signature', 'inbox_unavailable'],
    handle: ({ receiveNotice }, ctx) => receiveNotice(ctx),
  },
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

  function verify(rawBody: string, ctx: CallContext): PaymentNotice {
    try {
      return provider.verifyNotice(rawBody, headersOf(ctx));
    } catch (error) {
      if (error instanceof InvalidSignatureError) {
        reportForgery(reasonOf(error));
        throw new Problem('invalid_signature', 'The notice is forged or stale.', { cause: error });
      }
      if (error instanceof MalformedNoticeError) {
        log.warn(
          { err: error, requestId: requestIdOf(ctx.req), rawBody: rawBody.slice(0, LOGGED_BODY_CHARS) },
          'payment notice malformed',
        );
        throw new Problem('malformed_notice', 'The notice is not of a known shape.', { cause: error });
      }
      throw error;
    }
  }

  async function commit(notice: PaymentNotice, rawBody: string) {
    try {
      return await inbox.receive({ notice, rawBody });
    } catch (error) {
      // The provider repeats what is not acknowledged: exactly as long as this store is away.
      throw unavailable('inbox_unavailable', 'The notice could not be stored; send it again.', error);
    }
  }

  return async function receiveNotice(ctx: CallContext): Promise<void> {
    const { rawBody } = ctx.state;
    const startedMs = performance.now();
    const notice = verify(rawBody, ctx);
    const stored = await commit(notice, rawBody);
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
    ctx.status = 204;
    if (stored?.isNewFailure === true) await paymentAttempts.countFailed(stored.order);
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
