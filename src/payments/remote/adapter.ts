/**
 * The adapter of a provider that keeps our contract (docs/provider-openapi.json): a shop's own server in
 * front of whatever takes its money, or the sandbox.
 */

import assert from 'node:assert/strict';
import { Webhook } from 'standardwebhooks';
import type { z } from 'zod';
import type { ListedPayment } from '../../domain/payment.ts';
import { isForeign, readOwnMark, type OwnMark } from '../deployment.ts';
import { busyAfter, unpaced, type Paced } from '../pacing.ts';
import {
  MalformedNoticeError,
  RefundRefusedError,
  SessionRefusedError,
  UnreadablePaymentsError,
  type PaymentProvider,
} from '../provider.ts';
import { codeOf, send, unexpected, type Reply, type RemoteClientOptions } from './client.ts';
import { parseNotice, verifySignature } from './notices.ts';
import { toPayment, toReversal } from './translate.ts';
import {
  alreadyPaidReplySchema,
  idSchema,
  paymentReplySchema,
  paymentsPageSchema,
  refusalCodeSchema,
  reversalReplySchema,
  reversalsReplySchema,
  sessionRefusalCodeSchema,
  sessionReplySchema,
  voidReplySchema,
} from './wire.ts';

export interface RemoteAdapterOptions extends RemoteClientOptions {
  /** Recorded with every payment. */
  name: 'remote' | 'sandbox';
  /** `whsec_…`: one secret, or two while it is being replaced. */
  webhookSecrets: readonly string[];
  /** Of this deployment; payments that carry another's are not listed. */
  deployment: OwnMark;
  /** Makes each call when it may be made; without it at once. */
  paced?: Paced | undefined;
}

/** Payments in one page. Together with `MAX_REPLY_BYTES` it bounds the memory of an audit. */
const PAGE_SIZE = 100;
/** Ten million payments: a list without an end must not keep its reader for ever. */
const PAGES_MAX = 100_000;

export function createRemoteAdapter(options: RemoteAdapterOptions): PaymentProvider {
  const { webhookSecrets, deployment, paced = unpaced } = options;
  assert(
    webhookSecrets.length === 1 || webhookSecrets.length === 2,
    'one webhook secret, or two in rotation',
  );
  const webhooks = webhookSecrets.map((secret) => new Webhook(secret));

  const call = (method: 'GET' | 'POST', path: string, what?: Parameters<typeof send>[3]): Promise<Reply> =>
    paced(async () => {
      const reply = await send(options, method, path, what);
      if (reply.status === 429) throw busyAfter('the provider', reply.retryAfter);
      return reply;
    });

  return {
    name: options.name,

    priceFault: remotePriceFault,

    openSession: async (request) => {
      const reply = await call('POST', 'v1/payment_sessions', {
        idempotencyKey: request.sessionId,
        body: {
          reference: request.orderNo,
          amount: request.amount,
          currency: request.currency,
          signed_order: request.signedOrder,
          shop_reference: request.reference,
          metadata: request.metadata,
          deployment: readOwnMark(deployment),
          expires_at: new Date(request.expiresAtMs).toISOString(),
        },
      });
      if (!reply.ok) throw refusedOr(SessionRefusedError, sessionRefusalCodeSchema, 'open a session', reply);
      const session = sessionReplySchema.parse(reply.body);
      return {
        providerSessionId: session.id,
        url: session.url,
        expiresAtMs: Date.parse(session.expires_at),
      };
    },

    voidSession: async (providerSessionId) => {
      const reply = await call('POST', `v1/payment_sessions/${encodeURIComponent(providerSessionId)}/void`);
      if (reply.ok) {
        voidReplySchema.parse(reply.body);
        return { kind: 'voided' };
      }
      const paid = reply.status === 409 ? alreadyPaidReplySchema.safeParse(reply.body) : undefined;
      if (!paid?.success) throw unexpected('void a session', reply);
      return { kind: 'already_paid', payment: toPayment(paid.data.payment) };
    },

    refund: async ({ refundKey, providerPaymentId, amount, currency }) => {
      const reply = await call('POST', 'v1/refunds', {
        idempotencyKey: refundKey,
        body: { payment_id: providerPaymentId, amount, currency },
      });
      if (reply.ok) return toReversal(reversalReplySchema.parse(reply.body));
      throw refusedOr(RefundRefusedError, refusalCodeSchema, `refund ${providerPaymentId}`, reply);
    },

    listReversals: async (providerPaymentId) => {
      const query = `payment_id=${encodeURIComponent(providerPaymentId)}`;
      const reply = await call('GET', `v1/reversals?${query}`);
      if (!reply.ok) throw unexpected('list its reversals', reply);
      return reversalsReplySchema.parse(reply.body).data.map(toReversal);
    },

    listPayments: async function* listPayments(sinceMs = 0, untilMs?: number) {
      const since = encodeURIComponent(new Date(sinceMs).toISOString());
      const until =
        untilMs === undefined ? '' : `&until=${encodeURIComponent(new Date(untilMs).toISOString())}`;
      let cursor = '0';
      const own = readOwnMark(deployment);
      const unreadable: z.ZodError[] = [];
      for (let pages = 0; pages < PAGES_MAX; pages += 1) {
        const reply = await call(
          'GET',
          `v1/payments?since=${since}${until}&limit=${PAGE_SIZE}&cursor=${encodeURIComponent(cursor)}`,
        );
        if (!reply.ok) throw unexpected('list its payments', reply);
        const page = paymentsPageSchema.parse(reply.body);
        for (const listed of page.data) {
          const payment = paymentReplySchema.safeParse(listed);
          if (!payment.success) unreadable.push(payment.error);
          else if (!isForeign(payment.data.deployment, own)) yield toListed(payment.data);
        }
        if (page.next_cursor === null) {
          if (unreadable.length > 0) throw new UnreadablePaymentsError(unreadable.length, unreadable[0]);
          return;
        }
        cursor = page.next_cursor;
      }
      throw new Error(`the provider lists more than ${PAGES_MAX} pages of payments`);
    },

    verifyNotice: (rawBody, headers) => {
      verifySignature(webhooks, rawBody, headers);
      const eventId = Object.entries(headers).find(([name]) => name.toLowerCase() === 'webhook-id')?.[1];
      assert(eventId, 'a verified notice has an id');
      if (!idSchema.safeParse(eventId).success)
        throw new MalformedNoticeError('the id of the notice is too long');
      return parseNotice(rawBody, eventId, readOwnMark(deployment));
    },
  };
}

function toListed(payment: z.infer<typeof paymentReplySchema>): ListedPayment {
  const totals = { succeeded: payment.returned, isDisputed: payment.disputed };
  return { ...toPayment(payment), totals };
}

/** The sandbox takes any amount that a sale may have; what another takes, it alone knows. */
export function remotePriceFault(): undefined {
  return undefined;
}

/** The error of a call that failed: of the given class where its code says that nothing was done. */
function refusedOr(
  Refused: typeof SessionRefusedError | typeof RefundRefusedError,
  refusals: z.ZodType<string>,
  attempt: string,
  reply: Reply,
): Error {
  const refusal = refusals.safeParse(codeOf(reply));
  return refusal.success
    ? new Refused(`the provider refused to ${attempt}: ${refusal.data}`)
    : unexpected(attempt, reply);
}
