/** Waits for conditions and promises, always with a bound. */

import { setTimeout as delay } from 'node:timers/promises';

/** Short enough that a start feels immediate, long enough that asking costs nothing. */
const POLL_MS = 50;

/**
 * Repeats a check until it is true. A check that throws counts as "not yet": when the time is up, the last
 * error becomes the cause of the failure.
 */
export async function waitUntil(options: {
  /** Completes the sentence "waited 30 s for …". */
  what: string;
  timeoutMs: number;
  check: () => Promise<boolean> | boolean;
  /** Ends the waiting early; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
}): Promise<void> {
  const deadlineMs = Date.now() + options.timeoutMs;
  let lastError: unknown;
  while (Date.now() < deadlineMs) {
    options.signal?.throwIfAborted();
    try {
      if (await options.check()) return;
    } catch (error) {
      lastError = error;
    }
    await delay(POLL_MS);
  }
  throw new Error(`waited ${Math.round(options.timeoutMs / 1000)} s for ${options.what}`, {
    cause: lastError,
  });
}

/** True when the promise settled within the time, false when it did not. */
export async function settlesWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const timer = new AbortController();
  const timedOut = delay(timeoutMs, false, { signal: timer.signal }).catch(() => false);
  const settled = await Promise.race([
    promise.then(
      () => true,
      () => true,
    ),
    timedOut,
  ]);
  timer.abort();
  return settled;
}
