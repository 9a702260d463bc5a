/** Holdfast's side of the sandbox provider: the payment port spoken over HTTP. */

import assert from 'node:assert/strict';

import { Webhook, WebhookVerificationError } from 'standardwebhooks';

import type { PaymentNotice, ProviderPayment } from '../../domain/payment.ts';
import { InvalidSignatureError, MalformedNoticeError, type PaymentProvider } from '../provider.ts';
import {
  alreadyPaidReplySchema,
  moneyNoticeSchema,
  noticeEnvelopeSchema,
  paymentsReplySchema,
  problemReplySchema,
  sessionReplySchema,
  type PaymentsReply,
  voidReplySchema,
} from './wire.ts';

export interface SandboxAdapterOptions {
  /** Where the sandbox listens; a path is kept. */
  baseUrl: string;
  apiKey: string;
  /** `whsec_…`: one, or two while a secret is being replaced. */
  webhookSecrets: readonly string[];
  requestTimeoutMs: number;
}

/** Bytes of a reply: those that this adapter reads are under 1 KiB. */
const MAX_REPLY_BYTES = 64 * 1024;
/** Kinds of event that move money; whatever else a provider tells is noted and left alone. */
const MONEY_TYPES: readonly string[] = ['payment.succeeded', 'payment.failed'];

export function createSandboxAdapter(options: SandboxAdapterOptions): PaymentProvider {
  const { webhookSecrets } = options;
  assert(
    webhookSecrets.length === 1 || webhookSecrets.length === 2,
    'one webhook secret, or two in rotation',
  );
  const webhooks = webhookSecrets.map((secret) => new Webhook(secret));

  return {
    name: 'sandbox',

    openSession: async (request) => {
      const reply = await send(options, 'POST', 'v1/payment_sessions', {
        idempotencyKey: request.sessionId,
        body: {
          reference: request.orderNo,
          amount: request.amount,
          currency: request.currency,
          expires_at: new Date(request.expiresAtMs).toISOString(),
        },
      });
      if (!reply.ok) throw unexpected('open a session', reply);
      const session = sessionReplySchema.parse(reply.body);
      return { providerSessionId: session.id, url: session.url };
    },

    voidSession: async (providerSessionId) => {
      const reply = await send(
        options,
        'POST',
        `v1/payment_sessions/${encodeURIComponent(providerSessionId)}/void`,
      );
      if (reply.ok) {
        voidReplySchema.parse(reply.body);
        return { kind: 'voided' };
      }
      const paid = reply.status === 409 ? alreadyPaidReplySchema.safeParse(reply.body) : undefined;
      if (!paid?.success) throw unexpected('void a session', reply);
      return { kind: 'already_paid', payment: toPayment(paid.data.payment) };
    },

    listPayments: async function* listPayments() {
      let cursor: string | null = '0';
      while (cursor !== null) {
        const reply = await send(options, 'GET', `v1/payments?cursor=${encodeURIComponent(cursor)}`);
        if (!reply.ok) throw unexpected('list its payments', reply);
        const page: PaymentsReply = paymentsReplySchema.parse(reply.body);
        yield* page.data.map(toPayment);
        cursor = page.next_cursor;
      }
    },

    verifyNotice: (rawBody, headers) => {
      verifySignature(webhooks, rawBody, headers);
      const eventId = Object.entries(headers).find(([name]) => name.toLowerCase() === 'webhook-id')?.[1];
      assert(eventId, 'a verified notice has an id');
      return parseNotice(rawBody, eventId);
    },
  };
}

/** The notice is authentic when any of the secrets says so: the far side changes over at its own time. */
function verifySignature(
  webhooks: readonly Webhook[],
  rawBody: string,
  headers: Readonly<Record<string, string>>,
): void {
  let refusal: WebhookVerificationError | undefined;
  for (const webhook of webhooks) {
    try {
      // Parsing is left to `parseNotice`, so that authentic nonsense is told from a forgery.
      webhook.verify(rawBody, headers, { jsonParse: false });
      return;
    } catch (error) {
      if (!(error instanceof WebhookVerificationError)) throw error;
      refusal = error;
    }
  }
  throw new InvalidSignatureError('the notice is not signed by the sandbox, or is stale', { cause: refusal });
}

function parseNotice(rawBody: string, eventId: string): PaymentNotice {
  const json = parseJson(rawBody);
  const envelope = noticeEnvelopeSchema.safeParse(json);
  if (!envelope.success) throw new MalformedNoticeError('the notice has no type', { cause: envelope.error });
  const { type } = envelope.data;
  if (!MONEY_TYPES.includes(type)) return { kind: 'ignored', eventId, type };

  const parsed = moneyNoticeSchema.safeParse(json);
  if (!parsed.success) {
    throw new MalformedNoticeError(`the notice is no ${type} that we know`, { cause: parsed.error });
  }
  const notice = parsed.data;
  switch (notice.type) {
    case 'payment.succeeded':
      return {
        kind: 'payment_succeeded',
        eventId,
        payment: toPayment({ ...notice.data, id: notice.data.payment_id }),
      };
    case 'payment.failed':
      return { kind: 'payment_failed', eventId, orderNo: notice.data.reference };
    default:
      return notice satisfies never;
  }
}

function parseJson(rawBody: string): unknown {
  try {
    return JSON.parse(rawBody);
  } catch (error) {
    throw new MalformedNoticeError('the notice is not JSON', { cause: error });
  }
}

function toPayment(wire: {
  id: string;
  reference: string;
  amount: number;
  currency: string;
}): ProviderPayment {
  return {
    providerPaymentId: wire.id,
    orderNo: wire.reference,
    amount: wire.amount,
    currency: wire.currency,
  };
}

interface Reply {
  ok: boolean;
  status: number;
  body: unknown;
}

/** The timeout covers the reply's body too. Throws when the sandbox is away, slow, or does not answer JSON. */
async function send(
  options: SandboxAdapterOptions,
  method: 'GET' | 'POST',
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
  try {
    return { ok: response.ok, status: response.status, body: JSON.parse(text) as unknown };
  } catch (error) {
    throw new Error(`the sandbox answered ${response.status} to ${path}, and not in JSON`, { cause: error });
  }
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_REPLY_BYTES) throw new Error(`the sandbox's reply exceeds ${MAX_REPLY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function unexpected(attempt: string, reply: Reply): Error {
  const problem = problemReplySchema.safeParse(reply.body);
  const code = problem.success ? problem.data.code : 'no code';
  return new Error(`the sandbox did not ${attempt}: ${reply.status} (${code})`);
}
