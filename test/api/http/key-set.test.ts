/** The keys of an issuer: rotated without a restart, and while it is slow, away or attacked through us. */

import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import {
  createTokenSigner,
  createTokenVerifier,
  USUAL_RULES,
  createKeySet,
  type KeySetBounds,
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
import { waitFor } from '../../support/wait.ts';

/** Longer than any test: what is so far apart does not come. */
const NEVER_MS = 600_000;

let oldKey: IssuerKey;
let newKey: IssuerKey;
let issuer: Issuer;
beforeEach(async () => {
  [oldKey, newKey] = await Promise.all([createIssuerKey('old'), createIssuerKey('new')]);
  issuer = await openIssuer(oldKey);
});
afterEach(() => issuer.close());

/** What becomes of a token, by a verifier with keys of its own that has read nothing yet. */
function openVerifier(bounds: Partial<KeySetBounds> = {}) {
  const keys = createKeySet(issuer.url, silent, {
    attemptTimeoutMs: NEVER_MS,
    waitMs: NEVER_MS,
    ...bounds,
  });
  onTestFinished(() => keys.stop());
  const verify = createTokenVerifier({
    ...USUAL_RULES,
    secret: JWT_SECRET,
    keys,
    issuers: [ISSUER, 'holdfast'],
  });
  return async (token: string): Promise<string> => {
    const verdict = await verify(token);
    return verdict.kind === 'refused' ? verdict.fault.code : verdict.kind;
  };
}

const strangers = (count: number): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, (_, i) => oldKey.sign({}, { kid: `stranger-${i}` })));

const UNKNOWN = 'ERR_JWKS_NO_MATCHING_KEY';

test('the keys are read before the first token comes', async () => {
  openVerifier();
  await waitFor('the keys to be read', () => issuer.readings() === 1);
});

describe('rotation', () => {
  test('a token of a new key is taken at once, by one more reading', async () => {
    const judge = openVerifier({ attemptEveryMs: 0 });
    expect(await judge(await oldKey.sign())).toBe('caller');
    issuer.publish(oldKey, newKey);
    expect(await judge(await newKey.sign())).toBe('caller');
    expect(issuer.readings()).toBe(2);
  });

  test('a key that is taken back is refused from the next reading on, which no token has to cause', async () => {
    const judge = openVerifier({ refreshEveryMs: 20 });
    expect(await judge(await oldKey.sign({ sub: 'ada' }))).toBe('caller');
    issuer.publish(newKey);
    const seen = issuer.readings();
    await waitFor('two more readings', () => issuer.readings() >= seen + 2);
    expect(await judge(await oldKey.sign({ sub: 'bob' }))).toBe(UNKNOWN);
  });

  test('two keys at once are distinguished by their ids', async () => {
    issuer.publish(oldKey, newKey);
    const judge = openVerifier();
    expect(await judge(await oldKey.sign())).toBe('caller');
    expect(await judge(await newKey.sign())).toBe('caller');
    expect(await judge(await newKey.sign({}, { kid: 'old' }))).toBe('ERR_JWS_SIGNATURE_VERIFICATION_FAILED');
    expect(await judge(await newKey.sign({}, { kid: undefined }))).toBe('ERR_JWKS_MULTIPLE_MATCHING_KEYS');
  });
});

