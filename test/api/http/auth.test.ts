/**
 * Tokens: which are taken, how the others are refused and logged, and that an order is its own user's alone.
 */

import { SignJWT } from 'jose';
import { beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import type { TokenFault } from '../../../src/api/http/token-faults.ts';
import { buildSale } from '../../support/factories.ts';
import { JWT_SECRET, refusalOf, send, type Reply } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openRaw } from '../raw-http.ts';
import { openTestLog } from '../test-log.ts';

let api: TestApi;
let orderNo: string;

beforeAll(async () => {
  api = await openApi();
  const { saleId } = await api.stores.openSale(buildSale());
  orderNo = await (await api.shopper('ada')).buy(saleId);
});

interface TokenParts {
  secret?: string;
  subject?: string | undefined;
  issuer?: string;
  expiresInSeconds?: number | undefined;
  alg?: 'HS256' | 'HS512';
}

/** A valid token of ada, each part to be spoilt. */
async function tokenWith(parts: TokenParts): Promise<string> {
  const valid = {
    secret: JWT_SECRET,
    subject: 'ada',
    issuer: 'holdfast',
    expiresInSeconds: 60,
    alg: 'HS256',
  };
  const { secret, subject, issuer, expiresInSeconds, alg } = { ...valid, ...parts };
  const token = new SignJWT().setProtectedHeader({ alg }).setIssuer(issuer);
  if (subject !== undefined) token.setSubject(subject);
  if (expiresInSeconds !== undefined)
    token.setExpirationTime(Math.floor(Date.now() / 1000) + expiresInSeconds);
  return token.sign(new TextEncoder().encode(secret));
}

/** Without a signature: `alg: none`. */
function unsignedToken(): string {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const claims = { sub: 'ada', iss: 'holdfast', exp: Math.floor(Date.now() / 1000) + 60 };
  return `${encode({ alg: 'none' })}.${encode(claims)}.`;
}

function ask(authorization: string | undefined): Promise<Reply> {
  const headers = authorization === undefined ? {} : { authorization };
  return send(`${api.url}/v1/orders/${orderNo}`, 'GET', { headers });
}

test('a valid token is let in, also one that has just run out on another clock', async () => {
  // The clock stands still: on a slow machine the token would have run out for good.
  vi.useFakeTimers({ toFake: ['Date'] });
  onTestFinished(() => void vi.useRealTimers());
  expect((await ask(`Bearer ${await tokenWith({})}`)).status).toBe(200);
  expect((await ask(`Bearer ${await tokenWith({ expiresInSeconds: -20 })}`)).status).toBe(200);
});

test.each<[string, () => Promise<string> | string | undefined]>([
  ['no token', () => undefined],
  ['another scheme', () => 'Basic YWRhOmFkYQ=='],
  ['nonsense', () => 'Bearer nonsense'],
  ['an oversized token', () => `Bearer ${'x'.repeat(5_000)}`],
  ['an unsigned token', () => `Bearer ${unsignedToken()}`],
])('%s is refused with 401', async (_, authorization) => {
  const reply = await ask(await authorization());
  expect(refusalOf(reply)).toBe('401 unauthorized');
  // RFC 6750: the error is named where a token was sent, and only there.
  const isToken = (await authorization())?.startsWith('Bearer ') === true;
  const challenge = `Bearer realm="holdfast"${isToken ? ', error="invalid_token"' : ''}`;
  expect(reply.headers.get('www-authenticate')).toBe(challenge);
});

test.each<[string, TokenParts, TokenFault]>([
  [
    'signed with another secret',
    { secret: 'another-secret-that-is-long-enough-for-it' },
    { reason: 'wrong_signature', code: 'FAST_JWT_INVALID_SIGNATURE' },
  ],
  [
    'signed with another algorithm',
    { alg: 'HS512' },
    { reason: 'unknown_key', code: 'FAST_JWT_INVALID_ALGORITHM' },
  ],
  [
    'of another issuer',
    { issuer: 'another' },
    { reason: 'wrong_issuer', code: 'FAST_JWT_INVALID_CLAIM_VALUE', claim: 'iss' },
  ],
  [
    'that has expired',
    { expiresInSeconds: -60 },
    { reason: 'expired_unseen', code: 'FAST_JWT_EXPIRED', claim: 'exp' },
  ],
  [
    'that never expires',
    { expiresInSeconds: undefined },
    { reason: 'malformed', code: 'FAST_JWT_MISSING_REQUIRED_CLAIM', claim: 'exp' },
  ],
  [
    'without a subject',
    { subject: undefined },
    { reason: 'no_user', code: 'FAST_JWT_MISSING_REQUIRED_CLAIM', claim: 'sub' },
  ],
  ['with an empty subject', { subject: '' }, { reason: 'no_user', code: 'NOT_A_USER_ID', claim: 'sub' }],
  [
    'with a subject of 256 bytes',
    { subject: 'é'.repeat(128) },
    { reason: 'no_user', code: 'NOT_A_USER_ID', claim: 'sub' },
  ],
  [
    'with an invisible subject',
    { subject: 'ada\u200B' },
    { reason: 'no_user', code: 'NOT_A_USER_ID', claim: 'sub' },
  ],
  [
    'with a subject on two lines',
    { subject: 'ada\nbo' },
    { reason: 'no_user', code: 'NOT_A_USER_ID', claim: 'sub' },
  ],
])(
  'a token %s is refused with 401, and the log has the reason without the token',
  async (_, parts, fault) => {
    const { log, lines } = openTestLog();
    const app = await api.withParts({ log });
    const token = await tokenWith(parts);
    const headers = { authorization: `Bearer ${token}` };

    const reply = await send(`${app.url}/v1/orders/${orderNo}`, 'GET', { headers });

    expect(refusalOf(reply)).toBe('401 unauthorized');
    expect(reply.headers.get('www-authenticate')).toBe('Bearer realm="holdfast", error="invalid_token"');
    expect(lines()).toEqual([expect.objectContaining({ ...fault, refused: 1, msg: 'tokens were refused' })]);
    expect(JSON.stringify(lines())).not.toContain(token.split('.')[1]);
  },
);

