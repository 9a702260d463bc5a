/** Decides of an access token who it stands for: signed with the shop's secret, or by an issuer's key. */

import { createVerifier, TokenError } from 'fast-jwt';
import { decodeProtectedHeader, errors } from 'jose';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { userIdSchema } from '../../domain/ids.ts';
import { MAX_REMEMBERED_TOKENS } from '../../domain/limits.ts';
import { CLOCK_TOLERANCE_MS, createJwksVerifier, OTHER_TYPE, typeOf, type TokenFault } from './jwks.ts';
import type { KeySet } from './key-set.ts';
import { rightsClaims, scopesOf, type Scope } from './scopes.ts';

/** Which tokens are ours. At least one of `secret` and `keys` is there. */
export interface TokenRules {
  /** Verifies HS256. */
  secret: string | undefined;
  /** Verify the other algorithms. */
  keys: KeySet | undefined;
  issuers: readonly [string, ...string[]];
  audiences: readonly string[] | undefined;
  /** The claim that has the user's id. */
  userClaim: string;
}

export const USUAL_RULES = {
  issuers: ['holdfast'],
  audiences: undefined,
  userClaim: 'sub',
} as const satisfies Partial<TokenRules>;

export interface Caller {
  userId: string;
  scopes: ReadonlySet<Scope>;
}

export type Verdict =
  | { kind: 'caller'; caller: Caller }
  | { kind: 'refused'; fault: TokenFault }
  | { kind: 'unavailable' };

interface Remembered {
  verdict: Verdict;
  /** Unix ms by the wall clock, as in the token. */
  untilMs: number;
}

/** With RFC 9068's; a ticket is of another type, and so is what an issuer signs for other uses. */
const ACCESS_TYPES = ['jwt', 'at+jwt'];
/**
 * For how long a token of an issuer's key is remembered: with the time between two readings of the keys, the
 * longest for which a key that was taken back is accepted.
 */
const REMEMBER_MS = 5 * 60_000;

/**
 * Remembers a token that was good until it expires: a shopper who asks for the status again costs no
 * signature. A refused token is never remembered, so no forger fills the memory.
 * @returns the verdict at once, without the thread pool, for what is remembered or signed with the secret
 */
export function createTokenVerifier(rules: TokenRules): (token: string) => Verdict | Promise<Verdict> {
  const remembered = new LRUCache<string, Remembered>({ max: MAX_REMEMBERED_TOKENS });
  const bySecret = rules.secret === undefined ? undefined : createSecretVerifier(rules, rules.secret);
  const byKeys = rules.keys && createJwksVerifier({ ...rules, keys: rules.keys, types: ACCESS_TYPES });

  function judge(token: string, payload: unknown, rememberUntilMs: number): Verdict {
    const claims = accessClaims.safeParse(payload).data;
    const userId = userIdSchema.safeParse(claims?.[rules.userClaim]).data;
    if (!claims) return refused('MALFORMED_CLAIM');
    if (userId === undefined) return refused('NOT_A_USER_ID', rules.userClaim);
    if ((claims.iat ?? 0) * 1_000 > Date.now() + CLOCK_TOLERANCE_MS) return refused('NOT_ISSUED_YET', 'iat');
    const verdict: Verdict = { kind: 'caller', caller: { userId, scopes: scopesOf(claims) } };
    const expiresAtMs = claims.exp * 1_000 + CLOCK_TOLERANCE_MS;
    remembered.set(token, { verdict, untilMs: Math.min(expiresAtMs, rememberUntilMs) });
    return verdict;
  }

  async function verifyByKeys(token: string, verify: NonNullable<typeof byKeys>): Promise<Verdict> {
    const verified = await verify(token);
    return verified.kind === 'verified' ? judge(token, verified.claims, Date.now() + REMEMBER_MS) : verified;
  }

  return (token) => {
    const known = remembered.get(token);
    if (known && Date.now() <= known.untilMs) return known.verdict;
    if (byKeys && !(bySecret && isHmac(token))) return verifyByKeys(token, byKeys);
    const verified = bySecret?.(token) ?? refused('NO_KEY');
    return 'claims' in verified ? judge(token, verified.claims, Infinity) : verified;
  };
}

/** What the libraries leave to us; signers may put anything there. Zod takes no number without an end. */
const accessClaims = rightsClaims.extend({ exp: z.number(), iat: z.number().optional() }).loose();

function refused(code: string, claim?: string): Verdict & { kind: 'refused' } {
  return { kind: 'refused', fault: claim === undefined ? { code } : { code, claim } };
}

/** By what the token says of itself: each verifier takes its own algorithms alone. */
function isHmac(token: string): boolean {
  try {
    return decodeProtectedHeader(token).alg?.startsWith('HS') === true;
  } catch (error) {
    if (error instanceof TypeError || error instanceof errors.JOSEError) return false;
    throw error;
  }
}

/** Only the header's type is looked at; the claims are judged later. */
const completeToken = z.object({ header: z.object({ typ: z.unknown().optional() }), payload: z.unknown() });

function createSecretVerifier({ issuers, audiences, userClaim }: TokenRules, secret: string) {
  const read = createVerifier({
    key: secret,
    algorithms: ['HS256'],
    complete: true,
    allowedIss: [...issuers],
    ...(audiences === undefined ? {} : { allowedAud: [...audiences] }),
    requiredClaims: ['iss', userClaim, 'exp', ...(audiences === undefined ? [] : ['aud'])],
    clockTolerance: CLOCK_TOLERANCE_MS,
  });
  return (token: string): { claims: unknown } | (Verdict & { kind: 'refused' }) => {
    try {
      const { header, payload } = completeToken.parse(read(token));
      return ACCESS_TYPES.includes(typeOf(header.typ))
        ? { claims: payload }
        : { kind: 'refused', fault: OTHER_TYPE };
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      return { kind: 'refused', fault: toFault(error) };
    }
  };
}

/** The library's message names the claim, one of those asked for; the rest of it may quote the token. */
function toFault({ code, message }: TokenError): TokenFault {
  const claim = code === 'FAST_JWT_EXPIRED' ? 'exp' : /^(?:The|None of) (\S+) claim\b/.exec(message)?.[1];
  return claim === undefined ? { code } : { code, claim };
}
