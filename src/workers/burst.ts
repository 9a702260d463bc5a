/**
 * Recognizes a burst: more orders come in than Temporal could take. While it lasts they are stored ahead, so
 * that all are payable first, and Temporal gets what the processor has left.
 */

import { PAGE_SIZE } from './outbox-pages.ts';

/**
 * A page within this time is ten times what a small Temporal starts, so in waiting for the end of the burst
 * it loses little, and storing gains the processor time.
 */
const BURST_MS = 1_000;

export type Burst = ReturnType<typeof createBurst>;

/** One for all sales of a relay, because they share Temporal and MySQL. */
export function createBurst() {
  let windowStartedMs = 0;
  let readInWindow = 0;
  let untilMs = 0;

  return {
    /** Counts entries that were read from an outbox. */
    note(entryCount: number): void {
      const nowMs = Date.now();
      if (nowMs - windowStartedMs >= BURST_MS) [windowStartedMs, readInWindow] = [nowMs, 0];
      readInWindow += entryCount;
      if (readInWindow >= PAGE_SIZE) untilMs = nowMs + BURST_MS;
    },

    isOn: (): boolean => Date.now() < untilMs,
  };
}
