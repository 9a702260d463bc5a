/** Tokens by an issuer's published keys: which are taken, which are not, whatever they say of themselves. */

import { createHmac, createPublicKey } from 'node:crypto';
import { UnsecuredJWT } from 'jose';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import {
  createTokenSigner,
  createTokenVerifier,
  USUAL_RULES,
  type TokenRules,
  createKeySet,
  type KeySet,
} from '../../../src/api/http/auth.ts';
import {
  createIssuerKey,
  ISSUER,
  openIssuer,
  type Issuer,
  type IssuerKey,
} from '../../support/jwks-server.ts';
import { JWT_SECRET } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];
/** Lets no reading happen but the one at the start. */
const ONE_READING = { attemptEveryMs: 600_000, attemptTimeoutMs: 600_000 };

let issuer: Issuer;
let keys: KeySet;
let known: IssuerKey;
let byAlgorithm: IssuerKey[];

beforeAll(async () => {
  byAlgorithm = await Promise.all(ALGORITHMS.map((alg) => createIssuerKey(`key-${alg}`, alg)));
  known = await createIssuerKey('known');
  issuer = await openIssuer(known, ...byAlgorithm);
  keys = createKeySet(issuer.url, silent, ONE_READING);
  await keys.begun;
});
afterAll(async () => {
  keys.stop();
  await issuer.close();
});

const rulesWith = (rules: Partial<TokenRules> = {}): TokenRules => ({
  ...USUAL_RULES,
  secret: JWT_SECRET,
  keys,
  issuers: [ISSUER, 'holdfast'],
  ...rules,
});

/** `ada` when she is let in, or why not. */
async function verdictOf(token: string, rules: Partial<TokenRules> = {}): Promise<string> {
  const verdict = await createTokenVerifier(rulesWith(rules))(token);
  switch (verdict.kind) {
    case 'caller':
      return verdict.caller.userId;
    case 'refused':
      return `${verdict.fault.code} ${verdict.fault.claim ?? ''}`.trim();
    case 'unavailable':
      return verdict.kind;
    default:
      return verdict satisfies never;
  }
}

test('a token of each algorithm is taken, beside those of the secret', async () => {
  for (const key of byAlgorithm) expect(await verdictOf(await key.sign())).toBe('ada');
  const sign = createTokenSigner({ ...USUAL_RULES, secret: JWT_SECRET });
  expect(await verdictOf(await sign('bob', '1h'))).toBe('bob');
});

test.each([undefined, 'JWT', 'jwt', 'at+jwt', 'application/at+JWT'])(
  'an access token may be of the type %s',
  async (typ) => {
    expect(await verdictOf(await known.sign({}, { typ }))).toBe('ada');
  },
);

test.each(['holdfast-ticket+jwt', 'logout+jwt', 'application/json', '', 7, null, ['JWT']])(
  'a token of the type %j is no access token, by keys or by secret',
  async (typ) => {
    expect(await verdictOf(await known.sign({}, { typ }))).toBe('OTHER_TYPE typ');
    expect(await verdictOf(hmacToken(JWT_SECRET, { typ }))).toBe('OTHER_TYPE typ');
  },
);

test('rights come from roles, scope and scopes alike', async () => {
  const verify = createTokenVerifier(rulesWith());
  const claims = { roles: ['support', 'x'], scope: 'openid refunds:write', scopes: ['endpoints:write', 7] };
  expect(await verify(await known.sign(claims))).toEqual({
    kind: 'caller',
    caller: {
      userId: 'ada',
      expiresAtMs: expect.any(Number),
      scopes: new Set([
        'sales:read',
        'orders:read',
        'orders:write',
        'refunds:write',
        'events:read',
        'endpoints:write',
        'settlement:read',
        'status:read',
        'parked:read',
        'audit:read',
      ]),
    },
  });
});

const nowSeconds = (): number => Math.floor(Date.now() / 1_000);
const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString('base64url');

/** HS256 by hand, so that anything can be its secret and its header. */
function hmacToken(secret: string | Buffer, header: object = {}, claims: object = {}): string {
  const usual = { iss: ISSUER, sub: 'ada', exp: nowSeconds() + 60 };
  const content = `${encode({ alg: 'HS256', ...header })}.${encode({ ...usual, ...claims })}`;
  return `${content}.${createHmac('sha256', secret).update(content).digest('base64url')}`;
}

const pemOf = ({ publicJwk }: IssuerKey): string =>
  createPublicKey({ key: { ...publicJwk }, format: 'jwk' })
    .export({ type: 'spki', format: 'pem' })
    .toString();

/** The key of an attacker, which no issuer publishes. */
const forgedWith = async (header: object): Promise<string> =>
  (await createIssuerKey('known')).sign({}, { ...header });

test.each<[string, () => Promise<string> | string]>([
  [
    'without a signature',
    () => new UnsecuredJWT({ sub: 'ada', iss: ISSUER }).setExpirationTime('1h').encode(),
  ],
  [
    'of no algorithm, with a signature',
    () =>
      known.sign().then((token) => `${encode({ alg: 'none' })}.${token.split('.', 3).slice(1).join('.')}`),
  ],
  ['signed with the public key as a secret, as PEM', () => hmacToken(pemOf(known), { kid: 'known' })],
  [
    'signed with the public key as a secret, as JSON',
    () => hmacToken(JSON.stringify(known.publicJwk), { kid: 'known' }),
  ],
  ['of an algorithm that we take of none', async () => (await createIssuerKey('known', 'RS512')).sign()],
  ['signed with another key of the same name', () => forgedWith({})],
  ['that brings its own key', async () => forgedWith({ jwk: (await createIssuerKey('x')).publicJwk })],
  ['that says where its key is', () => forgedWith({ jku: `${issuer.url}?attacker` })],
  ['that says where its certificate is', () => forgedWith({ x5u: `${issuer.url}?attacker` })],
  ['with a header that must be understood', () => known.sign({}, { crit: ['rule'], rule: 1 })],
  ['with an empty list of such headers', () => hmacToken(JWT_SECRET, { crit: [] })],
  ['that is no token', () => 'a.b.c'],
  ['that is nothing', () => '..'],
])('a token %s is refused', async (_, forge) => {
  const token = await forge();
  const before = issuer.readings();
  for (const rules of [{}, { secret: undefined }, { keys: undefined }])
    expect(await verdictOf(token, rules)).toMatch(/^(ERR_|FAST_JWT_)/);
  expect(issuer.readings()).toBe(before);
});

