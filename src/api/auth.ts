/** Who is asking: a bearer token, signed with HS256; its subject is the user id, its claim `roles` what else they may do. */

import { createSecretKey, type KeyObject } from 'node:crypto';
import { errors, jwtVerify, SignJWT } from 'jose';
import type { Middleware } from 'koa';
import { USER_ID_PATTERN } from '../domain/limits.ts';
import { Problem } from './problem.ts';

/** What the middlewares know about a request. */
export interface RequestState {
  userId: string;
  /** Of those that the token names, the ones we know. */
  roles: readonly Role[];
}

const ROLES = ['admin'] as const;
type Role = (typeof ROLES)[number];

const TOKEN_ISSUER = 'holdfast';
/** Clocks of shop and service may differ by this much. */
const CLOCK_TOLERANCE_SECONDS = 5;

export function authenticate(secret: string): Middleware<RequestState> {
  // A key object is imported once; raw bytes would be with each token.
  const key = createSecretKey(Buffer.from(secret));
  return async (ctx, next) => {
    const token = /^Bearer ([\w.-]{1,4096})$/.exec(ctx.get('Authorization'))?.[1];
    if (token === undefined) throw unauthorized('Send a token: Authorization: Bearer …');
    Object.assign(ctx.state, await verify(token, key));
    await next();
  };
}

/** After `authenticate`: lets in whose token carries the role. */
export const requireAdmin: Middleware<RequestState> = async (ctx, next) => {
  if (!ctx.state.roles.includes('admin')) throw new Problem(403, 'forbidden', 'This is for administrators.');
  await next();
};

async function verify(token: string, key: KeyObject): Promise<RequestState> {
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms: ['HS256'],
      issuer: TOKEN_ISSUER,
      requiredClaims: ['sub', 'exp'],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
    });
    // Whoever signs may put a number or a list there, which a pattern alone would take for text.
    const subject: unknown = payload.sub;
    if (typeof subject === 'string' && USER_ID_PATTERN.test(subject)) {
      return { userId: subject, roles: rolesOf(payload['roles']) };
    }
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error;
    throw unauthorized('The token is not valid, or no longer.', error);
  }
  throw unauthorized('The token names no user.');
}

/** Anything but a list of names gives no role. */
function rolesOf(claim: unknown): Role[] {
  return Array.isArray(claim) ? ROLES.filter((role) => claim.includes(role)) : [];
}

function unauthorized(detail: string, cause?: unknown): Problem {
  return new Problem(401, 'unauthorized', detail, { cause });
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
