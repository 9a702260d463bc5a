/** Payment sessions at the sandbox provider: opened once, paid once, voided, expired, listed. */

import { expect, test } from 'vitest';
import { paymentsReplySchema } from '../../src/providers/remote-wire.ts';
import {
  buildSessionRequest,
  call,
  connect,
  listCollected,
  ORDER_NO,
  pay,
  SIGNED_ORDER,
  withWorld,
} from './sandbox-world.ts';

const SESSIONS = '/v1/payment_sessions';
const TERMS = {
  reference: ORDER_NO,
  amount: 12_345,
  currency: 'SGD',
  signed_order: SIGNED_ORDER,
  expires_at: '2099-01-01T00:00:00Z',
};

test('the same idempotency key opens one session: 201 the first time, then the same with 200', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const request = { body: TERMS, headers: { 'idempotency-key': 'key-1' } };
    const first = await call(sandbox, 'POST', SESSIONS, request);
    const second = await call(sandbox, 'POST', SESSIONS, request);
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(first.body).toMatchObject({ status: 'open', amount: 12_345, payment_id: null });
    expect(second.body).toEqual(first.body);
  }));

test('other terms under a used idempotency key are refused with 422', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const headers = { 'idempotency-key': 'key-1' };
    await call(sandbox, 'POST', SESSIONS, { body: TERMS, headers });
    const other = await call(sandbox, 'POST', SESSIONS, { body: { ...TERMS, amount: 1 }, headers });
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_key_reused' } });
    expect(other.type).toMatch(/^application\/problem\+json/);
  }));

test('a signed order is one of the terms', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const headers = { 'idempotency-key': 'key-1' };
    await call(sandbox, 'POST', SESSIONS, { body: TERMS, headers });
    const other = await call(sandbox, 'POST', SESSIONS, { body: { ...TERMS, signed_order: 'x' }, headers });
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_key_reused' } });
  }));

test("the shop's reference and metadata are terms too, and come back with the session", () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const headers = { 'idempotency-key': 'key-1' };
    const body = { ...TERMS, shop_reference: 'R-1001', metadata: { channel: 'app' } };
    const opened = await call(sandbox, 'POST', SESSIONS, { body, headers });
    expect(opened.body).toMatchObject({ shop_reference: 'R-1001', metadata: { channel: 'app' } });
    for (const other of [{ shop_reference: 'R-1002' }, { metadata: { channel: 'web' } }]) {
      const reply = await call(sandbox, 'POST', SESSIONS, { body: { ...body, ...other }, headers });
      expect(reply).toMatchObject({ status: 422, body: { code: 'idempotency_key_reused' } });
    }
  }));

test('a signed order of 16,384 characters, whichever they are, comes back with the payment', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    // Quotes and backslashes take twice their length in JSON.
    const signedOrder = '"\\'.repeat(8_192);
    const { providerSessionId } = await adapter.openSession(buildSessionRequest({ signedOrder }));
    await pay(sandbox, providerSessionId);
    const { body, headers } = await receiver.next();
    expect(adapter.verifyNotice(body, headers)).toMatchObject({ payment: { signedOrder } });
    expect(await adapter.voidSession(providerSessionId)).toMatchObject({ payment: { signedOrder } });
    expect(await listCollected(sandbox)).toMatchObject([{ signedOrder, returned: 0 }]);
  }));

test.each([
  [
    'a longer signed order',
    { 'idempotency-key': 'k' },
    { ...TERMS, signed_order: 'x'.repeat(16_385) },
    400,
    'invalid_request',
  ],
  ['no idempotency key', {}, TERMS, 400, 'idempotency_key_required'],
  ['a fraction of a cent', { 'idempotency-key': 'k' }, { ...TERMS, amount: 0.5 }, 400, 'invalid_request'],
  ['no amount at all', { 'idempotency-key': 'k' }, { ...TERMS, amount: 0 }, 400, 'invalid_request'],
  ['another API key', { authorization: 'Bearer wrong' }, TERMS, 401, 'unauthorized'],
  ['a body beyond 40 KiB', { 'idempotency-key': 'k' }, { pad: 'x'.repeat(45_000) }, 413, 'body_too_large'],
])('a session is not opened with %s', (_, headers, body, status, code) =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    expect(await call(sandbox, 'POST', SESSIONS, { body, headers })).toMatchObject({
      status,
      body: { code },
    });
  }),
);

test('an unknown session, an unknown address and a wrong method are problems with a code', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    expect(await call(sandbox, 'GET', `${SESSIONS}/ps_none`)).toMatchObject({
      status: 404,
      body: { code: 'not_found' },
    });
    expect(await call(sandbox, 'GET', '/nowhere')).toMatchObject({
      status: 404,
      body: { code: 'not_found' },
    });
    expect(await call(sandbox, 'GET', '/pay/%E0%A4%A')).toMatchObject({ body: { code: expect.any(String) } });
    expect(await call(sandbox, 'POST', '/v1/payments')).toMatchObject({
      status: 405,
      body: { code: 'method_not_allowed' },
    });
  }));

