/** The caller's identity: a bearer token (HS256) with the user id as its subject, and maybe rights. */

import { createSecretKey } from 'node:crypto';
import { createVerifier, TokenError } from 'fast-jwt';
import { SignJWT } from 'jose';
import type { Middleware } from 'koa';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { userIdSchema } from '../../domain/ids.ts';
import { MAX_REMEMBERED_TOKENS } from '../../domain/limits.ts';
import { Problem } from './problem.ts';
import { rightsClaims, scopesOf, type Role, type Scope } from './scopes.ts';

/** What the middlewares have found out about a request's caller. */
export interface RequestState {
  userId: string;
  scopes: ReadonlySet<Scope>;
}

/** Why a token was refused: fast-jwt's code, for a claim also its name. Both from fixed lists. */
export interface TokenFault {
  code: string;
  claim?: string;
}

/** RFC 6750: without a token the challenge names the scheme alone; a refused token also gets the error. */
const CHALLENGE = 'Bearer realm="holdfast"';
const INVALID_TOKEN_CHALLENGE = `${CHALLENGE}, error="invalid_token"`;
const TOKEN_HEADER = /^Bearer ([\w.-]{1,4096})$/i;
const NO_TOKEN_FORM: TokenFault = { code: 'NOT_A_TOKEN' };

const TOKEN_ISSUER = 'holdfast';
/** Clocks of shop and service may differ by this much. */
const CLOCK_TOLERANCE_MS = 5_000;

/** @param onRefused gets the reason for each token that is sent and refused, never the token */
export function authenticate(
  secret: string,
  onRefused: (reason: TokenFault) => void,
): Middleware<RequestState> {
  const verify = createTokenVerifier(secret);
  return (ctx, next) => {
    const header = ctx.req.headers.authorization ?? '';
    const token = TOKEN_HEADER.exec(header)?.[1];
    if (token === undefined && !/^Bearer\b/i.test(header)) {
      throw unauthorized('Send a token: Authorization: Bearer …', CHALLENGE);
    }
    const caller = token === undefined ? NO_TOKEN_FORM : verify(token);
    if ('code' in caller) {
      onRefused(caller);
      throw unauthorized(
        caller.claim === 'sub' ? 'The token names no user of ours.' : 'The token is not valid, or no longer.',
        INVALID_TOKEN_CHALLENGE,
      );
    }
    ctx.state.userId = caller.userId;
    ctx.state.scopes = caller.scopes;
    return next();
  };
}

/** What the library leaves to us. Its `exp` is checked there, as a number and as a time. */
const tokenClaims = rightsClaims.extend({
  sub: userIdSchema,
  exp: z.number(),
});
const NOT_A_USER_ID: TokenFault = { code: 'NOT_A_USER_ID', claim: 'sub' };

interface Remembered {
  caller: RequestState;
  /** Unix ms by the wall clock, as in the token. */
  untilMs: number;
}

/**
 * Verifies at once, without the thread pool, and remembers a token that was good until it expires: a shopper
 * who asks for the status again costs no signature. A refused token is never remembered.
 */
function createTokenVerifier(secret: string): (token: string) => RequestState | TokenFault {
  const remembered = new LRUCache<string, Remembered>({ max: MAX_REMEMBERED_TOKENS });
  const readClaims = createVerifier({
    key: secret,
    algorithms: ['HS256'],
    allowedIss: TOKEN_ISSUER,
    requiredClaims: ['iss', 'sub', 'exp'],
    clockTolerance: CLOCK_TOLERANCE_MS,
  });

  return (token) => {
    const known = remembered.get(token);
    if (known && Date.now() <= known.untilMs) return known.caller;
    try {
      const claims = tokenClaims.safeParse(readClaims(token)).data;
      if (!claims) return NOT_A_USER_ID;
      const caller = { userId: claims.sub, scopes: scopesOf(claims) };
      remembered.set(token, { caller, untilMs: claims.exp * 1_000 + CLOCK_TOLERANCE_MS });
      return caller;
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      return toFault(error);
    }
  };
}

/** The library's message names the claim first; the rest of it may quote the token. */
function toFault({ code, message }: TokenError): TokenFault {
  const claim = code === 'FAST_JWT_EXPIRED' ? 'exp' : /^The (iss|sub|exp|nbf) claim\b/.exec(message)?.[1];
  return claim === undefined ? { code } : { code, claim };
}

function unauthorized(detail: string, challenge: string): Problem {
  return new Problem('unauthorized', detail, { headers: { 'WWW-Authenticate': challenge } });
}

export interface Rights {
  roles?: readonly Role[];
  /** With spaces between. */
  scope?: string;
}

/** For the demo and for tests; a shop signs its own. */
export function signToken(
  secret: string,
  userId: string,
  expiresIn: string,
  rights: Rights = {},
): Promise<string> {
  return new SignJWT({ ...rights })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(userId)
    .setIssuer(TOKEN_ISSUER)
    .setIssuedAt()
    .setExpirationTime(expiresIn)
    .sign(createSecretKey(Buffer.from(secret)));
}
