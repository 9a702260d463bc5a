/** The caller's identity: a bearer token with the user's id, and maybe rights. */

import { createSecretKey } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { SignJWT } from 'jose';
import type { TokenFault } from './jwks.ts';
import { Problem } from './problem.ts';
import type { Role } from './scopes.ts';
import {
  createTokenVerifier,
  USUAL_RULES,
  type Caller,
  type TokenRules,
  type Verdict,
} from './token-verifier.ts';

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
