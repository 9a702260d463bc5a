/**
 * The public keys at an address (a JSON Web Key Set), read ahead of the callers: once at start, then every
 * few minutes. A caller whose key is known never waits for the server there, however slow it is; another
 * waits for a moment.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { createLocalJWKSet, errors, type JWTVerifyGetKey } from 'jose';
import type { Logger } from 'pino';
import { z } from 'zod';

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
