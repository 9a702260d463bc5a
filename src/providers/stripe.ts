/** The adapter of Stripe: sessions are Checkout Sessions, and payments are PaymentIntents. */

import assert from 'node:assert/strict';
import { Stripe } from 'stripe';
import type { ListedPayment, Reversal } from '../money/payment.ts';
import { listedAsOf } from './as-of.ts';
import { busyAfter, unpaced, type Paced } from './pacing.ts';
import {
  type AmountRules,
  type Price,
  SessionRefusedError,
  type SessionRequest,
  InvalidSignatureError,
  MalformedNoticeError,
  RefundRefusedError,
  UnreadablePaymentsError,
  type PaymentProvider,
} from './provider.ts';
import { readOwnMark, type OwnMark } from './signed-order.ts';
import {
  writeMetadata,
  writeRefundMetadata,
  toNotice,
  openedSessionSchema,
  readListed,
  sessionStateSchema,
  toDispute,
  toRefund,
  toSessionPayment,
} from './stripe-objects.ts';

// What Stripe takes: currencies, smallest and largest amounts. Source of all numbers and lists here:
// https://docs.stripe.com/currencies, read in November 2026.

/** Currencies in which Stripe collects cards, in the minor units of ISO 4217. */
const TAKEN_CURRENCIES = new Set(
  `AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP
  CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS
  INR JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN
  MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP
  SLE SOS SRD STD SZL THB TJS TND TOP TRY TTD TWD TZS UAH USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR
  ZMW`.split(/\s+/),
);

/** Currencies whose amounts Stripe counts in another unit than ISO 4217 does. */
const OTHER_UNIT: readonly string[] = ['ISK', 'MGA', 'UGX'];
/** Currencies with three decimals, of which Stripe requires the last to be 0. */
const THREE_DECIMALS: readonly string[] = ['BHD', 'JOD', 'KWD', 'OMR', 'TND'];

/**
 * Minor units. In any other currency the smallest amount depends on the account's own currency and the rate
 * of the day, so Stripe alone knows it.
 */
const SMALLEST: Readonly<Record<string, number>> = {
  AED: 200,
  ARS: 50,
  AUD: 50,
  BRL: 50,
  CAD: 50,
  CHF: 50,
  COP: 50,
  CZK: 1_500,
  DKK: 250,
  EUR: 50,
  GBP: 30,
  HKD: 400,
  HUF: 17_500,
  IDR: 50,
  ILS: 50,
  INR: 50,
  JPY: 50,
  KRW: 50,
  MXN: 1_000,
  MYR: 200,
  NOK: 300,
  NZD: 50,
  PHP: 50,
  PLN: 200,
  RON: 200,
  RUB: 50,
  SEK: 300,
  SGD: 50,
  THB: 1_000,
  USD: 50,
  ZAR: 50,
};

/** Minor units: eight digits, also where a currency has no decimals. */
const LARGEST = 99_999_999;
const LARGEST_OF: Readonly<Record<string, number>> = {
  COP: 9_999_999_999,
  IDR: 999_999_999_999,
  INR: 999_999_999,
};

/** Why Stripe takes no such amount; undefined when it takes it, as far as its rules are published. */
function stripePriceFault({ amount, currency }: Price): string | undefined {
  if (OTHER_UNIT.includes(currency)) return `Stripe counts ${currency} in another unit than ISO 4217 does`;
  if (!TAKEN_CURRENCIES.has(currency)) return `Stripe does not take ${currency}`;
  const step = stepFault({ amount, currency });
  if (step !== undefined) return step;
  const [smallest, largest] = [SMALLEST[currency] ?? 1, LARGEST_OF[currency] ?? LARGEST];
  if (amount < smallest) return `${amount} is below ${smallest}, the least that Stripe takes in ${currency}`;
  if (amount > largest) return `${amount} is above ${largest}, the most that Stripe takes in ${currency}`;
  return undefined;
}

/** Of prices and of refunds. */
function stepFault({ amount, currency }: Price): string | undefined {
  return THREE_DECIMALS.includes(currency) && amount % 10 !== 0
    ? `Stripe takes ${currency} in steps of ten minor units, and ${amount} is none`
    : undefined;
}

export const stripeAmountRules: AmountRules = { priceFault: stripePriceFault, refundFault: stepFault };

// The payment methods that Checkout may offer. Each settles at once: Stripe says whether it succeeded while
// the shopper waits. Others, such as direct debits and bank transfers, settle days later, long after the
// stock was sold to another shopper.

export const STRIPE_PAYMENT_METHODS = [
  'card',
  'link',
  'paypal',
  'ideal',
  'bancontact',
  'eps',
  'p24',
  'blik',
  'twint',
] as const;
export type StripePaymentMethod = (typeof STRIPE_PAYMENT_METHODS)[number];

export const DEFAULT_PAYMENT_METHODS: readonly StripePaymentMethod[] = ['card'];

/**
 * ISO 4217, where a method does not take them all. Sources: docs.stripe.com/payments/paypal, and
 * docs.stripe.com/payments/<method>/accept-a-payment for the others; they say too that notification is
 * immediate.
 */
