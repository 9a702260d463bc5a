/** Runs a background loop that goes on after failures, with a back-off, until it is aborted. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { WrongDeploymentError } from '../deployment.ts';

/**
 * The first and the longest back-off after failures, so that a store that is away is neither hammered nor
 * noticed late when it is back.
 */
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;

/**
 * Runs `pass` again and again until `signal` aborts. A pass under way at that moment is finished.
 * @throws WrongDeploymentError
 * @param pass returns the pause before the next one, in ms
 */
export async function runLoop(
  name: string,
  pass: () => Promise<number>,
  { log, signal }: { log: Logger; signal: AbortSignal },
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    let pauseMs: number;
    try {
      pauseMs = await pass();
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      // To go on would do harm, and nothing but another start mends it.
      if (error instanceof WrongDeploymentError) throw error;
      pauseMs = backoffMs(failures);
      failures += 1;
      log.warn({ err: error, loop: name, failures, pauseMs }, 'a pass failed and will be repeated');
    }
    if (pauseMs > 0) await pause(pauseMs, signal);
  }
}

/** Exponential with jitter, because relays that failed together must not return together. In ms. */
export function backoffMs(failures: number): number {
  const ceilingMs = Math.min(FIRST_BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS);
  return ceilingMs * (0.5 + Math.random() / 2);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
