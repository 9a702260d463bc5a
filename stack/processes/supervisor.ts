/** Starts a process again that ended on its own, so that an operator can try `kill -9` on any part. */

import { setTimeout as delay } from 'node:timers/promises';
import type { CrashError } from './process.ts';
import type { CrashHandler, Processes } from './processes.ts';

/** A process that ends more often than its restarts allow within this time is broken. */
const WINDOW_MS = 60_000;

/**
 * The pause before each restart within the window; their number bounds the restarts. They grow, so that a
 * process that cannot live without another one, which is being restarted too, does not use them up meanwhile.
 */
const PAUSES_MS = [0, 500, 1_000, 2_000, 4_000];

/**
 * A crash handler for `Processes` that starts again what has crashed, on the same port and with the same
 * data. A process that crashes, or fails to start again, too often stays down.
 */
export function restartOnCrash(options: {
  /** Receives one line for each restart. */
  say: (line: string) => void;
  /** Called when a process stays down. */
  onStaysDown: (reason: Error, name: string) => void;
  pausesMs?: readonly number[];
}): CrashHandler {
  const { say, onStaysDown, pausesMs = PAUSES_MS } = options;
  const restartsMs = new Map<string, number[]>();

  const bringBack = async (crash: CrashError, name: string, processes: Processes): Promise<void> => {
    const endedMs = Date.now();
    const recentMs = (restartsMs.get(name) ?? []).filter((startedMs) => startedMs > endedMs - WINDOW_MS);
    restartsMs.set(name, recentMs);
    let reason: unknown = crash;
    // Restarts that fail count for as long as the process is down, however long each of them takes.
    while (!processes.stopping.aborted) {
      const pauseMs = pausesMs[recentMs.length];
      if (pauseMs === undefined) {
        return onStaysDown(new Error(staysDownMessage(name, pausesMs.length), { cause: reason }), name);
      }
      try {
        await delay(pauseMs, undefined, { signal: processes.stopping });
        recentMs.push(Date.now());
        await processes.restart(name);
        const again = `started again in ${((Date.now() - endedMs) / 1000).toFixed(1)} s`;
        return say(`${name} ended (${crash.end}); ${again} as process ${processes.pid(name)}`);
      } catch (error) {
        reason = error;
      }
    }
  };

  return (crash, name, processes) => void bringBack(crash, name, processes);
}

function staysDownMessage(name: string, restarts: number): string {
  return `${name} was started again ${restarts} times within a minute and does not stay up`;
}