const METHOD_CURRENCIES: Partial<Record<StripePaymentMethod, readonly string[]>> = {
  paypal: ['AUD', 'CAD', 'CHF', 'CZK', 'DKK', 'EUR', 'GBP', 'HKD', 'NOK', 'NZD', 'PLN', 'SEK', 'SGD', 'USD'],
  ideal: ['EUR'],
  bancontact: ['EUR'],
  eps: ['EUR'],
  p24: ['EUR', 'PLN'],
  blik: ['PLN'],
  twint: ['CHF'],
};

/** Those of the methods by which this currency can be paid, in their order. */
function methodsFor(methods: readonly StripePaymentMethod[], currency: string): StripePaymentMethod[] {
  return methods.filter((method) => METHOD_CURRENCIES[method]?.includes(currency) ?? true);
}

/** Why no shopper could pay in this currency; undefined where a method takes it. */
function currencyFault(methods: readonly StripePaymentMethod[], currency: string): string | undefined {
  if (methodsFor(methods, currency).length > 0) return undefined;
  return `${currency} can be paid by none of: ${methods.join(', ')}`;
}

// Builds the parameters of a Checkout Session for one order. All of them come from the request, so that a
// repeated call is the same, byte for byte.

/** Stripe's shortest session. */
const LEAST_SESSION_MS = 30 * 60 * 1000;
/**
 * How late a call may arrive, after an outage, and still be accepted. Stripe counts the shortest session by
 * its own clock when the call arrives, and a repeat must not change the time. A payment window that ends
 * earlier is ended by voiding the session at its deadline.
 */
const ARRIVAL_SLACK_MS = 10 * 60 * 1000;

interface SessionOptions {
  returnUrl: string;
  deployment: string;
  paymentMethods: readonly StripePaymentMethod[];
}

/** @throws SessionRefusedError when Stripe would refuse the amount, or collect another one */
function buildSessionParams(
  request: SessionRequest,
  { returnUrl, deployment, paymentMethods }: SessionOptions,
): Stripe.Checkout.SessionCreateParams {
  const { orderNo, amount, currency, reference } = request;
  const fault = stripePriceFault(request) ?? currencyFault(paymentMethods, currency);
  if (fault !== undefined) throw new SessionRefusedError(fault);
  const metadata = writeMetadata({ ...request, deployment });
  const back = new URL(returnUrl);
  back.searchParams.set('orderNo', orderNo);
  return {
    mode: 'payment',
    allowed_payment_method_types: methodsFor(paymentMethods, currency),
    // Adaptive pricing would let the shopper pay in another currency.
    adaptive_pricing: { enabled: false },
    // One line of the whole total: a discount is a line too, and Stripe takes none below zero.
    line_items: [
      {
        quantity: 1,
        price_data: {
          currency: currency.toLowerCase(),
          unit_amount: amount,
          product_data: { name: `Order ${orderNo}` },
        },
      },
    ],
    client_reference_id: reference ?? orderNo,
    metadata,
    // The payment has metadata of its own, by which the notice of a failed attempt and the audit know the
    // order.
    payment_intent_data: { metadata },
    expires_at: Math.floor(
      Math.max(request.expiresAtMs, request.createdAtMs + LEAST_SESSION_MS + ARRIVAL_SLACK_MS) / 1000,
    ),
    // Both lead to the same page, because the order and not the browser says whether it is paid.
    success_url: back.href,
    cancel_url: back.href,
  };
}

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
    const startedMs = performance.now();
    const { disputes, date } = await call(async () => {
      const listing = stripe.disputes.list({ payment_intent: providerPaymentId, limit: PAGE_SIZE });
      const { lastResponse } = await listing;
      const all = await listing.autoPagingToArray({ limit: MAX_REVERSALS + 1 });
      return { disputes: all, date: lastResponse.headers['date'] };
    });
    const asOfMs = listedAsOf(date, performance.now() - startedMs);
    return assertWhole(disputes).map((dispute) => toDispute(dispute, providerPaymentId, asOfMs));
  }

  return {
    name: 'stripe',

    priceFault: (price) => stripePriceFault(price) ?? currencyFault(options.paymentMethods, price.currency),
    refundFault: stepFault,

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
        const { code, type, message } = error;
        throw new RefundRefusedError(
          { code: code ?? type, message, isForGood: isFinalRefusal(error) },
          { cause: error },
        );
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

/** Codes of refused requests that money on the account overcomes. */
const PASSING_REFUSALS: readonly (string | undefined)[] = ['balance_insufficient', 'insufficient_funds'];

/**
 * Whether Stripe would refuse the same refund again under another key: it calls the request itself invalid,
 * as of a payment that is refunded, disputed or not known. What a bank has declined may pass later.
 */
function isFinalRefusal(error: Stripe.errors.StripeError): boolean {
  return error instanceof Stripe.errors.StripeInvalidRequestError && !PASSING_REFUSALS.includes(error.code);
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
