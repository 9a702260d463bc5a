/** `ops token`: what it signs is what the API takes, and nothing is signed that is not wanted just so. */

import { decodeJwt } from 'jose';
import { expect, test } from 'vitest';
import { createTokenVerifier, USUAL_RULES, type TokenRules } from '../../src/api/http/auth.ts';
import { CLOCK_TOLERANCE_MS } from '../../src/limits.ts';
import { openOps } from '../support/ops.ts';
import { JWT_SECRET } from '../support/shopper.ts';

/** Where no server is: the command needs none. */
const nowhere = {
  config: { REDIS_URL: ['redis://127.0.0.1:1'], MYSQL_URL: 'mysql://user@127.0.0.1:1/none' },
};
const DAY_SECONDS = 24 * 60 * 60;

const opsWith = (settings: Record<string, string> = {}) => openOps(nowhere, { JWT_SECRET, ...settings });

const verdictOf = (token: string, rules: Partial<TokenRules> = {}) =>
  createTokenVerifier({ ...USUAL_RULES, secret: JWT_SECRET, keys: undefined, ...rules })(token.trim());

const FOR_BACK_OFFICE = [
  'token',
  '--subject',
  'back-office',
  '--scope',
  'sales:write events:read events:write',
];

test('signs a token that the API takes, with these scopes and days', async () => {
  const { exitCode, out, err } = await opsWith()(...FOR_BACK_OFFICE, '--days', '90');

  expect(exitCode).toBe(0);
  expect(out).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  const { exp = 0, iat = 0 } = decodeJwt(out.trim());
  expect(verdictOf(out)).toEqual({
    kind: 'caller',
    caller: {
      userId: 'back-office',
      scopes: new Set(['sales:write', 'events:read', 'events:write']),
      // And what the clocks may differ by.
      expiresAtMs: exp * 1_000 + CLOCK_TOLERANCE_MS,
    },
  });
  expect(exp - iat).toBe(90 * DAY_SECONDS);
  expect(err.replaceAll(/\s+/g, ' ')).toMatch(
    /until \d{4}-\d\d-\d\d: sales:write, events:read, events:write\. It cannot be taken back/,
  );
});

test('signs a token of a shopper for a day, which gives no right of the back office', async () => {
  const { exitCode, out, err } = await opsWith()('token', '--shopper', 'alice');

  expect(exitCode).toBe(0);
  expect(verdictOf(out)).toMatchObject({ caller: { userId: 'alice', scopes: new Set() } });
  const { exp = 0, iat = 0 } = decodeJwt(out.trim());
  expect(exp - iat).toBe(DAY_SECONDS);
  expect(err.replaceAll(/\s+/g, ' ')).toContain('what any shopper may');
});

test('names all that a role may do', async () => {
  const { out, err } = await opsWith()('token', '--subject', 'grace', '--roles', 'support', '--days', '1');

  expect(verdictOf(out)).toMatchObject({ caller: { userId: 'grace' } });
  for (const scope of ['orders:write', 'orders:read', 'parked:read']) expect(err).toContain(scope);
});

test("follows the API's issuer, audience and user claim", async () => {
  const settings = { JWT_ISSUER: 'https://a/,holdfast', JWT_AUDIENCE: 'shop', JWT_USER_CLAIM: 'user_id' };
  const { out } = await opsWith(settings)(...FOR_BACK_OFFICE, '--days', '1');

  const rules = { issuers: ['https://a/'] as const, audiences: ['shop'], userClaim: 'user_id' };
  expect(verdictOf(out, rules)).toMatchObject({ caller: { userId: 'back-office' } });
});

test('signs nothing without the secret', async () => {
  const { exitCode, out, err } = await opsWith({ JWT_SECRET: '' })(...FOR_BACK_OFFICE, '--days', '1');
  expect({ exitCode, out }).toEqual({ exitCode: 1, out: '' });
  expect(err).toContain('JWT_SECRET is not set');
});

test.each<[string, string[]]>([
  ['no right', ['--subject', 'x', '--days', '1']],
  ['an empty list of rights', ['--subject', 'x', '--days', '1', '--scope', ' ']],
  ['an unknown scope', ['--subject', 'x', '--days', '1', '--scope', 'sales:write all']],
  ['an unknown role', ['--subject', 'x', '--days', '1', '--roles', 'Admin']],
  ['no end', ['--subject', 'x', '--scope', 'sales:read']],
  ['an end at once', ['--subject', 'x', '--scope', 'sales:read', '--days', '0']],
  ['an end in more than a year', ['--subject', 'x', '--scope', 'sales:read', '--days', '366']],
  ['an end that is no number', ['--subject', 'x', '--scope', 'sales:read', '--days', '1e2']],
  ['no subject', ['--days', '1', '--scope', 'sales:read']],
  ['rights of a shopper', ['--shopper', 'alice', '--scope', 'sales:read']],
  ['a shopper and a subject', ['--shopper', 'alice', '--subject', 'grace', '--days', '1']],
  ['a shopper that is no user id', ['--shopper', ' x']],
  ['a subject that is no user id', ['--subject', ' x', '--days', '1', '--scope', 'sales:read']],
])('signs nothing with %s', async (_, args) => {
  const { exitCode, out } = await opsWith()('token', ...args);
  expect({ exitCode, out }).toEqual({ exitCode: 2, out: '' });
});
