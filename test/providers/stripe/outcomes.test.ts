/** The Stripe adapter with answers that stripe-mock never gives: refusals, faults, silence, long lists. */

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RefundRefusedError, SessionRefusedError } from '../../../src/providers/provider.ts';
import { openScriptedStripe, type ScriptedStripe } from './scripted-stripe.ts';
import {
  buildDispute,
  buildError,
  buildIntent,
  buildList,
  buildPaidSession,
  buildRefund,
  buildSessionRequest,
  connect,
  PAYMENT,
  readBook,
} from './stripe-world.ts';

const OPEN = 'POST /v1/checkout/sessions';
const EXPIRE = 'POST /v1/checkout/sessions/cs_1/expire';
const RETRIEVE = 'GET /v1/checkout/sessions/cs_1';
const REFUND = 'POST /v1/refunds';
const REFUNDS = 'GET /v1/refunds';
const INTENTS = 'GET /v1/payment_intents';
const DISPUTES = 'GET /v1/disputes';

const NOT_OPEN = buildError(400, 'invalid_request_error', 'session_not_open');
/** Only these answers are waited for in vain. */
const ENDLESS: readonly unknown[] = ['half', 'silence'];
/** Long enough for a call to arrive on loopback. */
const SHORT_TIMEOUT_MS = 3_000;
const timeoutFor = (answer: unknown) =>
  ENDLESS.includes(answer) ? { requestTimeoutMs: SHORT_TIMEOUT_MS } : {};

let stripe: ScriptedStripe;
beforeEach(async () => {
  stripe = await openScriptedStripe();
});
afterEach(() => stripe.close());

function routes(): string[] {
  return stripe.seen.map(({ route }) => route);
}

describe('a session', () => {
  test.each([
    ['without an address', { status: 200, body: { id: 'cs_1', url: null } }],
    [
      'with an address that is no web page',
      { status: 200, body: { id: 'cs_1', url: 'javascript:alert(1)' } },
    ],
    ['that Stripe refuses', buildError(400, 'invalid_request_error', 'amount_too_small')],
  ])('%s is none', async (_what, answer) => {
    stripe.script(OPEN, answer);

    await expect(connect(stripe.url).openSession(buildSessionRequest())).rejects.toThrow();
  });

  test.each([
    ['whose terms Stripe refuses', buildError(400, 'invalid_request_error', 'amount_too_small')],
    ['whose key was used with other terms', buildError(400, 'idempotency_error', 'idempotency_key_reused')],
  ])('%s is refused for certain', async (_what, answer) => {
    stripe.script(OPEN, answer);

    const opening = connect(stripe.url).openSession(buildSessionRequest());
    await expect(opening).rejects.toThrow(SessionRefusedError);
  });

  test.each([
    ['a wrong API key', buildError(401, 'invalid_request_error', 'api_key_invalid')],
    ['a call under way with its key', buildError(409, 'idempotency_error', 'idempotency_key_in_use')],
    ['too many calls', buildError(429, 'invalid_request_error', 'rate_limit')],
    ['a fault of Stripe', buildError(500, 'api_error', 'oops')],
    ['a closed connection', 'hang-up' as const],
  ])('that meets %s is not refused for certain', async (_what, answer) => {
    stripe.script(OPEN, answer);

    const opening = connect(stripe.url).openSession(buildSessionRequest());
    await expect(opening).rejects.not.toThrow(SessionRefusedError);
  });

  test('is not looked for where a redirect leads: the API key is sent to the configured address alone', async () => {
    stripe.script(OPEN, { status: 307, body: {}, location: '/elsewhere' });

    await expect(connect(stripe.url).openSession(buildSessionRequest())).rejects.toThrow();
    expect(routes()).toEqual([OPEN]);
  });

  test.each(['hang-up', 'half', 'silence'] as const)(
    'is asked for once and not waited for without end when Stripe answers with %s',
    async (answer) => {
      stripe.script(OPEN, answer);
      const adapter = connect(stripe.url, timeoutFor(answer));

      await expect(adapter.openSession(buildSessionRequest())).rejects.toThrow();
      expect(routes()).toEqual([OPEN]);
    },
  );
});

