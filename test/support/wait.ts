/** Waits until a condition holds; there are no fixed sleeps. */

import { setTimeout as delay } from 'node:timers/promises';

/** Bounds a hang, also where the machine stalls; says nothing about how fast the condition must hold. */
const TIMEOUT_MS = 90_000;
const LOOK_EVERY_MS = 20;

/** @returns the first value of `look` that is neither false nor undefined */
export async function waitFor<T>(
  what: string,
  look: () => Promise<T | false | undefined> | T | false | undefined,
  timeoutMs = TIMEOUT_MS,
): Promise<T> {
  const until = Date.now() + timeoutMs;
  while (Date.now() < until) {
    const value = await look();
    if (value !== false && value !== undefined) return value;
    await delay(LOOK_EVERY_MS);
  }
  throw new Error(`waited in vain for ${what}`);
}
