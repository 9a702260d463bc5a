/** The adapter of Stripe: sessions are Checkout Sessions, and payments are PaymentIntents. */

import assert from 'node:assert/strict';
import { Stripe } from 'stripe';
import type { ListedPayment, Reversal } from '../../domain/payment.ts';
import { readOwnMark, type OwnMark } from '../deployment.ts';
import { busyAfter, unpaced, type Paced } from '../pacing.ts';
import {
  InvalidSignatureError,
  MalformedNoticeError,
  RefundRefusedError,
  SessionRefusedError,
  UnreadablePaymentsError,
  type PaymentProvider,
} from '../provider.ts';
import { writeRefundMetadata } from './metadata.ts';
import { currencyFault, type StripePaymentMethod } from './methods.ts';
import { toNotice } from './notices.ts';
import {
  openedSessionSchema,
  readListed,
  sessionStateSchema,
  toDispute,
  toRefund,
  toSessionPayment,
} from './objects.ts';
import { stripePriceFault } from './prices.ts';
import { buildSessionParams } from './session-params.ts';

export interface StripeAdapterOptions {
  /** `http(s)://host[:port]`; undefined: Stripe's own API. */
  baseUrl?: string | undefined;
  apiKey: string;
  /** `whsec_…`: one secret, or two while it is being replaced. */
  webhookSecrets: readonly string[];
  /** The page to which the shopper's browser returns; the order's number is added to it. */
  returnUrl: string;
  /** Those that Stripe's page may offer, where they take the order's currency. */
  paymentMethods: readonly StripePaymentMethod[];
  /** Of this deployment; payments that carry another's are not listed. */
  deployment: OwnMark;
  /** Makes each call when it may be made; without it at once. */
  paced?: Paced | undefined;
  requestTimeoutMs: number;
}

/** The version for which schemas and tests were written. Stripe keeps answering in this version's shapes. */
const API_VERSION = '2026-10-28.endive';
/** The largest page that Stripe offers. */
const PAGE_SIZE = 100;
/** Refunds, or disputes, of one payment. More are an error, because a cut list would hide reversals. */
const MAX_REVERSALS = 1_000;

export function createStripeAdapter(options: StripeAdapterOptions): PaymentProvider {
  const { webhookSecrets, deployment, paced = unpaced } = options;
  assert(
    webhookSecrets.length === 1 || webhookSecrets.length === 2,
    'one webhook secret, or two in rotation',
  );
  const stripe = openClient(options);
  const call = <T>(request: () => Promise<T>): Promise<T> => paced(() => request().catch(throwBusy));

  async function listRefunds(providerPaymentId: string): Promise<Reversal[]> {
    const refunds = await call(() =>
      stripe.refunds
        .list({ payment_intent: providerPaymentId, limit: PAGE_SIZE })
        .autoPagingToArray({ limit: MAX_REVERSALS + 1 }),
    );
    return assertWhole(refunds).map((refund) => toRefund(refund, providerPaymentId));
  }

  async function listDisputes(providerPaymentId: string): Promise<Reversal[]> {
    const disputes = await call(() =>
      stripe.disputes
        .list({ payment_intent: providerPaymentId, limit: PAGE_SIZE })
        .autoPagingToArray({ limit: MAX_REVERSALS + 1 }),
    );
    return assertWhole(disputes).map((dispute) => toDispute(dispute, providerPaymentId));
  }

  return {
    name: 'stripe',

    priceFault: (price) => stripePriceFault(price) ?? currencyFault(options.paymentMethods, price.currency),

    openSession: async (request) => {
      const params = buildSessionParams(request, { ...options, deployment: readOwnMark(deployment) });
      try {
        const session = await call(() =>
          stripe.checkout.sessions.create(params, { idempotencyKey: request.sessionId }),
        );
        const { id, url, expires_at: expiresAt } = openedSessionSchema.parse(session);
        return { providerSessionId: id, url, expiresAtMs: expiresAt ? expiresAt * 1_000 : null };
      } catch (error) {
        if (!isRefusal(error)) throw error;
        throw new SessionRefusedError(`Stripe refused the session: ${error.message}`, { cause: error });
      }
    },

    voidSession: async (providerSessionId) => {
      try {
        await call(() => stripe.checkout.sessions.expire(providerSessionId));
        return { kind: 'voided' };
      } catch (error) {
        // Stripe expires only open sessions. The state of this one is to be read.
        if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) throw error;
        const session = await call(() => stripe.checkout.sessions.retrieve(providerSessionId));
        return toVoidOutcome(session, error);
      }
    },

    refund: async ({ refundKey, providerPaymentId, amount }) => {
      try {
        const metadata = writeRefundMetadata(refundKey, readOwnMark(deployment));
        const refund = await call(() =>
          stripe.refunds.create(
            { payment_intent: providerPaymentId, amount, metadata },
            { idempotencyKey: refundKey },
          ),
        );
        return toRefund(refund, providerPaymentId);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        throw new RefundRefusedError(`Stripe refused the refund: ${error.code ?? error.type}`, {
          cause: error,
        });
      }
    },

    listReversals: async (providerPaymentId) => [
      ...(await listRefunds(providerPaymentId)),
      ...(await listDisputes(providerPaymentId)),
    ],

    listPayments: async function* listPayments(sinceMs = 0, untilMs?: number): AsyncGenerator<ListedPayment> {
      const query = {
        limit: PAGE_SIZE,
        // The balance transaction has the fee. Stripe takes no more than four levels.
        expand: ['data.latest_charge.balance_transaction'],
        created: {
          gte: Math.floor(sinceMs / 1_000),
          ...(untilMs === undefined ? {} : { lt: Math.floor(untilMs / 1_000) }),
        },
      };
      let after: string | undefined;
      const unreadable: unknown[] = [];
      do {
        const from = after === undefined ? {} : { starting_after: after };
        const page = await call(() => stripe.paymentIntents.list({ ...query, ...from }));
        const { payments, faults } = readListed(page.data, readOwnMark(deployment));
        yield* payments;
        unreadable.push(...faults);
        after = page.has_more ? page.data.at(-1)?.id : undefined;
      } while (after !== undefined);
      if (unreadable.length > 0) throw new UnreadablePaymentsError(unreadable.length, unreadable[0]);
    },

    verifyNotice: (rawBody, headers) => {
      const signature = Object.entries(headers).find(
        ([name]) => name.toLowerCase() === 'stripe-signature',
      )?.[1];
      return toNotice(verifyEvent(stripe, webhookSecrets, rawBody, signature ?? ''), readOwnMark(deployment));
    },
  };
}

