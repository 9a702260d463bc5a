/** What the tests of the Stripe adapter share: adapters, requests, and Stripe's objects as it sends them. */

import type { CollectedPayment } from '../../../src/money/payment.ts';
import { readCollected } from '../../../src/providers/collected.ts';
import type { PaymentProvider, SessionRequest } from '../../../src/providers/provider.ts';
import { createStripeAdapter, type StripeAdapterOptions } from '../../../src/providers/stripe.ts';

export const SECRET = 'whsec_holdfast_stripe_secret_01';
export const OTHER_SECRET = 'whsec_holdfast_stripe_secret_02';
export const ORDER_NO = 'summer-0-1-01JD0000000000000000000000';
export const MINUTE_MS = 60_000;
/** A whole second, as Stripe counts. */
export const CREATED_AT_MS = Date.UTC(2026, 10, 21, 12);

export function connect(baseUrl: string, overrides: Partial<StripeAdapterOptions> = {}) {
  return createStripeAdapter({
    baseUrl,
    apiKey: 'sk_test_123',
    webhookSecrets: [SECRET],
    returnUrl: 'https://shop.example/back?lang=en',
    deployment: 'holdfast',
    paymentMethods: ['card'],
    requestTimeoutMs: 60_000,
    ...overrides,
  });
}

export async function readBook(provider: PaymentProvider): Promise<CollectedPayment[]> {
  const payments: CollectedPayment[] = [];
  for await (const payment of readCollected(provider)) payments.push(payment);
  return payments;
}

/** An order of 123.45 with an hour left, whose signed form is of middle length. */
export function buildSessionRequest(overrides: Partial<SessionRequest> = {}): SessionRequest {
  return {
    sessionId: '01JD0000000000000000SESSION',
    orderNo: ORDER_NO,
    amount: 12_345,
    currency: 'EUR',
    createdAtMs: CREATED_AT_MS,
    expiresAtMs: CREATED_AT_MS + 60 * MINUTE_MS,
    signedOrder: 'sign'.repeat(300),
    reference: null,
    metadata: {},
    ...overrides,
  };
}

/** The metadata of the session above, as Stripe gives it back. */
export const METADATA = {
  holdfast_order_no: ORDER_NO,
  holdfast_deployment: 'holdfast',
  holdfast_signed_0: 'sign'.repeat(125),
  holdfast_signed_1: 'sign'.repeat(125),
  holdfast_signed_2: 'sign'.repeat(50),
};

/** The payment that the objects below are about. */
export const PAYMENT = {
  providerPaymentId: 'pi_1',
  orderNo: ORDER_NO,
  amount: 12_345,
  currency: 'EUR',
  signedOrder: 'sign'.repeat(300),
};

export function buildPaidSession(overrides: Record<string, unknown> = {}) {
  return {
    id: 'cs_1',
    object: 'checkout.session',
    status: 'complete',
    payment_status: 'paid',
    payment_intent: 'pi_1',
    amount_total: 12_345,
    currency: 'eur',
    metadata: METADATA,
    ...overrides,
  };
}

export function buildIntent(overrides: Record<string, unknown> = {}) {
  return {
    id: 'pi_1',
    object: 'payment_intent',
    status: 'succeeded',
    amount: 12_345,
    amount_received: 12_345,
    currency: 'eur',
    metadata: METADATA,
    latest_charge: { id: 'ch_1', object: 'charge', amount_refunded: 0, disputed: false },
    ...overrides,
  };
}

export function buildRefund(overrides: Record<string, unknown> = {}) {
  return {
    id: 're_1',
    object: 'refund',
    amount: 12_345,
    currency: 'eur',
    payment_intent: 'pi_1',
    status: 'succeeded',
    metadata: {},
    ...overrides,
  };
}

export function buildDispute(overrides: Record<string, unknown> = {}) {
  return {
    id: 'dp_1',
    object: 'dispute',
    amount: 12_345,
    currency: 'eur',
    payment_intent: 'pi_1',
    status: 'needs_response',
    metadata: {},
    ...overrides,
  };
}

export function buildList(data: unknown[], hasMore = false) {
  return { status: 200, body: { object: 'list', data, has_more: hasMore, url: '/v1/things' } };
}

/** A refusal or fault as Stripe words it. */
export function buildError(status: number, type: string, code: string) {
  return { status, body: { error: { type, code, message: `${code}, says Stripe` } } };
}