describe('voiding a session', () => {
  test('that was paid returns its payment, with the order it was for', async () => {
    stripe.script(EXPIRE, NOT_OPEN);
    stripe.script(RETRIEVE, { status: 200, body: buildPaidSession() });

    const outcome = await connect(stripe.url).voidSession('cs_1');

    expect(outcome).toEqual({ kind: 'already_paid', payment: PAYMENT });
  });

  test('again, or after it has expired, is done', async () => {
    stripe.script(EXPIRE, NOT_OPEN);
    stripe.script(RETRIEVE, {
      status: 200,
      body: buildPaidSession({ status: 'expired', payment_status: 'unpaid' }),
    });

    expect(await connect(stripe.url).voidSession('cs_1')).toEqual({ kind: 'voided' });
  });

  test.each([
    ['is being paid', { status: 'open', payment_status: 'unpaid' }],
    ['is complete but not paid', { status: 'complete', payment_status: 'unpaid' }],
    ['was paid for another shop', { metadata: {} }],
  ])('that %s decides nothing, and says why', async (_what, session) => {
    stripe.script(EXPIRE, NOT_OPEN);
    stripe.script(RETRIEVE, { status: 200, body: buildPaidSession(session) });

    await expect(connect(stripe.url).voidSession('cs_1')).rejects.toThrow('session_not_open');
  });

  test.each([
    ['a fault of Stripe', buildError(500, 'api_error', 'oops')],
    ['too many calls', buildError(429, 'invalid_request_error', 'rate_limit')],
    ['a closed connection', 'hang-up' as const],
  ])('with %s decides nothing and asks no further', async (_what, answer) => {
    stripe.script(EXPIRE, answer);

    await expect(connect(stripe.url).voidSession('cs_1')).rejects.toThrow();
    expect(routes()).toEqual([EXPIRE]);
  });
});

describe('a refund', () => {
  const request = { refundKey: 'refund-7-0', providerPaymentId: 'pi_1', amount: 12_345, currency: 'EUR' };

  test.each([
    ['pending', 'pending'],
    ['requires_action', 'pending'],
    [null, 'pending'],
    ['a_new_word', 'pending'],
    ['succeeded', 'succeeded'],
    ['failed', 'failed'],
    ['canceled', 'failed'],
  ])('that Stripe calls %s is %s', async (status, expected) => {
    stripe.script(REFUND, { status: 200, body: buildRefund({ status }) });

    expect(await connect(stripe.url).refund(request)).toMatchObject({
      kind: 'refund',
      providerReversalId: 're_1',
      providerPaymentId: 'pi_1',
      amount: 12_345,
      currency: 'EUR',
      status: expected,
    });
  });

  const refuse = async (answer: { status: number; body: object }): Promise<RefundRefusedError> => {
    stripe.script(REFUND, answer);
    const error: unknown = await connect(stripe.url)
      .refund(request)
      .catch((thrown: unknown) => thrown);
    if (!(error instanceof RefundRefusedError)) throw new Error('it was not refused', { cause: error });
    return error;
  };

  test.each([
    ['already refunded', 'for good', 400, 'invalid_request_error', 'charge_already_refunded'],
    ['disputed', 'for good', 400, 'invalid_request_error', 'charge_disputed'],
    ['not known', 'for good', 404, 'invalid_request_error', 'resource_missing'],
    ['of an account without money', 'for now', 400, 'invalid_request_error', 'balance_insufficient'],
    ['declined', 'for now', 402, 'card_error', 'card_declined'],
    ['asked for another amount under the same key', 'for now', 400, 'idempotency_error', 'key_reused'],
  ])(
    'of a payment that is %s is refused %s, in Stripe’s words: nothing went back',
    async (_what, how, status, type, code) => {
      const { refusal, isForGood, message } = await refuse(buildError(status, type, code));

      expect(refusal).toEqual({ code, message: `${code}, says Stripe` });
      expect(message).toContain(`${code}: ${code}, says Stripe`);
      expect(isForGood).toBe(how === 'for good');
    },
  );

  test('that is refused without a code has that of the class of errors', async () => {
    const error = { type: 'invalid_request_error', message: 'Refund amount is greater than is left.' };
    const { refusal, isForGood } = await refuse({ status: 400, body: { error } });
    expect(refusal).toEqual({ code: 'StripeInvalidRequestError', message: error.message });
    expect(isForGood).toBe(true);
  });

  test('that is refused keeps a bounded sentence, without keys, passwords, card numbers and control characters', async () => {
    const message = `Key sk_live_51Hx9 of\nBearer abc.def at https://u:pw@x.example for 4242 4242 4242 4242\u0000. ${'😀'.repeat(1_000)}`;
    const { refusal } = await refuse({
      status: 400,
      body: { error: { type: 'invalid_request_error', code: 'c'.repeat(500), message } },
    });
    expect(refusal.message).toMatch(
      /^Key \*\*\* of \*\*\* at https:\/\/u:\*\*\*@x\.example for \*\*\* \. 😀/,
    );
    expect(Array.from(refusal.message)).toHaveLength(300);
    expect(refusal.code).toBe('c'.repeat(64));
  });

  test.each([
    ['a fault of Stripe', buildError(500, 'api_error', 'oops')],
    ['a gateway without Stripe behind it', { status: 502, body: '<html>Bad gateway</html>' }],
    ['too many calls', buildError(429, 'invalid_request_error', 'rate_limit')],
    ['a lock that another call holds', buildError(400, 'invalid_request_error', 'rate_limit')],
    ['the same call still under way', buildError(409, 'idempotency_error', 'idempotency_key_in_use')],
    ['a wrong API key', buildError(401, 'invalid_request_error', 'api_key_expired')],
    ['a key that may not', buildError(403, 'invalid_request_error', 'more_permissions_required')],
    ['a closed connection', 'hang-up' as const],
    ['half a reply', 'half' as const],
    ['silence', 'silence' as const],
  ])('that meets %s is neither made nor refused, and is not repeated unasked', async (_what, answer) => {
    stripe.script(REFUND, answer);
    const adapter = connect(stripe.url, timeoutFor(answer));

    const error: unknown = await adapter.refund(request).catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(RefundRefusedError);
    expect(routes()).toEqual([REFUND]);
  });
});

