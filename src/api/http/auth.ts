/** Who calls: tokens, signed with a secret or with an issuer's keys, and what their scopes allow. */

import { createSecretKey } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { createVerifier } from 'fast-jwt';
import {
  decodeProtectedHeader,
  errors,
  SignJWT,
  createLocalJWKSet,
  type JWTVerifyGetKey,
  jwtVerify,
  type JWTPayload,
} from 'jose';
import type { Middleware } from 'koa';
import { LRUCache } from 'lru-cache';
import type { Logger } from 'pino';
import { z } from 'zod';
import { CLOCK_TOLERANCE_MS } from '../../limits.ts';
import { userIdSchema } from '../../orders/content.ts';
import { Problem } from './problem.ts';
import { SCOPES, type Scope, ROLE_SCOPES, type Role } from './scopes.ts';
import { faultOfKey, faultOfSecret, faultOfTime, OTHER_TYPE, type TokenFault } from './token-faults.ts';

/**
 * Tokens that one API process remembers as verified. As many shoppers as may be connected to it, each of whom
 * asks several times; a full memory takes about 10 MB, and 60 MB if
 * all had the greatest length.
 */
const MAX_REMEMBERED_TOKENS = 15_000;

export function isScope(name: unknown): name is Scope {
  return SCOPES.some((scope) => scope === name);
}

export function isRole(name: unknown): name is Role {
  return typeof name === 'string' && Object.hasOwn(ROLE_SCOPES, name);
}

// What a caller may do, by its token's claims.

/** A token's claims about rights, whatever a signer has put there. */
export const rightsClaims = z.object({
  roles: z.unknown().optional(),
  /** RFC 8693: names with spaces between. */
  scope: z.unknown().optional(),
  scopes: z.unknown().optional(),
});

/** Shared by all tokens without rights, which are nearly all. */
const NONE: ReadonlySet<Scope> = new Set();

/**
 * All that the claims give together. Names that are not ours, and claims of another shape, give nothing.
 */
export function scopesOf({ roles, scope, scopes }: z.infer<typeof rightsClaims>): ReadonlySet<Scope> {
  const named = [...namesIn(scopes), ...(typeof scope === 'string' ? scope.split(' ') : [])];
  const byRole = namesIn(roles).flatMap((role) => (isRole(role) ? ROLE_SCOPES[role] : []));
  const given = SCOPES.filter((known) => named.includes(known) || byRole.includes(known));
  return given.length === 0 ? NONE : new Set(given);
}

function namesIn(claim: unknown): unknown[] {
  return Array.isArray(claim) ? claim : [];
}

// Tokens, and what a request is allowed by its own.

/** After `authenticate`: lets a caller in whose token has the scope, by itself or by a role. */
export function allow(scope: Scope): Middleware<{ scopes: ReadonlySet<Scope> }> {
  return (ctx, next) => {
    if (!ctx.state.scopes.has(scope)) throw forbidden(scope);
    return next();
  };
}

