/** Which workers live, as one of them sees it: what belongs to the others may be taken over. */

import type { SeenWorker } from '../status/status.ts';

/** Five beats. A worker whose event loop stands still for so long has lost its place, and may come back. */
export const SILENT_MS = 5_000;
/** Beats are read each second; so much later, something was frozen: this process, or Redis. */
const GAP_MAX_MS = 2_500;

export type LivingWorkers = ReturnType<typeof createLivingWorkers>;

export function createLivingWorkers(nowMs: () => number = () => performance.now()) {
  /** By Redis' clock. */
  let sinceMs = 0;
  let lastMs = -Infinity;
  /** By this process' own clock. */
  let readAtMs = -Infinity;
  let living: readonly string[] = [];

  return {
    /** Takes in the beats that Redis has, and Redis' time (Unix ms). To be called each second. */
    read(redisMs: number, workers: readonly SeenWorker[]): void {
      const gapMs = redisMs - lastMs;
      // While Redis was away or its clock jumped, living workers could not show it either.
      if (gapMs < 0 || gapMs > GAP_MAX_MS) sinceMs = redisMs;
      lastMs = redisMs;
      readAtMs = nowMs();
      living = workers.filter(({ silentMs }) => silentMs < SILENT_MS).map(({ workerId }) => workerId);
    },

    /** Their ids. Undefined: Redis has not answered this process for long enough to tell. */
    list(): readonly string[] | undefined {
      const isFresh = nowMs() - readAtMs <= GAP_MAX_MS;
      return isFresh && lastMs - sinceMs >= SILENT_MS ? living : undefined;
    },
  };
}
