/** Stripe's webhooks, signed as Stripe signs them. No call goes out. */

import { Stripe } from 'stripe';
import { describe, expect, test } from 'vitest';
import { InvalidSignatureError, MalformedNoticeError } from '../../../src/providers/provider.ts';
import {
  buildDispute,
  buildIntent,
  buildPaidSession,
  buildRefund,
  connect,
  ORDER_NO,
  OTHER_SECRET,
  PAYMENT,
  SECRET,
} from './stripe-world.ts';

const NO_SERVER = 'http://127.0.0.1:9';
const adapter = connect(NO_SERVER);
const FOREIGN = { holdfast_order_no: ORDER_NO, holdfast_deployment: 'other' };
/** Unix seconds. */
const CREATED = 1_795_600_000;
/** Stripe's own tolerance is five minutes. */
const STALE_SECONDS = 6 * 60;

function buildEvent(type: string, object: unknown): string {
  return JSON.stringify({ id: 'evt_1', object: 'event', type, created: CREATED, data: { object } });
}

function sign(payload: string, { secret = SECRET, ageSeconds = 0 } = {}): Record<string, string> {
  const timestamp = Math.floor(Date.now() / 1000) - ageSeconds;
  return { 'stripe-signature': Stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp }) };
}

function receive(type: string, object: unknown) {
  const body = buildEvent(type, object);
  return adapter.verifyNotice(body, sign(body));
}

const completed = buildEvent('checkout.session.completed', buildPaidSession());

describe('a notice', () => {
  test.each([
    ['is signed with another secret', completed, sign(completed, { secret: OTHER_SECRET })],
    ['is signed for another body', completed, sign(`${completed} `)],
    ['is six minutes old', completed, sign(completed, { ageSeconds: STALE_SECONDS })],
    ['is not signed', completed, {}],
    ['has a header that is no signature', completed, { 'stripe-signature': 'v1=abc' }],
    ['has no body', '', sign('{}')],
  ])('that %s is refused as forged or stale', (_what, body, headers) => {
    expect(() => adapter.verifyNotice(body, headers)).toThrow(InvalidSignatureError);
  });

  test('is accepted whatever the case of its header', () => {
    const headers = { 'Stripe-Signature': sign(completed)['stripe-signature'] ?? '' };

    expect(adapter.verifyNotice(completed, headers).kind).toBe('payment_succeeded');
  });

  test.each([SECRET, OTHER_SECRET])('is accepted with either secret while one is replaced: %s', (secret) => {
    const rotating = connect(NO_SERVER, { webhookSecrets: [SECRET, OTHER_SECRET] });

    expect(rotating.verifyNotice(completed, sign(completed, { secret })).kind).toBe('payment_succeeded');
  });

  test('with neither of two secrets is refused', () => {
    const rotating = connect(NO_SERVER, { webhookSecrets: [SECRET, OTHER_SECRET] });
    const headers = sign(completed, { secret: 'whsec_a_third' });

    expect(() => rotating.verifyNotice(completed, headers)).toThrow(InvalidSignatureError);
  });

  test.each([
    ['no JSON', 'nonsense'],
    ['nothing', 'null'],
    ['no event', '{}'],
    ['a notification of another kind', JSON.stringify({ id: 'evt_1', object: 'v2.core.event', type: 'x' })],
    ['a session without its state', buildEvent('checkout.session.completed', {})],
    [
      'a payment without an amount',
      buildEvent('checkout.session.completed', buildPaidSession({ amount_total: null })),
    ],
    [
      'a payment of less than nothing',
      buildEvent('checkout.session.completed', buildPaidSession({ amount_total: -1 })),
    ],
    [
      'a payment without an id',
      buildEvent('checkout.session.completed', buildPaidSession({ payment_intent: null })),
    ],
    [
      'a payment in no currency',
      buildEvent('checkout.session.completed', buildPaidSession({ currency: '' })),
    ],
    ['a dispute without an amount', buildEvent('charge.dispute.created', buildDispute({ amount: '12' }))],
  ])('that is authentic but holds %s is malformed', (_what, body) => {
    expect(() => adapter.verifyNotice(body, sign(body))).toThrow(MalformedNoticeError);
  });

  test.each([
    ['customer.created', {}],
    ['payment_intent.succeeded', buildIntent()],
    ['checkout.session.expired', buildPaidSession({ status: 'expired', payment_status: 'unpaid' })],
    // It completes now and is paid later, or never.
    ['checkout.session.completed', buildPaidSession({ payment_status: 'unpaid' })],
    [
      'checkout.session.completed',
      buildPaidSession({ payment_status: 'no_payment_required', amount_total: 0 }),
    ],
    // Other business of the same account.
    ['checkout.session.completed', buildPaidSession({ metadata: {}, payment_intent: null })],
    ['checkout.session.completed', buildPaidSession({ metadata: null })],
    ['payment_intent.payment_failed', buildIntent({ metadata: { order: 'of another shop' } })],
    ['refund.created', buildRefund({ payment_intent: null })],
    // Of another deployment on the same account.
    ['checkout.session.completed', buildPaidSession({ metadata: FOREIGN })],
    ['payment_intent.payment_failed', buildIntent({ metadata: FOREIGN })],
    ['refund.updated', buildRefund({ metadata: FOREIGN })],
  ])('of %s that moves no money of ours is ignored', (type, object) => {
    expect(receive(type, object)).toEqual({ kind: 'ignored', eventId: 'evt_1', type });
  });
});