function openClient(options: StripeAdapterOptions): Stripe {
  return new Stripe(options.apiKey, {
    apiVersion: API_VERSION,
    appInfo: { name: 'holdfast' },
    // The fetch client's timeout covers a whole call with its body, and it never repeats a call by itself.
    httpClient: Stripe.createFetchHttpClient(fetchWithoutRedirect),
    timeout: options.requestTimeoutMs,
    // The callers repeat a call, because they know what it may have done.
    maxNetworkRetries: 0,
    telemetry: false,
    ...(options.baseUrl === undefined ? {} : addressOf(options.baseUrl)),
  });
}

/** Too many calls of this account; a conflict of calls about one object is none of it. */
function throwBusy(error: unknown): never {
  if (error instanceof Stripe.errors.StripeRateLimitError && error.code !== 'lock_timeout')
    throw busyAfter('Stripe', error.headers?.['retry-after']);
  throw error;
}

/** The API key goes to the configured address and nowhere else. */
function fetchWithoutRedirect(...[input, init]: Parameters<typeof fetch>): Promise<Response> {
  return fetch(input, { ...init, redirect: 'error' });
}

function addressOf(baseUrl: string) {
  const { protocol, hostname, port, pathname, search } = new URL(baseUrl);
  assert(pathname === '/' && search === '', "the address of Stripe's API has no path");
  return protocol === 'http:'
    ? { protocol: 'http' as const, host: hostname, port: port || '80' }
    : { protocol: 'https' as const, host: hostname, port: port || '443' };
}

/**
 * The outcome of voiding a session that Stripe refused to expire.
 * @throws `refusal` when the session is neither paid nor expired, as while it is being paid
 */
function toVoidOutcome(session: unknown, refusal: Error) {
  const { status, payment_status: paymentStatus } = sessionStateSchema.parse(session);
  if (status === 'expired') return { kind: 'voided' as const };
  const payment = status === 'complete' && paymentStatus === 'paid' ? toSessionPayment(session) : undefined;
  if (!payment) throw refusal;
  return { kind: 'already_paid' as const, payment };
}

/**
 * Whether Stripe has looked at the request and refused it. The reuse of a key with other terms counts: this
 * request did nothing, and what the earlier one did is found otherwise. Wrong API keys, rate limits,
 * conflicts with a call under way and faults of Stripe decide nothing.
 */
function isRefusal(error: unknown): error is Stripe.errors.StripeError {
  return (
    error instanceof Stripe.errors.StripeInvalidRequestError ||
    error instanceof Stripe.errors.StripeCardError ||
    error instanceof Stripe.errors.StripeIdempotencyError
  );
}

/** @throws when the list may have been cut */
function assertWhole<T>(list: readonly T[]): readonly T[] {
  if (list.length > MAX_REVERSALS) throw new Error(`a payment has more than ${MAX_REVERSALS} reversals`);
  return list;
}

/** A notice is authentic when any secret verifies it: Stripe changes its secret at its own time. */
function verifyEvent(
  stripe: Stripe,
  secrets: readonly string[],
  rawBody: string,
  signature: string,
): unknown {
  for (const secret of secrets) {
    try {
      return stripe.webhooks.constructEvent(rawBody, signature, secret);
    } catch (error) {
      if (error instanceof Stripe.errors.StripeSignatureVerificationError) continue;
      // The signature is right, but the signed body is no event.
      throw new MalformedNoticeError('the notice is no event of Stripe', { cause: error });
    }
  }
  // Stripe's own error is not kept as the cause, because it holds the whole body.
  throw new InvalidSignatureError('the notice is not signed by Stripe, or is stale');
}
