/**
 * The adapter of a provider that keeps our contract (docs/provider-openapi.json): a shop's own server in
 * front of whatever takes its money, or the sandbox.
 */

import assert from 'node:assert/strict';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import type { z } from 'zod';
import type {
  ProviderPayment,
  Reversal,
  ReversalStatus,
  PaymentNotice,
  ListedPayment,
} from '../money/payment.ts';
import { listedAsOf } from './as-of.ts';
import { busyAfter, unpaced, type Paced } from './pacing.ts';
import {
  type AmountRules,
  InvalidSignatureError,
  MalformedNoticeError,
  RefundRefusedError,
  SessionRefusedError,
  UnreadablePaymentsError,
  type PaymentProvider,
} from './provider.ts';
import {
  FINAL_REFUSALS,
  MONEY_TYPES,
  moneyNoticeSchema,
  noticeEnvelopeSchema,
  type MoneyNotice,
  problemReplySchema,
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
} from './remote-wire.ts';
import { isForeign, readOwnMark, type OwnMark } from './signed-order.ts';

function toPayment(wire: {
  id: string;
  reference: string;
  amount: number;
  currency: string;
  signed_order: string | null;
  fee?: number | null;
}): ProviderPayment {
  return {
    providerPaymentId: wire.id,
    orderNo: wire.reference,
    amount: wire.amount,
    currency: wire.currency,
    signedOrder: wire.signed_order,
    ...toFee(wire.fee),
  };
}

function toReversal(wire: {
  kind: Reversal['kind'];
  id: string;
  payment_id: string;
  amount: number;
  currency: string;
  status: ReversalStatus;
  fee?: number | null;
}): Reversal {
  return {
    kind: wire.kind,
    providerReversalId: wire.id,
    providerPaymentId: wire.payment_id,
    amount: wire.amount,
    currency: wire.currency,
    status: wire.status,
    ...toFee(wire.fee),
  };
}

function toFee(fee: number | null | undefined): { fee?: number } {
  return typeof fee === 'number' ? { fee } : {};
}

// Sends one call to the provider's API, with a bound on its time and on the size of the reply.

export interface RemoteClientOptions {
  /** The provider's address. A path in it is kept. */
  baseUrl: string;
  apiKey: string;
  requestTimeoutMs: number;
}

/** Bytes of a reply. The largest is a page of 100 payments with the longest signed orders, about 1.7 MB. */
const MAX_REPLY_BYTES = 2 * 1024 * 1024;

export interface Reply {
  ok: boolean;
  status: number;
  /** Seconds, where the provider says when to repeat. */
  retryAfter: string | null;
  /** When the provider answered, by its own clock. */
  date: string | null;
  /** Undefined: of a refusal that is not JSON. */
  body: unknown;
}

/**
 * Sends the call. The timeout covers the reply's body too.
 * @throws when the provider is away or slow, or when its answer is too large, or no refusal and not JSON
 */