describe('tokens of unknown keys', () => {
  test('cause no reading soon after the last one, however many come', async () => {
    const judge = openVerifier({ attemptEveryMs: NEVER_MS });
    expect(await judge(await oldKey.sign())).toBe('caller');
    const verdicts = await Promise.all((await strangers(200)).map(judge));
    expect(new Set(verdicts)).toEqual(new Set([UNKNOWN]));
    expect(issuer.readings()).toBe(1);
  });

  test('cause one reading for all that come while it is under way', async () => {
    const judge = openVerifier({ attemptEveryMs: 0 });
    expect(await judge(await oldKey.sign())).toBe('caller');
    issuer.freeze();
    const verdicts = Promise.all((await strangers(200)).map(judge));
    await waitFor('the reading', () => issuer.readings() === 2);
    issuer.thaw();
    expect(new Set(await verdicts)).toEqual(new Set([UNKNOWN]));
    // Those that were looked up after it may have asked for one more.
    expect(issuer.readings()).toBeLessThanOrEqual(3);
  });

  test('make no caller wait whose key is known, nor one of the secret, while the issuer is frozen', async () => {
    const judge = openVerifier({ attemptEveryMs: 0 });
    expect(await judge(await oldKey.sign())).toBe('caller');
    issuer.freeze();
    let isJudged = false;
    const stranger = judge(await newKey.sign()).then(() => (isJudged = true));
    await waitFor('the reading', () => issuer.readings() === 2);

    expect(await judge(await oldKey.sign({ sub: 'bob' }))).toBe('caller');
    const sign = createTokenSigner({ ...USUAL_RULES, secret: JWT_SECRET });
    expect(await judge(await sign('eve', '1h'))).toBe('caller');
    expect(isJudged).toBe(false);

    issuer.thaw();
    await stranger;
  });

  test('wait a moment for an issuer that hangs, and those that come later not at all', async () => {
    const judge = openVerifier({ attemptEveryMs: 0, waitMs: 50 });
    await waitFor('the keys', async () => (await judge(await oldKey.sign())) === 'caller');
    issuer.freeze();
    const seen = issuer.readings();
    expect(await judge(await newKey.sign())).toBe('unavailable');
    // No caller waited for it to arrive.
    await waitFor('the reading', () => issuer.readings() === seen + 1);
    const verdicts = await Promise.all((await strangers(200)).map(judge));
    expect(new Set(verdicts)).toEqual(new Set(['unavailable']));
    expect(issuer.readings()).toBe(seen + 1);

    // The same reading, however late.
    issuer.publish(oldKey, newKey);
    issuer.thaw();
    await waitFor('the new key', async () => (await judge(await newKey.sign())) === 'caller');
  });
});

describe('an issuer that does not answer with keys', () => {
  test.each<[string, (server: Issuer) => void]>([
    ['fails', (server) => server.answerWith((_, response) => response.writeHead(500).end())],
    ['answers no JSON', (server) => server.answerWith((_, response) => response.end('<html>'))],
    ['answers no keys', (server) => server.answerWith((_, response) => response.end('{"keys":7}'))],
    [
      'sends elsewhere',
      (server) => server.answerWith((_, response) => response.writeHead(302, { location: '/jwks' }).end()),
    ],
    [
      'answers without end',
      (server) => server.answerWith((_, response) => void response.write('[1'.repeat(200_000))),
    ],
    ['hangs up', (server) => server.answerWith((request) => request.socket.destroy())],
  ])('and %s leaves tokens unjudged, is asked again, and then they are taken', async (_, fail) => {
    fail(issuer);
    const judge = openVerifier({ attemptEveryMs: 100 });
    expect(await judge(await oldKey.sign())).toBe('unavailable');
    const sign = createTokenSigner({ ...USUAL_RULES, secret: JWT_SECRET });
    expect(await judge(await sign('eve', '1h'))).toBe('caller');

    issuer.thaw();
    await waitFor('the keys', async () => (await judge(await oldKey.sign())) === 'caller');
  });

  test('and was never read is not waited for by each caller anew', async () => {
    issuer.freeze();
    const judge = openVerifier({ attemptTimeoutMs: 50, attemptEveryMs: NEVER_MS });
    expect(await judge(await oldKey.sign())).toBe('unavailable');
    for (const token of await strangers(20)) expect(await judge(token)).toBe('unavailable');
    // It may have been given up before it arrived.
    expect(issuer.readings()).toBeLessThanOrEqual(1);
  });

  test('leaves the known keys good for a day, and the unknown ones unjudged', async () => {
    const judge = openVerifier({ attemptEveryMs: 0 });
    expect(await judge(await oldKey.sign())).toBe('caller');
    issuer.answerWith((_, response) => response.writeHead(503).end());
    expect(await judge(await newKey.sign())).toBe('unavailable');
    expect(await judge(await oldKey.sign({ sub: 'bob' }))).toBe('caller');
  });

  test('for longer than a day has its keys trusted no more', async () => {
    const judge = openVerifier({ attemptEveryMs: 0, trustedMs: 1 });
    await waitFor('the reading', () => issuer.readings() === 1);
    issuer.answerWith((_, response) => response.writeHead(503).end());
    await waitFor('the keys to be too old', async () => (await judge(await oldKey.sign())) === 'unavailable');
  });
});

test('a published key that is no key fails its own tokens alone', async () => {
  const broken = { ...newKey, publicJwk: { ...newKey.publicJwk, x: 'AAAA' } };
  issuer.publish(oldKey, broken);
  const judge = openVerifier();
  expect(await judge(await oldKey.sign())).toBe('caller');
  expect(await judge(await newKey.sign())).toBe('UNUSABLE_KEY');
});
