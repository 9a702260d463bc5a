/** The shop's own key. It signs shoppers' tokens, tickets, and the tokens of the shop's programs. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, jwtVerify, SignJWT } from 'jose';
import { dataDir, shopUrl } from './settings.js';

const ALGORITHM = 'ES256';
const AUDIENCE = 'holdfast';

const privateJwk = await readOrMakeKey();
const { d: _secret, ...publicJwk } = privateJwk;
const [privateKey, publicKey] = await Promise.all([importJWK(privateJwk), importJWK(publicJwk)]);

/** What `/.well-known/jwks.json` shows. */
export const jwks = { keys: [publicJwk] };

/** The first program that starts makes the key, and the others find it. */
async function readOrMakeKey() {
  const file = join(dataDir, 'key.json');
  const pair = await generateKeyPair(ALGORITHM, { extractable: true });
  const jwk = await exportJWK(pair.privateKey);
  const made = { ...jwk, kid: await calculateJwkThumbprint(jwk), alg: ALGORITHM, use: 'sig' };
  if (!existsSync(file)) writeFileSync(file, JSON.stringify(made), { flag: 'wx', mode: 0o600 });
  /** @type {typeof made} */
  const kept = JSON.parse(readFileSync(file, 'utf8'));
  return kept;
}

/**
 * @param {string} subject
 * @param {string} lifetime such as `10m`
 * @param {Record<string, unknown>} claims
 * @param {string} type
 */
function sign(subject, lifetime, claims, type) {
  return new SignJWT(claims)
    .setProtectedHeader({ alg: ALGORITHM, kid: privateJwk.kid, typ: type })
    .setIssuer(shopUrl)
    .setAudience(AUDIENCE)
    .setSubject(subject)
    .setIssuedAt()
    .setJti(crypto.randomUUID())
    .setExpirationTime(lifetime)
    .sign(privateKey);
}

/** @param {string} userId the shop's own id of a shopper, whatever it looks like */
export const signShopperToken = (userId) => sign(userId, '1h', {}, 'JWT');

/**
 * A program of the shop: it may do what its scopes say, and no more.
 * @param {string} name
 * @param {string} scope such as `sales:read sales:write`
 */
export const signServiceToken = (name, scope) => sign(name, '10m', { scope }, 'JWT');

/**
 * Lets one shopper place this order and no other, to which it adds the charges.
 * @param {string} userId
 * @param {{ sale: string, items: { sku: string, quantity: number }[], reference: string,
 *   charges: { code: string, name: string, amount: number }[] }} order
 */
export const signTicket = (userId, order) =>
  sign(userId, '10m', { ...order, single_use: true }, 'holdfast-ticket+jwt');

/**
 * @param {string} token of a shopper
 * @returns {Promise<string | undefined>} the user's id
 */
export async function readShopperToken(token) {
  try {
    const { payload } = await jwtVerify(token, publicKey, {
      issuer: shopUrl,
      audience: AUDIENCE,
      typ: 'JWT',
    });
    return payload.sub;
  } catch {
    return undefined;
  }
}