test('the adapter opens the same session again for the same session id', () =>
  withWorld(async ({ startSandbox }) => {
    const provider = connect(await startSandbox());
    const request = buildSessionRequest();
    const session = await provider.openSession(request);
    expect(await provider.openSession(request)).toEqual(session);
  }));

test('the adapter throws when the provider is away', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const provider = connect(sandbox);
    await sandbox.stop();
    await expect(provider.openSession(buildSessionRequest())).rejects.toThrow('fetch failed');
    await expect(provider.voidSession('ps_1')).rejects.toThrow('fetch failed');
  }));

test('the adapter throws with the stable code when the provider refuses', () =>
  withWorld(async ({ startSandbox }) => {
    const provider = connect(await startSandbox());
    await expect(provider.voidSession('ps_none')).rejects.toThrow('404 (not_found)');
  }));

test('a voided session takes nothing, and voiding it again is no different', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const provider = connect(sandbox);
    const { providerSessionId } = await provider.openSession(buildSessionRequest());
    expect(await provider.voidSession(providerSessionId)).toEqual({ kind: 'voided' });
    expect(await provider.voidSession(providerSessionId)).toEqual({ kind: 'voided' });
    expect(await pay(sandbox, providerSessionId)).toMatchObject({
      status: 409,
      body: { code: 'session_voided' },
    });
    expect(await call(sandbox, 'GET', '/v1/payments')).toMatchObject({ body: { data: [] } });
  }));

test('voiding a paid session answers the payment that was taken', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const provider = connect(sandbox);
    const { providerSessionId } = await provider.openSession(buildSessionRequest());
    const paid = await pay(sandbox, providerSessionId);
    expect(paid).toMatchObject({ status: 200, body: { status: 'paid' } });
    expect(await provider.voidSession(providerSessionId)).toEqual({
      kind: 'already_paid',
      payment: {
        providerPaymentId: expect.stringMatching(/^pay_/),
        orderNo: ORDER_NO,
        amount: 12_345,
        currency: 'SGD',
        signedOrder: SIGNED_ORDER,
      },
    });
  }));

test('a session is paid once, however often Pay is pressed', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const { providerSessionId } = await connect(sandbox).openSession(buildSessionRequest());
    const presses = await Promise.all([1, 2, 3, 4, 5].map(() => pay(sandbox, providerSessionId)));
    expect(presses.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409, 409, 409, 409]);
    expect(await call(sandbox, 'GET', `/v1/payments?reference=${ORDER_NO}`)).toMatchObject({
      body: { data: [{ amount: 12_345, session_id: providerSessionId }], next_cursor: null },
    });
  }));

test('an expired session takes nothing', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const provider = connect(sandbox);
    const { providerSessionId } = await provider.openSession(
      buildSessionRequest({ expiresAtMs: Date.now() - 1 }),
    );
    expect(await call(sandbox, 'GET', `${SESSIONS}/${providerSessionId}`)).toMatchObject({
      body: { status: 'expired' },
    });
    expect(await pay(sandbox, providerSessionId)).toMatchObject({
      status: 409,
      body: { code: 'session_expired' },
    });
    expect(await call(sandbox, 'GET', '/v1/payments')).toMatchObject({ body: { data: [] } });
    expect(await provider.voidSession(providerSessionId)).toEqual({ kind: 'voided' });
  }));

test('payments are listed page by page in the order in which they were taken', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    for (const [reference, amount] of [
      ['a', 1],
      ['b', 2],
      ['a', 3],
      ['a', 4],
    ] as const) {
      await call(sandbox, 'POST', '/v1/test/payments', { body: { reference, amount, currency: 'EUR' } });
    }
    const walk = async (query: string): Promise<number[][]> => {
      const pages: number[][] = [];
      for (let cursor: string | null = '0'; cursor !== null;) {
        const reply = await call(sandbox, 'GET', `/v1/payments?${query}&cursor=${cursor}`);
        const page = paymentsReplySchema.parse(reply.body);
        pages.push(page.data.map(({ amount }) => amount));
        cursor = page.next_cursor;
      }
      return pages;
    };
    expect(await walk('limit=3')).toEqual([[1, 2, 3], [4]]);
    expect(await walk('limit=2&reference=a')).toEqual([[1, 3], [4]]);
    expect(await walk('limit=4')).toEqual([[1, 2, 3, 4]]);
    expect(await call(sandbox, 'GET', '/v1/payments?limit=1001')).toMatchObject({ status: 400 });
  }));
