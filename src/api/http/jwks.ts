/** Verifies tokens of an issuer that publishes its keys: signed with a private key that only it has. */

import { setTimeout as delay } from 'node:timers/promises';
import { createLocalJWKSet, errors, type JWTVerifyGetKey, jwtVerify, type JWTPayload } from 'jose';
import type { Logger } from 'pino';
import { z } from 'zod';

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

/** Why a token was refused: the library's code, for a claim also its name. Both from fixed lists. */
export interface TokenFault {
  code: string;
  claim?: string;
}

type Verified =
  | { kind: 'verified'; claims: JWTPayload }
  | { kind: 'refused'; fault: TokenFault }
  /** The keys could not be read: the token may be good. */
  | { kind: 'unavailable' };

export interface JwksRules {
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
/** Clocks of issuer and service may differ by this much. */
export const CLOCK_TOLERANCE_MS = 5_000;

export type VerifyByJwks = (token: string) => Promise<Verified>;

/**
 * Checks signature, type, `iss`, `aud`, `nbf`, and `exp`, which must be there. Of the header it takes the id
 * of the key, the algorithm and the type: what it says of keys and their addresses means nothing here.
 */
export function createJwksVerifier({ keys, issuers, audiences, types }: JwksRules): VerifyByJwks {
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
      return { kind: 'refused', fault: toFault(error) };
    }
  };
}

export const OTHER_TYPE: TokenFault = { code: 'OTHER_TYPE', claim: 'typ' };

/** RFC 7515: in any case, `application/` may be left out. A token that names none is a JWT as any other. */
export function typeOf(typ: unknown): string {
  if (typ === undefined) return 'jwt';
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : '';
}

/** The messages may quote the token, so they stay here. */
function toFault(error: unknown): TokenFault {
  if (error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired)
    return { code: error.code, claim: error.claim };
  // A key that the platform does not take, say a short one, fails without a code of the library.
  return { code: error instanceof errors.JOSEError ? error.code : 'UNUSABLE_KEY' };
}