test.each([
  '../../etc/passwd',
  "' OR 1=1 --",
  'known\u0000',
  '',
  'KNOWN',
  7,
  null,
  ['known'],
  { kid: 'known' },
])('a key id that no issuer gave, %j, finds no key', async (kid) => {
  expect(await verdictOf(await known.sign({}, { kid }))).toMatch(/^ERR_/);
});

test.each<[string, Record<string, unknown>, string]>([
  ['of another issuer', { iss: 'https://other.test/' }, 'ERR_JWT_CLAIM_VALIDATION_FAILED iss'],
  ['of a list of issuers', { iss: [ISSUER] }, 'ERR_JWT_CLAIM_VALIDATION_FAILED iss'],
  ['without an issuer', { iss: undefined }, 'ERR_JWT_CLAIM_VALIDATION_FAILED iss'],
  ['that has expired', { exp: 1 }, 'ERR_JWT_EXPIRED exp'],
  ['that never expires', { exp: undefined }, 'ERR_JWT_CLAIM_VALIDATION_FAILED exp'],
  ['that expires as text', { exp: '9999999999' }, 'ERR_JWT_CLAIM_VALIDATION_FAILED exp'],
  ['that is not valid yet', { nbf: 9_999_999_999 }, 'ERR_JWT_CLAIM_VALIDATION_FAILED nbf'],
  ['that is of the future', { iat: 9_999_999_998, exp: 9_999_999_999 }, 'NOT_ISSUED_YET iat'],
  ['without a user', { sub: undefined }, 'NOT_A_USER_ID sub'],
  ['of a user by number', { sub: 7 }, 'NOT_A_USER_ID sub'],
  ['of several users', { sub: ['ada', 'bob'] }, 'NOT_A_USER_ID sub'],
  ['of nobody', { sub: '' }, 'NOT_A_USER_ID sub'],
])('a token %s is refused', async (_, claims, fault) => {
  expect(await verdictOf(await known.sign(claims))).toBe(fault);
});

test('a claim that is a number without an end is refused', async () => {
  const content = `${encode({ alg: 'HS256' })}.${Buffer.from(`{"iss":"holdfast","sub":"ada","exp":1e999}`).toString('base64url')}`;
  const token = `${content}.${createHmac('sha256', JWT_SECRET).update(content).digest('base64url')}`;
  expect(await verdictOf(token)).toBe('MALFORMED_CLAIM');
});

test('where an audience is set, a token must be for it', async () => {
  const rules = { audiences: ['holdfast', 'shop'] };
  expect(await verdictOf(await known.sign({ aud: 'shop' }), rules)).toBe('ada');
  expect(await verdictOf(await known.sign({ aud: ['x', 'holdfast'] }), rules)).toBe('ada');
  for (const aud of [undefined, 'x', [], ['x']])
    expect(await verdictOf(await known.sign({ aud }), rules)).toBe('ERR_JWT_CLAIM_VALIDATION_FAILED aud');
  for (const aud of [undefined, 'x', [], 7])
    expect(await verdictOf(hmacToken(JWT_SECRET, {}, { aud }), rules)).toMatch(/^FAST_JWT_\w+ aud$/);
  expect(await verdictOf(hmacToken(JWT_SECRET, {}, { aud: ['shop'] }), rules)).toBe('ada');
});

test('the user may be named by another claim', async () => {
  const rules = { userClaim: 'user_id' };
  expect(await verdictOf(await known.sign({ user_id: 'eve' }), rules)).toBe('eve');
  expect(await verdictOf(await known.sign(), rules)).toBe('NOT_A_USER_ID user_id');
  expect(await verdictOf(hmacToken(JWT_SECRET), rules)).toBe('FAST_JWT_MISSING_REQUIRED_CLAIM user_id');
});

test('a token that was good is known at once, however many forged ones come between', async () => {
  const verify = createTokenVerifier(rulesWith());
  const token = await known.sign();
  await verify(token);
  for (let i = 0; i < 20_000; i += 1) void verify(hmacToken('forged', { n: i }));
  expect(verify(token)).not.toBeInstanceOf(Promise);
});

test('a token by a key is verified again after five minutes, as the key may have been taken back', async () => {
  const verify = createTokenVerifier(rulesWith());
  const token = await known.sign();
  await verify(token);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 5 * 60_000 + 1_000 });
  onTestFinished(() => void vi.useRealTimers());
  const again = verify(token);
  expect(again).toBeInstanceOf(Promise);
  expect(await again).toMatchObject({ kind: 'caller' });
});

test('without an issuer no algorithm but that of the secret is taken', async () => {
  expect(await verdictOf(await known.sign(), { keys: undefined })).toBe('FAST_JWT_INVALID_ALGORITHM');
  expect(await verdictOf(hmacToken(JWT_SECRET), { secret: undefined })).toBe('ERR_JOSE_ALG_NOT_ALLOWED');
});
