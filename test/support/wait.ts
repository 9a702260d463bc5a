/** Waits until a condition holds; there are no fixed sleeps. */

import { setTimeout as delay } from 'node:timers/promises';

/** Bounds a hang, also where the machine stalls; says nothing about how fast the condition must hold. */
const TIMEOUT_MS = 90_000;
/** Between two looks: a twentieth of the time that has passed, so that a long wait costs little. */
const PAUSE_MS = { min: 20, max: 250 };

/** @returns the first value of `look` that is neither false nor undefined */
export async function waitFor<T>(
  what: string,
  look: () => Promise<T | false | undefined> | T | false | undefined,
  timeoutMs = TIMEOUT_MS,
): Promise<T> {
  const sinceMs = Date.now();
  while (Date.now() < sinceMs + timeoutMs) {
    const value = await look();
    if (value !== false && value !== undefined) return value;
    await delay(Math.min(PAUSE_MS.max, Math.max(PAUSE_MS.min, (Date.now() - sinceMs) / 20)));
  }
  throw new Error(`waited in vain for ${what}`);
}
