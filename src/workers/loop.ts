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
 * A pass that takes longer hangs, in ms. Each statement, command and call is given up after seconds, also
 * while a store or Temporal is away; the pass with the most, 200 ends ten at a time, has given up all of them
 * after five minutes.
 */
const HANGS_AFTER_MS = 10 * 60_000;

export type LoopWatch = ReturnType<typeof createLoopWatch>;

/**
 * Knows which loops of a process have a pass under way, and since when.
 * @param failed is called with the loop's name for each pass that fails
 */
export function createLoopWatch(failed: (loop: string) => void = () => {}, hangsAfterMs = HANGS_AFTER_MS) {
  const underWay = new Set<{ name: string; sinceMs: number }>();
  return {
    async during<T>(name: string, pass: () => Promise<T>): Promise<T> {
      const entry = { name, sinceMs: performance.now() };
      underWay.add(entry);
      try {
        return await pass();
      } catch (error) {
        failed(name);
        throw error;
      } finally {
        underWay.delete(entry);
      }
    },

    /** The names of the loops that stand still, each once. */
    hanging(): string[] {
      const sinceMs = performance.now() - hangsAfterMs;
      const names = [...underWay].flatMap((entry) => (entry.sinceMs < sinceMs ? [entry.name] : []));
      return [...new Set(names)].toSorted();
    },
  };
}

/**
 * Runs `pass` again and again until `signal` aborts. A pass under way at that moment is finished.
 * @throws WrongDeploymentError
 * @param pass returns the pause before the next one, in ms
 */
export async function runLoop(
  name: string,
  pass: () => Promise<number>,
  { log, signal, watch }: { log: Logger; signal: AbortSignal; watch?: LoopWatch | undefined },
): Promise<void> {
  // A listener of its own: many loops wait for one signal, which would look like a leak.
  const own = AbortSignal.any([signal]);
  let failures = 0;
  while (!signal.aborted) {
    let pauseMs: number;
    try {
      pauseMs = await (watch ? watch.during(name, pass) : pass());
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      // To go on would do harm, and nothing but another start mends it.
      if (error instanceof WrongDeploymentError) throw error;
      pauseMs = backoffMs(failures);
      failures += 1;
      log.warn({ err: error, loop: name, failures, pauseMs }, 'a pass failed and will be repeated');
    }
    if (pauseMs > 0) await pause(pauseMs, own);
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
