/** By which keys a ticket is verified: published ones, which may change, the secret, or both. */

import { createSecretKey } from 'node:crypto';
import { exportSPKI, importJWK, SignJWT } from 'jose';
import { ulid } from 'ulidx';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { ticketKeys, verifyTicket } from '../../../src/api/calls/ticket.ts';
import { createKeySet, KeysUnavailableError } from '../../../src/api/http/auth.ts';
import {
  createIssuerKey,
  ISSUER,
  openIssuer,
  type Issuer,
  type IssuerKey,
} from '../../support/jwks-server.ts';
import { JWT_SECRET } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { signTicket } from '../../support/tickets.ts';

const TYPE = 'holdfast-ticket+jwt';
const USE = { userId: 'ada', saleId: 'summer', items: [{ sku: 'mug', quantity: 1 }] };

let oldKey: IssuerKey;
let newKey: IssuerKey;
let issuer: Issuer;
beforeEach(async () => {
  [oldKey, newKey] = await Promise.all([createIssuerKey('old', 'RS256'), createIssuerKey('new')]);
  issuer = await openIssuer(oldKey);
});
afterEach(() => issuer.close());

/** No reading of the keys is given up. */
const PATIENT = { attemptTimeoutMs: 600_000, waitMs: 600_000 };

/** What becomes of a ticket: `accepted`, or why it is refused. */
function openVerifier(secret?: string, rules: { issuer?: string } = {}) {
  const keys = createKeySet(issuer.url, silent, {
    attemptEveryMs: 0,
    ...PATIENT,
  });
  onTestFinished(() => keys.stop());
  const verify = verifyTicket.bind(undefined, {
    keys: ticketKeys({ secret, keys }),
    issuer: rules.issuer,
    audience: 'holdfast',
  });
  return async (ticket: string): Promise<string> => {
    const outcome = await verify(ticket, USE);
    return outcome.kind === 'accepted' ? 'accepted' : outcome.fault;
  };
}

const claims = () => ({
  sale: 'summer',
  aud: 'holdfast',
  jti: ulid(),
  exp: Math.floor(Date.now() / 1000) + 300,
});
const sign = (key: IssuerKey, header: Record<string, unknown> = {}) =>
  key.sign(claims(), { typ: TYPE, ...header });

test("a ticket by one of the shop's published keys is accepted, and its charges are read", async () => {
  const keys = createKeySet(issuer.url, silent, PATIENT);
  onTestFinished(() => keys.stop());
  const verify = verifyTicket.bind(undefined, {
    keys: ticketKeys({ secret: undefined, keys }),
    issuer: ISSUER,
    audience: 'holdfast',
  });
  const charges = [{ code: 'shipping', name: 'Shipping', amount: 495 }];
  const ticket = await oldKey.sign({ ...claims(), charges, single_use: true }, { typ: TYPE });
  expect(await verify(ticket, USE)).toMatchObject({
    kind: 'accepted',
    ticket: { isSingleUse: true, charges },
  });
});

test('a ticket of a new key is accepted without a restart, and one of a key that is gone is forged', async () => {
  const judge = openVerifier();
  expect(await judge(await sign(oldKey))).toBe('accepted');
  issuer.publish(newKey);
  expect(await judge(await sign(newKey))).toBe('accepted');
  expect(await judge(await sign(oldKey))).toBe('forged');
});

test('a public key is never taken for a secret', async () => {
  const judge = openVerifier();
  const pem = await exportSPKI(await importPublic(oldKey.publicJwk));
  for (const secret of [pem, JSON.stringify(oldKey.publicJwk)]) {
    const forged = await new SignJWT(claims())
      .setSubject('ada')
      .setIssuer(ISSUER)
      .setProtectedHeader({ alg: 'HS256', kid: 'old', typ: TYPE })
      .sign(createSecretKey(Buffer.from(secret)));
    expect(await judge(forged)).toBe('forged');
  }
});

test('the secret signs tickets only where it may', async () => {
  const ticket = await signTicket({ sub: 'ada', sale: 'summer' });
  expect(await openVerifier()(ticket)).toBe('forged');
  expect(await openVerifier(JWT_SECRET)(ticket)).toBe('accepted');
  expect(await openVerifier(JWT_SECRET)(await sign(oldKey))).toBe('accepted');
});

test('a ticket of another issuer is forged where one is asked for', async () => {
  const judge = openVerifier(JWT_SECRET, { issuer: ISSUER });
  expect(await judge(await sign(oldKey))).toBe('accepted');
  expect(await judge(await signTicket({ sub: 'ada', sale: 'summer', iss: 'another' }))).toBe('forged');
});

test('what the header says of keys and their addresses means nothing', async () => {
  const judge = openVerifier();
  const stranger = await createIssuerKey('stranger');
  const own = { jwk: stranger.publicJwk, jku: issuer.url };
  expect(await judge(await sign(stranger, own))).toBe('forged');
  expect(await judge(await sign(stranger, { ...own, kid: 'old' }))).toBe('forged');
});

test('while the keys cannot be read nothing is said of a ticket', async () => {
  issuer.answerWith((_request, response) => response.writeHead(500).end());
  await expect(openVerifier()(await sign(oldKey))).rejects.toThrow(KeysUnavailableError);
});

async function importPublic(jwk: IssuerKey['publicJwk']) {
  const key = await importJWK(jwk, 'RS256');
  if (key instanceof Uint8Array) throw new Error('no public key');
  return key;
}
