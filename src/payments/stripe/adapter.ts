/** Holdfast's side of Stripe: sessions are Checkout Sessions, payments are PaymentIntents. */

import assert from 'node:assert/strict';
import { Stripe } from 'stripe';
import type { ListedPayment, Reversal } from '../../domain/payment.ts';
import {
  InvalidSignatureError,
  MalformedNoticeError,
  RefundRefusedError,
  type PaymentProvider,
} from '../provider.ts';
import { toNotice } from './notices.ts';
import {
  openedSessionSchema,
  sessionStateSchema,
  toDispute,
  toListedPayment,
  toRefund,
  toSessionPayment,
} from './objects.ts';
import { buildSessionParams } from './session-params.ts';

export interface StripeAdapterOptions {
  /** `http(s)://host[:port]`; Stripe's own API without it. */
  baseUrl?: string | undefined;
  apiKey: string;
  /** `whsec_…`: one, or two while a secret is being replaced. */
  webhookSecrets: readonly string[];
  /** Where the shopper's browser comes back to; the order's number is added. */
  returnUrl: string;
  requestTimeoutMs: number;
}

/** What the schemas here and the tests were written for; Stripe keeps answering in this version's shapes. */
const API_VERSION = '2026-10-28.endive';
/** The most that Stripe puts in one page. */
const PAGE_SIZE = 100;
/** Refunds of one payment, or disputes. A list cut short would hide money that went back, so a longer one is an error. */
const MAX_REVERSALS = 1_000;

export function createStripeAdapter(options: StripeAdapterOptions): PaymentProvider {
  const { webhookSecrets, returnUrl } = options;
  assert(
    webhookSecrets.length === 1 || webhookSecrets.length === 2,
    'one webhook secret, or two in rotation',
  );
  const stripe = openClient(options);

  async function listRefunds(providerPaymentId: string): Promise<Reversal[]> {
    const refunds = await stripe.refunds
      .list({ payment_intent: providerPaymentId, limit: PAGE_SIZE })
      .autoPagingToArray({ limit: MAX_REVERSALS + 1 });
    return whole(refunds).map((refund) => toRefund(refund, providerPaymentId));
  }

  async function listDisputes(providerPaymentId: string): Promise<Reversal[]> {
    const disputes = await stripe.disputes
      .list({ payment_intent: providerPaymentId, limit: PAGE_SIZE })
      .autoPagingToArray({ limit: MAX_REVERSALS + 1 });
    return whole(disputes).map((dispute) => toDispute(dispute, providerPaymentId));
  }

  return {
    name: 'stripe',

    openSession: async (request) => {
      const session = await stripe.checkout.sessions.create(buildSessionParams(request, returnUrl), {
        idempotencyKey: request.sessionId,
      });
      const { id, url } = openedSessionSchema.parse(session);
      return { providerSessionId: id, url };
    },

    voidSession: async (providerSessionId) => {
      try {
        await stripe.checkout.sessions.expire(providerSessionId);
        return { kind: 'voided' };
      } catch (error) {
        // Only an open session can be expired; what this one is, it must tell itself.
        if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) throw error;
        return endOf(await stripe.checkout.sessions.retrieve(providerSessionId), error);
      }
    },

    refund: async ({ refundKey, providerPaymentId, amount }) => {
      try {
        const refund = await stripe.refunds.create(
          { payment_intent: providerPaymentId, amount, metadata: { holdfast_refund_key: refundKey } },
          { idempotencyKey: refundKey },
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

    listPayments: async function* listPayments(sinceMs = 0): AsyncGenerator<ListedPayment> {
      const intents = stripe.paymentIntents.list({
        limit: PAGE_SIZE,
        expand: ['data.latest_charge'],
        created: { gte: Math.floor(sinceMs / 1_000) },
      });
      for await (const intent of intents) {
        const payment = intent.status === 'succeeded' ? toListedPayment(intent) : undefined;
        if (payment) yield payment;
      }
    },

    verifyNotice: (rawBody, headers) => {
      const signature = Object.entries(headers).find(
        ([name]) => name.toLowerCase() === 'stripe-signature',
      )?.[1];
      return toNotice(verifyEvent(stripe, webhookSecrets, rawBody, signature ?? ''));
    },
  };
}

function openClient(options: StripeAdapterOptions): Stripe {
  return new Stripe(options.apiKey, {
    apiVersion: API_VERSION,
    appInfo: { name: 'holdfast' },
    // By fetch, because its timeout covers a whole call with its body, and because it never repeats a call by itself.
    httpClient: Stripe.createFetchHttpClient(fetchWithoutRedirect),
    timeout: options.requestTimeoutMs,
    // Whoever calls repeats, knowing what may have happened.
    maxNetworkRetries: 0,
    telemetry: false,
    ...(options.baseUrl === undefined ? {} : addressOf(options.baseUrl)),
  });
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

/** Why a session could not be expired. Throws what Stripe said where it is neither paid nor expired, as while it is being paid. */
function endOf(session: unknown, refusal: Error) {
  const { status, payment_status: paymentStatus } = sessionStateSchema.parse(session);
  if (status === 'expired') return { kind: 'voided' as const };
  const payment = status === 'complete' && paymentStatus === 'paid' ? toSessionPayment(session) : undefined;
  if (!payment) throw refusal;
  return { kind: 'already_paid' as const, payment };
}

/**
 * Stripe has looked at the request and decided. A key that was used for another amount counts: this request refunded nothing, and the
 * one before is found by listing. Wrong API keys, limits, conflicts with a call still under way and faults of Stripe's decide nothing.
 */
function isRefusal(error: unknown): error is Stripe.errors.StripeError {
  return (
    error instanceof Stripe.errors.StripeInvalidRequestError ||
    error instanceof Stripe.errors.StripeCardError ||
    error instanceof Stripe.errors.StripeIdempotencyError
  );
}

function whole<T>(list: readonly T[]): readonly T[] {
  if (list.length > MAX_REVERSALS) throw new Error(`a payment has more than ${MAX_REVERSALS} reversals`);
  return list;
}

/** The notice is authentic when any of the secrets says so: Stripe changes over at its own time. */
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
      // The signature was good; what it covers is no event.
      throw new MalformedNoticeError('the notice is no event of Stripe', { cause: error });
    }
  }
  // Without Stripe's own error as the cause: it holds the whole body.
  throw new InvalidSignatureError('the notice is not signed by Stripe, or is stale');
}
