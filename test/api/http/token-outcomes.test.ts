/**
 * Tokens that are refused although their shopper did nothing wrong, as clocks differ or keys were rotated:
 * what the shopper gets, what counts it, and which line of log, `ops status` and `ops doctor` names it.
 */

import { hostname } from 'node:os';
import { SignJWT } from 'jose';
import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { createApiNotes } from '../../../src/api/api-notes.ts';
import { createKeySet, createTokenSigner, USUAL_RULES } from '../../../src/api/http/auth.ts';
import { createMetrics, type TokenOutcome } from '../../../src/metrics.ts';
import {
  createIssuerKey,
  ISSUER,
  openIssuer,
  type Issuer,
  type IssuerKey,
} from '../../support/jwks-server.ts';
import { openOps } from '../../support/ops.ts';
import { JWT_SECRET, refusalOf, send } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { samplesOf } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openTestLog } from '../test-log.ts';
import { harmlessNotice, sendNotice } from '../webhooks/signed-notice.ts';

let api: TestApi;
let known: IssuerKey;
let other: IssuerKey;
beforeAll(async () => {
  [api, known, other] = await Promise.all([openApi(), createIssuerKey('known'), createIssuerKey('other')]);
});
beforeEach(async () => {
  await api.stores.redis.flushall();
});

/** More than a stray caller sends. */
const SHOPPERS = 12;
const now = (): number => Math.floor(Date.now() / 1_000);

/** An API that takes tokens of an issuer and of the secret. */
async function openShop() {
  const issuer = await openIssuer(known);
  onTestFinished(() => issuer.close());
  const keys = createKeySet(issuer.url, silent, {
    attemptEveryMs: 0,
    attemptTimeoutMs: 600_000,
    waitMs: 600_000,
  });
  onTestFinished(() => keys.stop());
  await keys.begun;
  const { log, lines } = openTestLog();
  const metrics = createMetrics();
  const notes = createApiNotes({ ...api.stores, metrics, log });
  const rules = { ...USUAL_RULES, issuers: [ISSUER, 'holdfast'] as const, secret: JWT_SECRET, keys };
  const app = await api.withParts({ tokens: rules, notes, metrics });

  return {
    url: app.url,
    issuer,
    log: lines,
    metrics,
    /** A dozen shoppers, each with a token of their own. @returns the answer that all got */
    async ask(tokenOf: (sub: string) => Promise<string>): Promise<string> {
      const answers = new Set<string>();
      for (let i = 0; i < SHOPPERS; i += 1) {
        const authorization = `Bearer ${await tokenOf(`shopper-${i}`)}`;
        const reply = await send(`${app.url}/v1/orders/nope`, 'GET', { headers: { authorization } });
        answers.add(refusalOf(reply));
      }
      return [...answers].join(', ');
    },
    countOf: async (outcome: TokenOutcome) =>
      samplesOf(metrics, `holdfast_tokens_total{outcome="${outcome}"}`),
    /** What an operator is told, once the API has noted. */
    async report() {
      await notes.note();
      vi.useRealTimers();
      const ops = openOps(api.stores, {}, 1_000);
      const [status, doctor] = [await ops('status'), await ops('doctor')];
      return { status: status.out, doctor: doctor.out };
    },
  };
}

/** From now on this process, so the API, has a clock that is off. Redis and the tokens have not. */
function setOwnClock(offSeconds: number): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + offSeconds * 1_000 });
  onTestFinished(() => void vi.useRealTimers());
}

const LET_IN = '404 order_not_found';
const bySecret = createTokenSigner({ ...USUAL_RULES, secret: JWT_SECRET });

test.each(['iat', 'nbf', 'both'])(
  'an issuer whose clock is ten seconds ahead is let in (%s), and so is one 20 seconds behind',
  async (claim) => {
    const shop = await openShop();
    const at = now() + 10;
    const times = claim === 'both' ? { iat: at, nbf: at } : { iat: undefined, [claim]: at };
    expect(await shop.ask((sub) => known.sign({ sub, ...times, exp: at + 60 }))).toBe(LET_IN);
    expect(await shop.ask((sub) => known.sign({ sub, iat: now() - 25, exp: now() - 20 }))).toBe(LET_IN);
    expect(await shop.countOf('accepted')).toEqual([
      `holdfast_tokens_total{outcome="accepted"} ${2 * SHOPPERS}`,
    ]);
    const { status, doctor } = await shop.report();
    expect(status).not.toMatch(/tokens were refused/);
    expect(doctor).toMatch(/\nok +tokens: 24 taken within five minutes\n/);
  },
);