describe('the reversals of a payment', () => {
  const list = () => connect(stripe.url).listReversals('pi_1');

  test('are its refunds and its disputes', async () => {
    stripe.script(REFUNDS, buildList([buildRefund({ amount: 2_000 })]));
    stripe.script(DISPUTES, buildList([buildDispute(), buildDispute({ id: 'dp_2', status: 'lost' })]));

    const about = { providerPaymentId: 'pi_1', currency: 'EUR' };
    const [asOfMs, listedFromMs] = [expect.any(Number), Date.now()];
    const listed = await list();
    // Never later than the list was read, so that no notice of after that counts as older.
    expect(listed.map((one) => (one.asOfMs ?? 0) <= listedFromMs)).toEqual([true, true, true]);
    expect(listed).toEqual([
      { ...about, kind: 'refund', providerReversalId: 're_1', amount: 2_000, status: 'succeeded' },
      { ...about, kind: 'dispute', providerReversalId: 'dp_1', amount: 12_345, status: 'pending', asOfMs },
      { ...about, kind: 'dispute', providerReversalId: 'dp_2', amount: 12_345, status: 'succeeded', asOfMs },
    ]);
  });

  test('are read to the last page', async () => {
    stripe.script(
      REFUNDS,
      buildList([buildRefund()], true),
      buildList([buildRefund({ id: 're_2', amount: 5 })]),
    );
    stripe.script(DISPUTES, buildList([buildDispute()], true), buildList([buildDispute({ id: 'dp_2' })]));

    const ids = (await list()).map(({ providerReversalId }) => providerReversalId);

    expect(ids).toEqual(['re_1', 're_2', 'dp_1', 'dp_2']);
    expect(stripe.seen.map(({ query }) => query['starting_after'])).toEqual([
      undefined,
      're_1',
      undefined,
      'dp_1',
    ]);
  });

  test.each([
    ['refunds', REFUNDS, buildRefund],
    ['disputes', DISPUTES, buildDispute],
  ])('are an error rather than a list of %s cut short', async (_what, route, build) => {
    stripe.script(REFUNDS, ...(route === REFUNDS ? [] : [buildList([])]));
    const page = Array.from({ length: 100 }, (_, nth) => build({ id: `x_${nth}`, amount: 1 }));
    stripe.script(route, ...Array.from({ length: 11 }, () => buildList(page, true)));

    await expect(list()).rejects.toThrow('more than 1000');
  });

  test.each([
    ['refunds', [buildList([buildRefund()], true), buildError(500, 'api_error', 'oops')], []],
    ['disputes', [buildList([buildRefund()])], [buildError(500, 'api_error', 'oops')]],
  ])('are an error when a page of %s is missing', async (_what, refunds, disputes) => {
    stripe.script(REFUNDS, ...refunds);
    stripe.script(DISPUTES, ...disputes);

    await expect(list()).rejects.toThrow('oops');
  });
});