/** RFC 6750, 3.1: the token is good, and not good enough for this. */
export function forbidden(scope: Scope): Problem {
  const challenge = `Bearer realm="holdfast", error="insufficient_scope", scope="${scope}"`;
  return new Problem('forbidden', {
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
  /** When the token expires: Unix ms by the wall clock, as in the token. */
  expiresAtMs: number;
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
 * @param onJudged is told of each token that was verified, not of one that is remembered
 * @returns the verdict at once, without the thread pool, for what is remembered or signed with the secret
 */
export function createTokenVerifier(
  rules: TokenRules,
  onJudged: (verdict: Verdict) => void = () => {},
): (token: string) => Verdict | Promise<Verdict> {
  const remembered = new LRUCache<string, Remembered>({ max: MAX_REMEMBERED_TOKENS });
  const bySecret = rules.secret === undefined ? undefined : createSecretVerifier(rules, rules.secret);
  const byKeys = rules.keys && createJwksVerifier({ ...rules, keys: rules.keys, types: ACCESS_TYPES });

  function judge(token: string, payload: unknown, rememberUntilMs: number): Verdict {
    const claims = accessClaims.safeParse(payload).data;
    const userId = userIdSchema.safeParse(claims?.[rules.userClaim]).data;
    if (!claims) return refused({ reason: 'malformed', code: 'MALFORMED_CLAIM' });
    if (userId === undefined)
      return refused({ reason: 'no_user', code: 'NOT_A_USER_ID', claim: rules.userClaim });
    if ((claims.iat ?? 0) * 1_000 > Date.now() + CLOCK_TOLERANCE_MS)
      return refused(faultOfTime('not_yet_valid', 'NOT_ISSUED_YET', 'iat', claims.iat));
    const expiresAtMs = claims.exp * 1_000 + CLOCK_TOLERANCE_MS;
    const verdict: Verdict = { kind: 'caller', caller: { userId, scopes: scopesOf(claims), expiresAtMs } };
    remembered.set(token, { verdict, untilMs: Math.min(expiresAtMs, rememberUntilMs) });
    return verdict;
  }

  async function verifyByKeys(token: string, verify: NonNullable<typeof byKeys>): Promise<Verdict> {
    const verified = await verify(token);
    return verified.kind === 'verified' ? judge(token, verified.claims, Date.now() + REMEMBER_MS) : verified;
  }

  function verifyAnew(token: string): Verdict | Promise<Verdict> {
    if (byKeys && !(bySecret && isHmac(token))) return verifyByKeys(token, byKeys);
    const verified = bySecret?.(token) ?? refused({ reason: 'unknown_key', code: 'NO_KEY' });
    return 'claims' in verified ? judge(token, verified.claims, Infinity) : verified;
  }

  return (token) => {
    const known = remembered.get(token);
    if (known && Date.now() <= known.untilMs) return known.verdict;
    const report = (judged: Verdict): Verdict => {
      const verdict = known ? judged : asUnseen(judged);
      onJudged(verdict);
      return verdict;
    };
    const verdict = verifyAnew(token);
    return verdict instanceof Promise ? verdict.then(report) : report(verdict);
  };
}

/** A token that has expired and that this process has never taken. Where most are so, a clock is wrong. */
function asUnseen(verdict: Verdict): Verdict {
  if (verdict.kind !== 'refused' || verdict.fault.reason !== 'expired') return verdict;
  return refused({ ...verdict.fault, reason: 'expired_unseen' });
}

/** What the libraries leave to us; signers may put anything there. Zod takes no number without an end. */
const accessClaims = rightsClaims.extend({ exp: z.number(), iat: z.number().optional() }).loose();

function refused(fault: TokenFault): Verdict & { kind: 'refused' } {
  return { kind: 'refused', fault };
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
      return ACCESS_TYPES.includes(typeOf(header.typ)) ? { claims: payload } : refused(OTHER_TYPE);
    } catch (error) {
      return refused(faultOfSecret(error, token));
    }
  };
}

/** What the middlewares have found out about a request's caller. */
export type RequestState = Caller;

/** RFC 6750: without a token the challenge names the scheme alone; a refused token also gets the error. */
const CHALLENGE = 'Bearer realm="holdfast"';
const INVALID_TOKEN_CHALLENGE = `${CHALLENGE}, error="invalid_token"`;
const AUTHORIZATION = 'authorization';
const TOKEN_HEADER = /^Bearer ([\w.-]{1,4096})$/i;
const NO_TOKEN_FORM = refused({ reason: 'malformed', code: 'NOT_A_TOKEN' });

/** While an issuer's keys cannot be read, they are tried again so often. */
const KEYS_RETRY_SECONDS = 10;

/**
 * Comes before the lane: who waits for an issuer's new key occupies no place.
 * @param onJudged is told of each token that was verified or is none, never the token
 */
export function authenticate(
  rules: TokenRules,
  onJudged: (verdict: Verdict) => void,
): (ctx: { req: IncomingMessage; state: RequestState }, next: () => Promise<unknown>) => Promise<unknown> {
  const verify = createTokenVerifier(rules, onJudged);

  function callerOf(verdict: Verdict): Caller {
    switch (verdict.kind) {
      case 'caller':
        return verdict.caller;
      case 'refused':
        throw unauthorized(
          verdict.fault.claim === rules.userClaim
            ? 'The token names no user of ours.'
            : 'The token is not valid, or no longer.',
          INVALID_TOKEN_CHALLENGE,
        );
      case 'unavailable':
        throw new Problem('keys_unavailable', {
          retryAfterSeconds: KEYS_RETRY_SECONDS,
        });
      default:
        return verdict satisfies never;
    }
  }

  return (ctx, next) => {
    if (isRepeated(ctx.req.rawHeaders))
      throw new Problem('malformed_request', { detail: 'Send one Authorization header.' });
    const header = ctx.req.headers.authorization ?? '';
    const token = TOKEN_HEADER.exec(header)?.[1];
    if (token === undefined && !/^Bearer\b/i.test(header)) {
      throw unauthorized('Send a token: Authorization: Bearer …', CHALLENGE);
    }
    const goOn = (verdict: Verdict): Promise<unknown> => {
      const { userId, scopes, expiresAtMs } = callerOf(verdict);
      ctx.state.userId = userId;
      ctx.state.scopes = scopes;
      ctx.state.expiresAtMs = expiresAtMs;
      return next();
    };
    if (token === undefined) onJudged(NO_TOKEN_FORM);
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
  return new Problem('unauthorized', { detail, headers: { 'WWW-Authenticate': challenge } });
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

// The public keys at an address (a JSON Web Key Set), read ahead of the callers: once at start, then every
// few minutes. A caller whose key is known never waits for the server there, however slow it is; another
// waits for a moment.

export interface KeySetBounds {
  refreshEveryMs: number;
  attemptEveryMs: number;
  attemptTimeoutMs: number;
  waitMs: number;
  trustedMs: number;
}

const BOUNDS: KeySetBounds = {
  /** A key that was taken back is accepted for so long at most, while the server answers. */
  refreshEveryMs: 5 * 60_000,
  /** At most one reading in this time, whatever callers send: also the wait after a reading that failed. */
  attemptEveryMs: 10_000,
  /** A slow server is still read from. */
  attemptTimeoutMs: 3_000,
  /**
   * After so much of a reading no caller waits for its end: with forged ids of keys, which cost nothing, all
   * places for purchases would else stand still for as long as a hanging server does.
   */
  waitMs: 500,
  /** A server that has been away for a day cannot take a key back any more. */
  trustedMs: 24 * 60 * 60_000,
};

/** Some dozens of keys, with certificates. */
const MAX_KEY_SET_BYTES = 256 * 1024;

/** The keys could not be read, so a token can be neither accepted nor refused. */
export class KeysUnavailableError extends Error {
  override name = 'KeysUnavailableError';
}

export interface KeySet {
  /**
   * The key that a token's header names, as jose asks for it.
   * @throws JWKSNoMatchingKey when keys read just now have none such; KeysUnavailableError when they could
   *   not be read, or not within a moment
   */
  find: JWTVerifyGetKey;
  /** Resolves when the first reading has ended, successful or not. */
  begun: Promise<unknown>;
  stop: () => void;
}

/** @param overrides for tests, which wait less */
export function createKeySet(url: string, log: Logger, overrides: Partial<KeySetBounds> = {}): KeySet {
  const bounds = { ...BOUNDS, ...overrides };
  let keys: JWTVerifyGetKey | undefined;
  let readAtMs = -Infinity;
  let attemptedAtMs = -Infinity;
  /** Under way; false: the keys could not be read. */
  let attempt: Promise<boolean> = Promise.resolve(false);
  /** As `attempt`, and false once it has taken too long to be waited for. */
  let answer: Promise<boolean> = attempt;
  let isReading = false;
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;

  async function read(): Promise<boolean> {
    try {
      keys = await fetchKeys(url, bounds.attemptTimeoutMs);
      readAtMs = performance.now();
      return true;
    } catch (error) {
      log.error({ err: error, url }, 'the keys of tokens could not be read');
      return false;
    }
  }

  /** One reading at a time, for all who ask. */
  function startReading(): Promise<boolean> {
    clearTimeout(timer);
    isReading = true;
    attemptedAtMs = performance.now();
    attempt = read().then((succeeded) => {
      isReading = false;
      const nextInMs = succeeded ? bounds.refreshEveryMs : bounds.attemptEveryMs;
      if (!isStopped) timer = setTimeout(() => void startReading(), nextInMs).unref();
      return succeeded;
    });
    answer = Promise.race([attempt, delay(bounds.waitMs, false, { ref: false })]);
    return attempt;
  }

  /** The newest keys that can be had now. */
  function readAgain(): Promise<boolean> {
    const mayAsk = performance.now() - attemptedAtMs >= bounds.attemptEveryMs;
    if (!isReading && mayAsk) void startReading();
    return isReading ? answer : attempt;
  }

  async function lookUp(...[header, token]: Parameters<JWTVerifyGetKey>) {
    const known = performance.now() - readAtMs < bounds.trustedMs ? keys : undefined;
    if (known === undefined) return undefined;
    try {
      return await known(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) return undefined;
      throw error;
    }
  }

  const begun = startReading();
  return {
    begun,
    async find(header, token) {
      const known = await lookUp(header, token);
      if (known !== undefined) return known;
      const isUpToDate = await readAgain();
      const found = await lookUp(header, token);
      if (found !== undefined) return found;
      if (isUpToDate) throw new errors.JWKSNoMatchingKey();
      throw new KeysUnavailableError('no keys to judge the token by');
    },

    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}

async function fetchKeys(url: string, timeoutMs: number): Promise<JWTVerifyGetKey> {
  const response = await fetch(url, {
    headers: { accept: 'application/jwk-set+json, application/json' },
    // Only the operator says where keys come from.
    redirect: 'error',
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (response.status !== 200) throw new Error(`the server of the keys answered ${response.status}`);
  return createLocalJWKSet(keySet.parse(JSON.parse(await readBounded(response))));
}

const keySet = z.looseObject({ keys: z.array(z.looseObject({ kty: z.string() })) });

async function readBounded({ body }: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_KEY_SET_BYTES) throw new Error(`the keys are more than ${MAX_KEY_SET_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

type Verified =
  | { kind: 'verified'; claims: JWTPayload }
  | { kind: 'refused'; fault: TokenFault }
  /** The keys could not be read: the token may be good. */
  | { kind: 'unavailable' };

interface JwksRules {
  keys: KeySet;
  /** One of them signed the token. */
  issuers: readonly string[];
  /** The token is for one of them; undefined: whatever it is for. */
  audiences: readonly string[] | undefined;
  /** Types of tokens as `typeOf` names them: a token of one kind must not pass for another. */
  types: readonly string[];
}

/**
 * Never a symmetric one: the public key, which everyone has, would be its secret. EdDSA is the older name,
 * Ed25519 the newer one.
 */
export const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'];

type VerifyByJwks = (token: string) => Promise<Verified>;

/**
 * Checks signature, type, `iss`, `aud`, `nbf`, and `exp`, which must be there. Of the header it takes the id
 * of the key, the algorithm and the type: what it says of keys and their addresses means nothing here.
 */
function createJwksVerifier({ keys, issuers, audiences, types }: JwksRules): VerifyByJwks {
  const options = {
    algorithms: ALGORITHMS,
    issuer: [...issuers],
    ...(audiences === undefined ? {} : { audience: [...audiences] }),
    requiredClaims: ['exp'],
    clockTolerance: CLOCK_TOLERANCE_MS / 1_000,
  };
  return async (token) => {
    try {
      const { payload, protectedHeader } = await jwtVerify(token, keys.find, options);
      if (!types.includes(typeOf(protectedHeader.typ))) return { kind: 'refused', fault: OTHER_TYPE };
      return { kind: 'verified', claims: payload };
    } catch (error) {
      if (error instanceof KeysUnavailableError) return { kind: 'unavailable' };
      return { kind: 'refused', fault: faultOfKey(error) };
    }
  };
}

/** RFC 7515: in any case, `application/` may be left out. A token that names none is a JWT as any other. */
function typeOf(typ: unknown): string {
  if (typ === undefined) return 'jwt';
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : '';
}