test.each(['checkout.session.completed', 'checkout.session.async_payment_succeeded'])(
  '%s reports a payment, with the order number and the signed order',
  (type) => {
    expect(receive(type, buildPaidSession())).toEqual({
      kind: 'payment_succeeded',
      eventId: 'evt_1',
      payment: PAYMENT,
    });
  },
);

test('a failed payment by another method than cards is counted once, by the event that cards have too', () => {
  const session = buildPaidSession({ payment_status: 'unpaid', status: 'complete' });
  const [failed, attempt] = ['checkout.session.async_payment_failed', 'payment_intent.payment_failed'];

  expect(receive(failed, session)).toEqual({ kind: 'ignored', eventId: 'evt_1', type: failed });
  expect(receive(attempt, buildIntent())).toMatchObject({ kind: 'payment_failed', orderNo: ORDER_NO });
});

test('a payment that comes as a whole object is known by its id', () => {
  const notice = receive('checkout.session.completed', buildPaidSession({ payment_intent: buildIntent() }));

  expect(notice).toMatchObject({ payment: { providerPaymentId: 'pi_1' } });
});

test('a payment whose signed order was removed still names its order', () => {
  const notice = receive(
    'checkout.session.completed',
    buildPaidSession({ metadata: { holdfast_order_no: ORDER_NO } }),
  );

  expect(notice).toMatchObject({ payment: { orderNo: ORDER_NO, signedOrder: null } });
});

test('a failed attempt names its order', () => {
  expect(
    receive('payment_intent.payment_failed', buildIntent({ status: 'requires_payment_method' })),
  ).toEqual({
    kind: 'payment_failed',
    eventId: 'evt_1',
    orderNo: ORDER_NO,
  });
});

test.each([
  ['refund.created', 'pending', { status: 'pending' }],
  ['refund.updated', 'requires_action', { status: 'pending' }],
  ['refund.updated', null, { status: 'pending', unknownState: 'null' }],
  ['refund.updated', 'a_new_word', { status: 'pending', unknownState: 'a_new_word' }],
  ['refund.updated', 'succeeded', { status: 'succeeded' }],
  ['refund.updated', 'canceled', { status: 'failed' }],
  ['refund.failed', 'failed', { status: 'failed' }],
])('%s that is %s reports a reversal of %j', (type, status, expected) => {
  expect(receive(type, buildRefund({ status, amount: 500 }))).toEqual({
    kind: 'payment_reversed',
    eventId: 'evt_1',
    reversal: {
      kind: 'refund',
      providerReversalId: 're_1',
      providerPaymentId: 'pi_1',
      amount: 500,
      currency: 'EUR',
      ...expected,
    },
  });
});

test.each([
  ['charge.dispute.created', 'needs_response', 'pending'],
  ['charge.dispute.created', 'warning_needs_response', 'pending'],
  ['charge.dispute.updated', 'under_review', 'pending'],
  ['charge.dispute.updated', 'appeal_under_review', 'pending'],
  ['charge.dispute.closed', 'won', 'failed'],
  ['charge.dispute.closed', 'warning_closed', 'failed'],
  ['charge.dispute.closed', 'lost', 'succeeded'],
  ['charge.dispute.closed', 'prevented', 'pending'],
  ['charge.dispute.funds_withdrawn', 'needs_response', 'pending'],
  ['charge.dispute.funds_reinstated', 'won', 'failed'],
])('%s that is %s reports a chargeback that is %s, as of the event', (type, status, expected) => {
  expect(receive(type, buildDispute({ status }))).toEqual({
    kind: 'payment_reversed',
    eventId: 'evt_1',
    reversal: {
      kind: 'dispute',
      providerReversalId: 'dp_1',
      providerPaymentId: 'pi_1',
      amount: 12_345,
      currency: 'EUR',
      status: expected,
      asOfMs: CREATED * 1_000,
    },
  });
});