test.each(['iat', 'nbf'])(
  "an issuer's clock a minute ahead (%s) is named with the claim and the seconds",
  async (claim) => {
    const shop = await openShop();
    const ask = () =>
      shop.ask((sub) => known.sign({ sub, iat: undefined, [claim]: now() + 60, exp: now() + 120 }));
    expect(await ask()).toBe('401 unauthorized');
    expect(await shop.countOf('not_yet_valid')).toEqual([
      `holdfast_tokens_total{outcome="not_yet_valid"} ${SHOPPERS}`,
    ]);
    expect(shop.log()).toEqual([
      expect.objectContaining({
        reason: 'not_yet_valid',
        claim,
        refused: 1,
        offSeconds: expect.toSatisfy(isAMinute),
      }),
    ]);
    const { status, doctor } = await shop.report();
    const line = new RegExp(
      `12 tokens were refused within five minutes, as they are not valid yet by the API's clock; the latest one's \`${claim}\` was (?:59|60) s ahead of that clock`,
    );
    expect(status).toMatch(line);
    expect(status).toMatch(/\n {2}tokens of 5 min +12 not_yet_valid\n/);
    expect(doctor).toMatch(line);
    expect(doctor).toMatch(/bad +tokens: /);
    // Its own clock is right, so it is the issuer's.
    expect(status).not.toMatch(/The clock of the API/);
  },
);

const isAMinute = (seconds: number): boolean => seconds === 60 || seconds === 59;

test.each(['iat', 'nbf'])('the log names the claim %s of a token of the secret too', async (claim) => {
  const shop = await openShop();
  const token = await bySecretWith({ [claim]: now() + 60 });
  expect(await shop.ask(async () => token)).toBe('401 unauthorized');
  expect(shop.log()).toEqual([
    expect.objectContaining({ reason: 'not_yet_valid', claim, offSeconds: expect.toSatisfy(isAMinute) }),
  ]);
});

test('an API whose own clock is ten minutes behind refuses new tokens, and is named', async () => {
  const shop = await openShop();
  const tokens = await Promise.all(
    Array.from({ length: SHOPPERS }, (_, i) => known.sign({ sub: `shopper-${i}` })),
  );
  setOwnClock(-600);
  expect(await shop.ask(async (sub) => tokens[Number(sub.slice(8))] ?? '')).toBe('401 unauthorized');
  const { status, doctor } = await shop.report();
  const line = `The clock of the API on ${hostname()} is 600 s behind that of Redis.`;
  expect(status).toContain(line);
  expect(status).toMatch(/12 tokens were refused within five minutes, as they are not valid yet/);
  expect(doctor).toContain(line);
  expect(shop.log()).toContainEqual(expect.objectContaining({ aheadSeconds: -600 }));
  expect(await samplesOf(shop.metrics, 'holdfast_clock_ahead_seconds')).toEqual([
    expect.stringMatching(/^holdfast_clock_ahead_seconds -(?:600|599\.9\d*|600\.\d+)$/),
  ]);
});

test('an API whose own clock is ten minutes ahead refuses tokens of five minutes at once, and is named', async () => {
  const shop = await openShop();
  const tokens = await Promise.all(
    Array.from({ length: SHOPPERS }, (_, i) => known.sign({ sub: `shopper-${i}`, exp: now() + 300 })),
  );
  setOwnClock(600);
  expect(await shop.ask(async (sub) => tokens[Number(sub.slice(8))] ?? '')).toBe('401 unauthorized');
  expect(await shop.countOf('expired_unseen')).toEqual([
    `holdfast_tokens_total{outcome="expired_unseen"} ${SHOPPERS}`,
  ]);
  const { status, doctor } = await shop.report();
  for (const said of [status, doctor]) {
    expect(said).toContain(`The clock of the API on ${hostname()} is 600 s ahead of that of Redis.`);
    expect(said).toMatch(
      /12 tokens were refused within five minutes, as they had expired before the API saw them first/,
    );
  }
});

test('an API whose own clock is ten minutes ahead lets tokens of an hour in, and is named', async () => {
  const shop = await openShop();
  const tokens = await Promise.all(
    Array.from({ length: SHOPPERS }, (_, i) => known.sign({ sub: `shopper-${i}` })),
  );
  setOwnClock(600);
  expect(await shop.ask(async (sub) => tokens[Number(sub.slice(8))] ?? '')).toBe(LET_IN);
  const { status } = await shop.report();
  expect(status).toContain(`The clock of the API on ${hostname()} is 600 s ahead of that of Redis.`);
  expect(status).not.toMatch(/tokens were refused/);
});

test.each([600, -600])(
  'an API whose own clock is %i s off refuses every payment notice',
  async (offSeconds) => {
    const shop = await openShop();
    const sentAt = new Date();
    setOwnClock(offSeconds);
    expect(refusalOf(await sendNotice(shop.url, harmlessNotice(), { sentAt }))).toBe('401 invalid_signature');
    expect(await samplesOf(shop.metrics, 'holdfast_notices_total{outcome="forged"}')).toEqual([
      'holdfast_notices_total{outcome="forged"} 1',
    ]);
    expect((await shop.report()).status).toContain(`The clock of the API on ${hostname()} is 600 s`);
  },
);