export async function send(
  options: RemoteClientOptions,
  method: 'GET' | 'POST' | 'PUT',
  path: string,
  call: { idempotencyKey?: string; body?: object } = {},
): Promise<Reply> {
  const base = options.baseUrl.endsWith('/') ? options.baseUrl : `${options.baseUrl}/`;
  const response = await fetch(new URL(path, base), {
    method,
    // The API key goes to the configured address and nowhere else.
    redirect: 'error',
    headers: {
      accept: 'application/json',
      authorization: `Bearer ${options.apiKey}`,
      ...(call.idempotencyKey === undefined ? {} : { 'idempotency-key': call.idempotencyKey }),
      ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
    signal: AbortSignal.timeout(options.requestTimeoutMs),
  });
  const text = await readBounded(response);
  const { ok, status } = response;
  const [retryAfter, date] = [response.headers.get('retry-after'), response.headers.get('date')];
  try {
    return { ok, status, retryAfter, date, body: JSON.parse(text) as unknown };
  } catch (error) {
    // A gateway in front of the provider refuses in words of its own, which have no code.
    if (!ok) return { ok, status, retryAfter, date, body: undefined };
    throw new Error(`the provider answered ${status} to ${path}, and not in JSON`, { cause: error });
  }
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_REPLY_BYTES) throw new Error(`the provider's reply exceeds ${MAX_REPLY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function unexpected(attempt: string, reply: Reply): Error {
  return new Error(`the provider did not ${attempt}: ${reply.status} (${codeOf(reply) ?? 'no code'})`);
}

/** The stable code of a refusal; undefined when the reply has none. */
export function codeOf(reply: Reply): string | undefined {
  return problemReplySchema.safeParse(reply.body).data?.code;
}

// Verifies the provider's callbacks and translates them to Holdfast's notices.

/** A notice is authentic when any secret verifies it: the provider changes its secret at its own time. */
function verifySignature(
  webhooks: readonly Webhook[],
  rawBody: string,
  headers: Readonly<Record<string, string>>,
): void {
  let refusal: WebhookVerificationError | undefined;
  for (const webhook of webhooks) {
    try {
      // Parsing is left to `parseNotice`, so that an authentic but malformed notice does not count as a
      // forgery.
      webhook.verify(rawBody, headers, { jsonParse: false });
      return;
    } catch (error) {
      if (!(error instanceof WebhookVerificationError)) throw error;
      refusal = error;
    }
  }
  throw new InvalidSignatureError('the notice is not signed by the provider, or is stale', {
    cause: refusal,
  });
}

/** A notice about a payment of another deployment than `deployment` is ignored. */
function parseNotice(rawBody: string, eventId: string, deployment: string): PaymentNotice {
  const json = parseJson(rawBody);
  const envelope = noticeEnvelopeSchema.safeParse(json);
  if (!envelope.success) throw new MalformedNoticeError('the notice has no type', { cause: envelope.error });
  const { type } = envelope.data;
  if (!MONEY_TYPES.includes(type)) return { kind: 'ignored', eventId, type };

  const parsed = moneyNoticeSchema.safeParse(json);
  if (!parsed.success) {
    throw new MalformedNoticeError(`the notice is no known ${type}`, { cause: parsed.error });
  }
  if (isForeign(parsed.data.data.deployment, deployment)) return { kind: 'ignored', eventId, type };
  return toNotice(parsed.data, eventId);
}

function toNotice(notice: MoneyNotice, eventId: string): PaymentNotice {
  switch (notice.type) {
    case 'payment.succeeded':
      return {
        kind: 'payment_succeeded',
        eventId,
        payment: toPayment({ ...notice.data, id: notice.data.payment_id }),
      };
    case 'payment.failed':
      return { kind: 'payment_failed', eventId, orderNo: notice.data.reference };
    case 'refund.updated': {
      const { refund_id, payment_id, amount, currency, status, fee } = notice.data;
      return {
        kind: 'payment_reversed',
        eventId,
        reversal: toReversal({ kind: 'refund', id: refund_id, payment_id, amount, currency, status, fee }),
      };
    }
    case 'dispute.opened':
      return toDisputeNotice(notice, eventId, 'pending');
    case 'dispute.closed':
      return toDisputeNotice(notice, eventId, notice.data.won ? 'failed' : 'succeeded');
    default:
      return notice satisfies never;
  }
}

function toDisputeNotice(
  { timestamp, data }: Extract<MoneyNotice, { type: 'dispute.opened' | 'dispute.closed' }>,
  eventId: string,
  status: ReversalStatus,
): PaymentNotice {
  const { dispute_id: id, payment_id, amount, currency, fee } = data;
  const reversal = toReversal({ kind: 'dispute', id, payment_id, amount, currency, status, fee });
  return { kind: 'payment_reversed', eventId, reversal: { ...reversal, asOfMs: Date.parse(timestamp) } };
}

function parseJson(rawBody: string): unknown {
  try {
    return JSON.parse(rawBody);
  } catch (error) {
    throw new MalformedNoticeError('the notice is not JSON', { cause: error });
  }
}

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

    ...remoteAmountRules,

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
      if (!reply.ok) {
        const refused = sessionRefusalCodeSchema.safeParse(codeOf(reply));
        if (!refused.success) throw unexpected('open a session', reply);
        throw new SessionRefusedError(`the provider refused to open a session: ${refused.data}`);
      }
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
      const refused = refusalCodeSchema.safeParse(codeOf(reply));
      if (!refused.success) throw unexpected(`refund ${providerPaymentId}`, reply);
      const code = refused.data;
      const { title, detail } = problemReplySchema.parse(reply.body);
      const message = detail ?? title ?? `it gave no reason for ${providerPaymentId}`;
      throw new RefundRefusedError({ code, message, isForGood: FINAL_REFUSALS.includes(code) });
    },

    listReversals: async (providerPaymentId) => {
      const query = `payment_id=${encodeURIComponent(providerPaymentId)}`;
      const startedMs = performance.now();
      const reply = await call('GET', `v1/reversals?${query}`);
      if (!reply.ok) throw unexpected('list its reversals', reply);
      const asOfMs = listedAsOf(reply.date, performance.now() - startedMs);
      const listed = reversalsReplySchema.parse(reply.body).data.map(toReversal);
      return listed.map((one) => (one.kind === 'dispute' ? { ...one, asOfMs } : one));
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
export const remoteAmountRules: AmountRules = { priceFault: () => undefined, refundFault: () => undefined };