describe('the book', () => {
  const list = () => readBook(connect(stripe.url));
  const refunded = { id: 'ch_1', amount_refunded: 12_345, disputed: false };
  const disputed = { id: 'ch_1', amount_refunded: 0, disputed: true };

  test('lists what was collected for our orders, page by page, and asks for its charges', async () => {
    stripe.script(
      INTENTS,
      buildList(
        [buildIntent(), buildIntent({ id: 'pi_2', status: 'requires_payment_method', latest_charge: null })],
        true,
      ),
      buildList([
        buildIntent({ id: 'pi_3', metadata: {} }),
        buildIntent({ id: 'pi_4', amount_received: 700 }),
      ]),
    );

    expect(await list()).toEqual([
      { ...PAYMENT, returned: 0, isMixed: false },
      { ...PAYMENT, providerPaymentId: 'pi_4', amount: 700, returned: 0, isMixed: false },
    ]);
    expect(stripe.seen.map(({ query }) => query)).toEqual([
      expect.objectContaining({ 'expand[0]': 'data.latest_charge.balance_transaction' }),
      expect.objectContaining({
        'expand[0]': 'data.latest_charge.balance_transaction',
        starting_after: 'pi_2',
      }),
    ]);
  });

  test.each([
    ['of the balance', { id: 'txn_1', fee: 389, currency: 'eur' }, { fee: 389 }],
    ['none, as the balance is in another currency', { id: 'txn_1', fee: 389, currency: 'usd' }, {}],
    ['none that is not booked yet', null, {}],
    ['none that cannot be read', { id: 'txn_1', fee: '3.89', currency: 'eur' }, {}],
  ])('tells the fee of a payment: %s', async (_what, booked, fee) => {
    const charge = { id: 'ch_1', amount_refunded: 0, disputed: false, balance_transaction: booked };
    stripe.script(INTENTS, buildList([buildIntent({ latest_charge: charge })]));

    expect(await list()).toEqual([{ ...PAYMENT, returned: 0, isMixed: false, ...fee }]);
  });

  test('counts as returned what refunds have given back, not what they are about to', async () => {
    stripe.script(INTENTS, buildList([buildIntent({ latest_charge: refunded })]));
    stripe.script(DISPUTES, buildList([]));
    stripe.script(
      REFUNDS,
      buildList([
        buildRefund({ amount: 2_000 }),
        buildRefund({ id: 're_2', amount: 10_000, status: 'pending' }),
        buildRefund({ id: 're_3', amount: 345, status: 'failed' }),
      ]),
    );

    expect(await list()).toEqual([{ ...PAYMENT, returned: 2_000, isMixed: false }]);
  });

  test.each([
    ['lost', 12_345],
    ['won', 0],
    ['under_review', 0],
  ])('counts a chargeback that is %s as %i', async (status, returned) => {
    stripe.script(INTENTS, buildList([buildIntent({ latest_charge: disputed })]));
    stripe.script(REFUNDS, buildList([]));
    stripe.script(DISPUTES, buildList([buildDispute({ status })]));

    expect(await list()).toEqual([{ ...PAYMENT, returned, isMixed: false }]);
  });

  test('is listed without asking about single payments, and says which have reversals to look up', async () => {
    stripe.script(
      INTENTS,
      buildList([
        buildIntent({ latest_charge: refunded }),
        buildIntent({ id: 'pi_2', latest_charge: disputed }),
        buildIntent({ id: 'pi_3' }),
      ]),
    );

    const totals = [];
    for await (const payment of connect(stripe.url).listPayments()) totals.push(payment.totals);

    expect(totals).toEqual([null, null, { succeeded: 0, isDisputed: false }]);
    expect(routes()).toEqual([INTENTS]);
  });

  test('with sums is an error where a payment cannot be looked up, not a wrong sum', async () => {
    stripe.script(INTENTS, buildList([buildIntent({ latest_charge: refunded })]));
    stripe.script(REFUNDS, buildError(500, 'api_error', 'oops'));

    await expect(list()).rejects.toThrow('oops');
  });

  test('that cannot be read to the end is an error', async () => {
    stripe.script(INTENTS, buildList([buildIntent()], true), 'hang-up');

    await expect(list()).rejects.toThrow();
  });
});

