/** The caller's identity: a bearer token (HS256) with the user id as its subject, and maybe `roles`. */

import { createSecretKey, type KeyObject } from 'node:crypto';
import { errors, jwtVerify, SignJWT } from 'jose';
import type { Middleware } from 'koa';
import { USER_ID_PATTERN } from '../../domain/limits.ts';
import { Problem } from './problem.ts';

/** What the middlewares have found out about a request's caller. */
export interface RequestState {
  userId: string;
  /** Of those that the token names, the ones we know. */
  roles: readonly Role[];
}

const ROLES = ['admin'] as const;
type Role = (typeof ROLES)[number];

/** Why a token was refused: jose's code, for a claim also its name and fault. All from fixed lists. */
export interface TokenFault {
  code: string;
  claim?: string;
  reason?: string;
}

/** RFC 6750: without a token the challenge names the scheme alone; a refused token also gets the error. */
const CHALLENGE = 'Bearer realm="holdfast"';
const INVALID_TOKEN_CHALLENGE = `${CHALLENGE}, error="invalid_token"`;
const NO_TOKEN_FORM: TokenFault = { code: 'NOT_A_TOKEN' };

const TOKEN_ISSUER = 'holdfast';
/** Clocks of shop and service may differ by this much. */
const CLOCK_TOLERANCE_SECONDS = 5;

/** @param onRefused gets the reason for each token that is sent and refused, never the token */
export function authenticate(
  secret: string,
  onRefused: (reason: TokenFault) => void,
): Middleware<RequestState> {
  // A key object is imported once; raw bytes would be with each token.
  const key = createSecretKey(Buffer.from(secret));
  return async (ctx, next) => {
    const header = ctx.get('Authorization');
    if (!/^Bearer\b/i.test(header)) throw unauthorized('Send a token: Authorization: Bearer …', CHALLENGE);
    const token = /^Bearer ([\w.-]{1,4096})$/i.exec(header)?.[1];
    const caller = token === undefined ? NO_TOKEN_FORM : await verify(token, key);
    if ('code' in caller) {
      onRefused(caller);
      throw unauthorized(
        caller.claim === 'sub' ? 'The token names no user of ours.' : 'The token is not valid, or no longer.',
        INVALID_TOKEN_CHALLENGE,
      );
    }
    Object.assign(ctx.state, caller);
    await next();
  };
}

/** After `authenticate`: lets a caller in when the token carries the role. */
export const requireAdmin: Middleware<RequestState> = async (ctx, next) => {
  if (!ctx.state.roles.includes('admin')) throw new Problem('forbidden', 'This is for administrators.');
  await next();
};

async function verify(token: string, key: KeyObject): Promise<RequestState | TokenFault> {
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms: ['HS256'],
      issuer: TOKEN_ISSUER,
      requiredClaims: ['sub', 'exp'],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
    });
    // A signer may put a number or a list there, which a pattern alone would take for text.
    const subject: unknown = payload.sub;
    if (typeof subject === 'string' && USER_ID_PATTERN.test(subject)) {
      return { userId: subject, roles: rolesOf(payload['roles']) };
    }
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error;
    return toFault(error);
  }
  return { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'sub', reason: 'not_a_user_id' };
}

/** Not jose's message, which may quote the token's header. */
function toFault(error: errors.JOSEError): TokenFault {
  const isAboutClaim = error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired;
  return isAboutClaim ? { code: error.code, claim: error.claim, reason: error.reason } : { code: error.code };
}

/** Anything but a list of names gives no role. */
function rolesOf(claim: unknown): Role[] {
  return Array.isArray(claim) ? ROLES.filter((role) => claim.includes(role)) : [];
}

function unauthorized(detail: string, challenge: string): Problem {
  return new Problem('unauthorized', detail, { headers: { 'WWW-Authenticate': challenge } });
}

/** For the demo and for tests; a shop signs its own. */
export function signToken(
  secret: string,
  userId: string,
  expiresIn: string,
  roles: readonly Role[] = [],
): Promise<string> {
  return new SignJWT(roles.length === 0 ? {} : { roles })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(userId)
    .setIssuer(TOKEN_ISSUER)
    .setIssuedAt()
    .setExpirationTime(expiresIn)
    .sign(createSecretKey(Buffer.from(secret)));
}
