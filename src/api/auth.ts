/** Who is asking: a bearer token, signed with HS256; its subject is the user id. */

import { createSecretKey, type KeyObject } from 'node:crypto';
import { errors, jwtVerify, SignJWT } from 'jose';
import type { Middleware } from 'koa';
import { USER_ID_PATTERN } from '../domain/limits.ts';
import { Problem } from './problem.ts';

/** What the middlewares know about a request. */
export interface RequestState {
  userId: string;
}

const TOKEN_ISSUER = 'holdfast';
/** Clocks of shop and service may differ by this much. */
const CLOCK_TOLERANCE_SECONDS = 5;

export function authenticate(secret: string): Middleware<RequestState> {
  // A key object is imported once; raw bytes would be with each token.
  const key = createSecretKey(Buffer.from(secret));
  return async (ctx, next) => {
    const token = /^Bearer ([\w.-]{1,4096})$/.exec(ctx.get('Authorization'))?.[1];
    if (token === undefined) throw unauthorized('Send a token: Authorization: Bearer …');
    ctx.state.userId = await verify(token, key);
    await next();
  };
}

async function verify(token: string, key: KeyObject): Promise<string> {
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms: ['HS256'],
      issuer: TOKEN_ISSUER,
      requiredClaims: ['sub', 'exp'],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
    });
    // Whoever signs may put a number or a list there, which a pattern alone would take for text.
    const subject: unknown = payload.sub;
    if (typeof subject === 'string' && USER_ID_PATTERN.test(subject)) return subject;
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error;
    throw unauthorized('The token is not valid, or no longer.', error);
  }
  throw unauthorized('The token names no user.');
}

function unauthorized(detail: string, cause?: unknown): Problem {
  return new Problem(401, 'unauthorized', detail, { cause });
}

/** For the demo and for tests; a shop signs its own. */
export function signToken(secret: string, userId: string, expiresIn: string): Promise<string> {
  return new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(userId)
    .setIssuer(TOKEN_ISSUER)
    .setIssuedAt()
    .setExpirationTime(expiresIn)
    .sign(createSecretKey(Buffer.from(secret)));
}