test('a payment that cannot be read hides none of the others, and the list says at its end that it is not whole', async () => {
  const odd = buildIntent({ id: 'pi_odd', latest_charge: null });
  stripe.script(
    INTENTS,
    buildList([buildIntent({ id: 'pi_1' }), odd], true),
    buildList([buildIntent({ id: 'pi_2' })]),
  );
  const listed: string[] = [];
  const read = async () => {
    for await (const { providerPaymentId } of connect(stripe.url).listPayments())
      listed.push(providerPaymentId);
  };

  await expect(read()).rejects.toMatchObject({ name: 'UnreadablePaymentsError', count: 1 });
  expect(listed).toEqual(['pi_1', 'pi_2']);
});

test('payments are listed between two times, page by page', async () => {
  const [first, second] = [buildIntent({ id: 'pi_1' }), buildIntent({ id: 'pi_2' })];
  stripe.script(INTENTS, buildList([first], true), buildList([second]));

  const listed: string[] = [];
  for await (const payment of connect(stripe.url).listPayments(10_000, 20_000))
    listed.push(payment.providerPaymentId);

  expect(listed).toEqual(['pi_1', 'pi_2']);
  const between = { 'created[gte]': '10', 'created[lt]': '20' };
  expect(stripe.seen.map(({ query }) => query)).toMatchObject([
    between,
    { ...between, starting_after: 'pi_1' },
  ]);
});

describe('payments of another deployment on the same account', () => {
  const FOREIGN = { ...buildIntent().metadata, holdfast_deployment: 'other' };
  const { holdfast_deployment: _, ...UNNAMED } = buildIntent().metadata;

  test('are not in the list; those that name no deployment are', async () => {
    const foreign = buildIntent({ id: 'pi_foreign', metadata: FOREIGN });
    const unnamed = buildIntent({ id: 'pi_unnamed', metadata: UNNAMED });
    stripe.script(INTENTS, buildList([foreign, unnamed, buildIntent()]));

    const listed = await readBook(connect(stripe.url));
    expect(listed.map(({ providerPaymentId }) => providerPaymentId)).toEqual(['pi_unnamed', 'pi_1']);
  });

  test('are not looked into, even where they cannot be read', async () => {
    stripe.script(INTENTS, buildList([buildIntent({ metadata: FOREIGN, latest_charge: null })]));

    expect(await readBook(connect(stripe.url))).toEqual([]);
  });
});

describe('a bound on calls', () => {
  const limited = buildError(429, 'invalid_request_error', 'rate_limit');
  const open = () => connect(stripe.url).openSession(buildSessionRequest());

  test.each([
    ['the pause that Stripe asks for', '7', 7_000],
    ['a second, where Stripe asks for none', undefined, 1_000],
    ['a second, where the pause cannot be read', 'Sun, 22 Nov 2026 12:00:00 GMT', 1_000],
    ['five minutes, where Stripe asks for more', '86400', 5 * 60_000],
  ])('puts a call off by %s', async (_what, retryAfter, retryAfterMs) => {
    stripe.script(OPEN, { ...limited, ...(retryAfter === undefined ? {} : { retryAfter }) });

    await expect(open()).rejects.toMatchObject({ name: 'ProviderBusyError', retryAfterMs });
  });

  test('is not met where two calls only change the same object', async () => {
    stripe.script(OPEN, buildError(429, 'invalid_request_error', 'lock_timeout'));

    await expect(open()).rejects.not.toMatchObject({ name: 'ProviderBusyError' });
  });
});