test('an issuer whose clock is far behind signs tokens that have expired at once', async () => {
  const shop = await openShop();
  const ask = () => shop.ask((sub) => known.sign({ sub, iat: now() - 400, exp: now() - 100 }));
  expect(await ask()).toBe('401 unauthorized');
  expect(await shop.countOf('expired_unseen')).toEqual([
    `holdfast_tokens_total{outcome="expired_unseen"} ${SHOPPERS}`,
  ]);
  const { status } = await shop.report();
  expect(status).toMatch(
    /had expired before the API saw them first; the latest one's `exp` was 10[01] s behind that clock/,
  );
  expect(status).not.toMatch(/The clock of the API/);
});

test('a token that was taken and has expired since is everyday', async () => {
  const shop = await openShop();
  const tokens = await Promise.all(
    Array.from({ length: SHOPPERS }, (_, i) => known.sign({ sub: `shopper-${i}`, exp: now() + 300 })),
  );
  const ask = () => shop.ask(async (sub) => tokens[Number(sub.slice(8))] ?? '');
  expect(await ask()).toBe(LET_IN);
  setOwnClock(600);
  expect(await ask()).toBe('401 unauthorized');
  expect(await shop.countOf('expired')).toEqual([`holdfast_tokens_total{outcome="expired"} ${SHOPPERS}`]);
  expect((await shop.report()).status).not.toMatch(/tokens were refused/);
});

test.each<[string, (issuer: Issuer) => void, string, TokenOutcome, RegExp]>([
  ['and published is taken', (issuer) => issuer.publish(known, other), LET_IN, 'accepted', /Wrong|Nothing/],
  [
    'and not published is refused',
    () => {},
    '401 unauthorized',
    'unknown_key',
    /12 tokens were refused within five minutes, as no key that the API has is theirs/,
  ],
  [
    'while its keys cannot be read is neither',
    (issuer) => issuer.answerWith((_, response) => response.writeHead(500).end()),
    '503 keys_unavailable',
    'keys_unavailable',
    /12 tokens could not be judged within five minutes, as the issuer's keys could not be read/,
  ],
])("a token of the issuer's new key %s", async (_, rotate, answer, outcome, line) => {
  const shop = await openShop();
  rotate(shop.issuer);
  expect(await shop.ask((sub) => other.sign({ sub }))).toBe(answer);
  expect(await shop.countOf(outcome)).toEqual([`holdfast_tokens_total{outcome="${outcome}"} ${SHOPPERS}`]);
  const { status, doctor } = await shop.report();
  expect(status).toMatch(line);
  if (outcome !== 'accepted') expect(doctor).toMatch(line);
});

test('tokens of another secret than JWT_SECRET are refused, and named where no others come', async () => {
  const shop = await openShop();
  const sign = createTokenSigner({ ...USUAL_RULES, secret: 'the secret after the shop has rotated it' });
  expect(await shop.ask((sub) => sign(sub, '1h'))).toBe('401 unauthorized');
  expect(await shop.countOf('wrong_signature')).toEqual([
    `holdfast_tokens_total{outcome="wrong_signature"} ${SHOPPERS}`,
  ]);
  const { status, doctor } = await shop.report();
  for (const said of [status, doctor])
    expect(said).toMatch(/12 tokens were refused within five minutes, as their signature is wrong/);
});

test('what strangers send beside shoppers is no fault of ours', async () => {
  const shop = await openShop();
  expect(await shop.ask((sub) => bySecret(sub, '1h'))).toBe(LET_IN);
  expect(await shop.ask(async () => 'garbage')).toBe('401 unauthorized');
  expect(await shop.ask(async () => 'a.b.c')).toBe('401 unauthorized');
  const sign = createTokenSigner({ ...USUAL_RULES, secret: 'a secret that a stranger has guessed' });
  expect(await shop.ask((sub) => sign(sub, '1h'))).toBe('401 unauthorized');
  const { status } = await shop.report();
  expect(status).toMatch(/tokens of 5 min +12 accepted, 12 wrong_signature, 24 malformed\n/);
  expect(status).not.toMatch(/tokens were refused/);
});

test('the notes of a minute are gone after six', async () => {
  const shop = await openShop();
  await shop.ask((sub) => bySecret(sub, '1h'));
  await shop.report();
  const keys = await api.stores.redis.keys('holdfast:api_notes:*');
  expect(keys).toHaveLength(1);
  expect(await api.stores.redis.pttl(keys[0] ?? '')).toBeLessThanOrEqual(6 * 60_000);
});

/** A token of ada by the secret, with claims that the signer does not set. */
function bySecretWith(claims: Record<string, number>): Promise<string> {
  return new SignJWT({ iss: 'holdfast', sub: 'ada', exp: now() + 600, ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(JWT_SECRET));
}