test('a token that was good is refused once it has expired, and so is what only looks like it', async () => {
  const app = await api.withParts({});
  const token = await tokenWith({ expiresInSeconds: 60 });
  const askWith = (sent: string) =>
    send(`${app.url}/v1/orders/${orderNo}`, 'GET', { headers: { authorization: `Bearer ${sent}` } });
  expect((await askWith(token)).status).toBe(200);
  expect((await askWith(token)).status).toBe(200);

  const [head, claims, signature = ''] = token.split('.');
  const forged = [head, claims, signature.split('').toReversed().join('')].join('.');
  expect(refusalOf(await askWith(forged))).toBe('401 unauthorized');

  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 91_000 });
  onTestFinished(() => void vi.useRealTimers());
  expect(refusalOf(await askWith(token))).toBe('401 unauthorized');
});

test('the scheme of a token is read in any case', async () => {
  expect((await ask(`bearer ${await tokenWith({})}`)).status).toBe(200);
});

test.each<[string, () => string]>([
  ['POST', () => '/v1/orders'],
  ['POST', () => `/v1/orders/${orderNo}/cancel`],
  ['POST', () => `/v1/orders/${orderNo}/payment`],
])('%s to an order needs a token (%#)', async (method, path) => {
  expect(refusalOf(await send(`${api.url}${path()}`, method, { body: {} }))).toBe('401 unauthorized');
});

test("another shopper's order is not found, neither to read nor to cancel nor to pay", async () => {
  const bob = await api.shopper('bob');

  expect(refusalOf(await bob.getOrder(orderNo))).toBe('404 order_not_found');
  expect(refusalOf(await bob.cancel(orderNo))).toBe('404 order_not_found');
  expect(refusalOf(await bob.pay(orderNo))).toBe('404 order_not_found');
});

test("another shopper's order is not found in MySQL either", async () => {
  const ada = await api.shopper('ada');
  const { saleId } = await api.stores.openSale(buildSale());
  const stored = await ada.buy(saleId);
  await api.store(stored);
  await api.forget(stored);

  expect((await ada.getOrder(stored)).status).toBe(200);
  expect(refusalOf(await (await api.shopper('bob')).getOrder(stored))).toBe('404 order_not_found');
});

test.each(['nope', 'a-0-1-short', '%7B%7D', 'x%00y', '..%2f..%2fx', '%E0%A4%A', `s-0-1-${'0'.repeat(400)}`])(
  'what is no orderNo, %s, is not found',
  async (text) => {
    const ada = await api.shopper('ada');

    expect(refusalOf(await ada.getOrder(text))).toBe('404 order_not_found');
    expect(refusalOf(await ada.cancel(text))).toBe('404 order_not_found');
  },
);

test.each([
  ['the same twice', (good: string) => [good, good]],
  ['a good one and a bad one', (good: string) => [good, 'Bearer bad']],
  ['a bad one and a good one', (good: string) => ['Bearer bad', good]],
])('two Authorization headers, %s, are refused: it is not ours to choose', async (_, headersOf) => {
  const { authorization } = await api.shopper('ada');
  const raw = await openRaw(api.url);
  const lines = headersOf(authorization).map((value) => `aUTHORIZATION: ${value}`);
  raw.write([`GET /v1/orders/${orderNo} HTTP/1.1`, 'Host: shop', ...lines, '', ''].join('\r\n'));

  const [reply] = await raw.replies(1);
  raw.close();
  expect(reply?.status).toBe(400);
  expect(reply?.body).toMatchObject({ code: 'malformed_request' });
});
