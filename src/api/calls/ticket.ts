/**
 * Verifies tickets: short-lived tokens by which the shop lets one user order in one sale, and by which it may
 * add charges to the order.
 */

import { createSecretKey, hash, type KeyObject } from 'node:crypto';
import { decodeProtectedHeader, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import { CLOCK_TOLERANCE_MS } from '../../limits.ts';
import { chargesSchema } from '../../orders/content.ts';
import type { OrderUnits } from '../../orders/order.ts';
import type { AcceptedTicket } from '../../orders/reserve.redis.ts';
import { type TokenRules, ALGORITHMS, KeysUnavailableError } from '../http/auth.ts';
import type { TicketFault } from '../http/problem.ts';

/** Distinguishes a ticket from every other token that the same keys sign. */
export const TICKET_TYPE = 'holdfast-ticket+jwt';
/** Of our own tickets, which are for work that was done. No key and no issuer of a shop has these names. */
export const OWN_ISSUER = 'holdfast:proof-of-work';
export const OWN_KEY_PREFIX = 'holdfast:';
/** Half of what a request may have. Ten charges and a signature of 512 bytes take about 4,000. */
export const MAX_TICKET_CHARS = 8 * 1024;
/** A ticket is for one visit. What is spent is remembered for as long. */
const LONGEST_LIFE_MS = 60 * 60 * 1000;
const SYMMETRIC = 'HS256';

const claimsSchema = z.object({
  /** Absent where the operator asks for no issuer. */
  iss: z.string().default(''),
  sub: z.string(),
  sale: z.string(),
  /** Unix seconds. */
  exp: z.number().positive(),
  iat: z.number().optional(),
  jti: z.string().min(1).max(128),
  single_use: z.boolean().default(false),
  charges: chargesSchema.default([]),
  /** Where they are there, the order has the same: charges that were made for it suit no other. */
  items: z.array(z.object({ sku: z.string(), quantity: z.int() })).optional(),
  reference: z.string().optional(),
});

export interface TicketKeys {
  /** The key that a ticket's header names. @throws a JOSEError where there is none */
  find: JWTVerifyGetKey;
  algorithms: string[];
}

/**
 * The shop's public keys, the secret that it shares with Holdfast, or both. Which of them counts is said by
 * the algorithm, so a public key is never taken for a secret.
 */
export function ticketKeys({ secret, keys }: Pick<TokenRules, 'secret' | 'keys'>): TicketKeys {
  const shared = secret === undefined ? undefined : createSecretKey(Buffer.from(secret));
  return {
    find: (header, token) => {
      const found = header.alg === SYMMETRIC ? shared : keys?.find(header, token);
      if (found === undefined) throw new errors.JWKSNoMatchingKey();
      return found;
    },
    algorithms: [...(shared ? [SYMMETRIC] : []), ...(keys ? ALGORITHMS : [])],
  };
}

export interface TicketRules {
  keys: TicketKeys;
  /** Undefined: any issuer that has a key. */
  issuer: string | undefined;
  audience: string;
  /** Keys of our own, by their names. */
  ownKey?: (keyId: string) => KeyObject | undefined;
}

/** Of whom, and for what. */
export interface TicketUse {
  userId: string;
  saleId: string;
  /** Each SKU once. */
  items: readonly OrderUnits[];
  reference?: string;
}

export type TicketOutcome =
  | { kind: 'accepted'; ticket: AcceptedTicket }
  | { kind: 'refused'; fault: TicketFault };

/** @throws when the keys cannot be had: nothing is known of the ticket */
export async function verifyTicket(rules: TicketRules, jws: string, use: TicketUse): Promise<TicketOutcome> {
  try {
    const { payload, isOurs } = await verifySignature(rules, jws);
    const outcome = judge(payload, use);
    if (isOurs && outcome.kind === 'accepted') outcome.ticket.isOfWork = true;
    return outcome;
  } catch (error) {
    return refused(toFault(error));
  }
}

/**
 * Whose it is says the name of its key, and each side has its own keys, algorithms and issuer: neither is
 * tried with what is the other's.
 */
async function verifySignature(
  { keys, issuer, audience, ownKey }: TicketRules,
  jws: string,
): Promise<{ payload: JWTPayload; isOurs: boolean }> {
  const common = { typ: TICKET_TYPE, audience, clockTolerance: CLOCK_TOLERANCE_MS / 1000 };
  const keyId = readKeyId(jws);
  if (keyId?.startsWith(OWN_KEY_PREFIX)) {
    const own = ownKey?.(keyId);
    if (!own) throw new errors.JWKSNoMatchingKey();
    const { payload } = await jwtVerify(jws, own, {
      ...common,
      algorithms: [SYMMETRIC],
      issuer: OWN_ISSUER,
    });
    return { payload, isOurs: true };
  }
  const { payload } = await jwtVerify(jws, keys.find, {
    ...common,
    algorithms: keys.algorithms,
    ...(issuer !== undefined && { issuer }),
  });
  if (payload.iss === OWN_ISSUER) throw new errors.JWKSNoMatchingKey();
  return { payload, isOurs: false };
}

/** @throws JWSInvalid where it is no token */
function readKeyId(jws: string): string | undefined {
  try {
    return decodeProtectedHeader(jws).kid;
  } catch (error) {
    throw new errors.JWSInvalid('its header cannot be read', { cause: error });
  }
}

function judge(payload: unknown, use: TicketUse): TicketOutcome {
  const claims = claimsSchema.safeParse(payload).data;
  if (!claims) return refused('malformed');
  const { iss, sub, sale, exp, iat = 0, jti, single_use: isSingleUse, charges } = claims;
  const nowMs = Date.now();
  if (exp * 1000 > nowMs + LONGEST_LIFE_MS + CLOCK_TOLERANCE_MS) return refused('malformed');
  if (iat * 1000 > nowMs + CLOCK_TOLERANCE_MS) return refused('not_yet_valid');
  if (sub !== use.userId) return refused('other_user');
  if (sale !== use.saleId) return refused('other_sale');
  if (!isFor(claims, use)) return refused('other_order');
  const id = hash('sha256', JSON.stringify([iss, jti]), 'base64url');
  const endsAtMs = Math.ceil(exp * 1000) + CLOCK_TOLERANCE_MS;
  return { kind: 'accepted', ticket: { id, endsAtMs, isSingleUse, charges } };
}

function isFor({ items, reference }: z.infer<typeof claimsSchema>, use: TicketUse): boolean {
  if (reference !== undefined && reference !== use.reference) return false;
  if (items === undefined) return true;
  const isNamed = ({ sku, quantity }: OrderUnits) =>
    items.some((item) => item.sku === sku && item.quantity === quantity);
  return items.length === use.items.length && use.items.every(isNamed);
}

/** @throws KeysUnavailableError: the ticket may be good */
function toFault(error: unknown): TicketFault {
  if (error instanceof errors.JWTExpired) return 'expired';
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'nbf') return 'not_yet_valid';
    return error.claim === 'iss' || error.claim === 'aud' ? 'forged' : 'malformed';
  }
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return 'malformed';
  if (error instanceof KeysUnavailableError) throw error;
  // Also a key that the platform does not take, say a short one.
  return 'forged';
}

function refused(fault: TicketFault): TicketOutcome {
  return { kind: 'refused', fault };
}
