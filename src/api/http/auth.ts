/** The caller's identity: a bearer token with the user's id, and maybe rights. */

import { createSecretKey } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { createVerifier, TokenError } from 'fast-jwt';
import { decodeProtectedHeader, errors, SignJWT } from 'jose';
import type { Middleware } from 'koa';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { userIdSchema } from '../../domain/ids.ts';
import { MAX_REMEMBERED_TOKENS } from '../../domain/limits.ts';
import {
  CLOCK_TOLERANCE_MS,
  createJwksVerifier,
  OTHER_TYPE,
  typeOf,
  type TokenFault,
  type KeySet,
} from './jwks.ts';
import { Problem } from './problem.ts';
import { type Scope, type Role, rightsClaims, scopesOf } from './scopes.ts';

/** After `authenticate`: lets a caller in whose token has the scope, by itself or by a role. */
export function allow(scope: Scope): Middleware<{ scopes: ReadonlySet<Scope> }> {
  return (ctx, next) => {
    if (!ctx.state.scopes.has(scope)) throw forbidden(scope);
    return next();
  };
}

/** RFC 6750, 3.1: the token is good, and not good enough for this. */
function forbidden(scope: Scope): Problem {
  const challenge = `Bearer realm="holdfast", error="insufficient_scope", scope="${scope}"`;
  return new Problem('forbidden', 'The token does not have the scope that this call needs.', {
    extra: { scope },
    headers: { 'WWW-Authenticate': challenge },
  });
}

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

interface Caller {
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

/** What the middlewares have found out about a request's caller. */
export type RequestState = Caller;

/** RFC 6750: without a token the challenge names the scheme alone; a refused token also gets the error. */
const CHALLENGE = 'Bearer realm="holdfast"';
const INVALID_TOKEN_CHALLENGE = `${CHALLENGE}, error="invalid_token"`;
const AUTHORIZATION = 'authorization';
const TOKEN_HEADER = /^Bearer ([\w.-]{1,4096})$/i;
const NO_TOKEN_FORM: Verdict = { kind: 'refused', fault: { code: 'NOT_A_TOKEN' } };

/** While an issuer's keys cannot be read, they are tried again so often. */
const KEYS_RETRY_SECONDS = 10;

/**
 * Comes before the lane: who waits for an issuer's new key occupies no place.
 * @param onRefused gets the reason for each token that is sent and refused, never the token
 */
export function authenticate(
  rules: TokenRules,
  onRefused: (reason: TokenFault) => void,
): (ctx: { req: IncomingMessage; state: RequestState }, next: () => Promise<unknown>) => Promise<unknown> {
  const verify = createTokenVerifier(rules);

  function callerOf(verdict: Verdict): Caller {
    switch (verdict.kind) {
      case 'caller':
        return verdict.caller;
      case 'refused':
        onRefused(verdict.fault);
        throw unauthorized(
          verdict.fault.claim === rules.userClaim
            ? 'The token names no user of ours.'
            : 'The token is not valid, or no longer.',
          INVALID_TOKEN_CHALLENGE,
        );
      case 'unavailable':
        throw new Problem('keys_unavailable', 'The token cannot be judged right now.', {
          retryAfterSeconds: KEYS_RETRY_SECONDS,
        });
      default:
        return verdict satisfies never;
    }
  }

  return (ctx, next) => {
    if (isRepeated(ctx.req.rawHeaders))
      throw new Problem('malformed_request', 'Send one Authorization header.');
    const header = ctx.req.headers.authorization ?? '';
    const token = TOKEN_HEADER.exec(header)?.[1];
    if (token === undefined && !/^Bearer\b/i.test(header)) {
      throw unauthorized('Send a token: Authorization: Bearer …', CHALLENGE);
    }
    const goOn = (verdict: Verdict): Promise<unknown> => {
      const { userId, scopes } = callerOf(verdict);
      ctx.state.userId = userId;
      ctx.state.scopes = scopes;
      return next();
    };
    const verdict = token === undefined ? NO_TOKEN_FORM : verify(token);
    return verdict instanceof Promise ? verdict.then(goOn) : goOn(verdict);
  };
}

/** Node keeps the first and drops the others, where another part of the way may go by the last. */
function isRepeated(rawHeaders: readonly string[]): boolean {
  let found = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name?.length === AUTHORIZATION.length && name.toLowerCase() === AUTHORIZATION) found += 1;
  }
  return found > 1;
}

function unauthorized(detail: string, challenge: string): Problem {
  return new Problem('unauthorized', detail, { headers: { 'WWW-Authenticate': challenge } });
}

export interface Rights {
  roles?: readonly Role[];
  /** With spaces between. */
  scope?: string;
}

/** @param expiresIn such as `12h` or `30d` */
export type SignToken = (userId: string, expiresIn: string, rights?: Rights) => Promise<string>;

/** Signs tokens that these rules take; a shop signs its shoppers' own. */
export function createTokenSigner({
  secret,
  issuers: [issuer],
  audiences: [audience] = [],
  userClaim,
}: Omit<TokenRules, 'keys'> & { secret: string }): SignToken {
  const key = createSecretKey(Buffer.from(secret));
  return (userId, expiresIn, rights = {}) => {
    const token = new SignJWT({ ...rights, [userClaim]: userId })
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer(issuer)
      .setIssuedAt()
      .setExpirationTime(expiresIn);
    if (audience !== undefined) token.setAudience(audience);
    return token.sign(key);
  };
}

/** For the demo and for tests, where all rules are the usual ones. */
export function signToken(secret: string, ...rest: Parameters<SignToken>): Promise<string> {
  return createTokenSigner({ ...USUAL_RULES, secret })(...rest);
}
