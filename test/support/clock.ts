/** A clock that stands still until the test moves it. */

import type { Clock } from '../../src/clock.ts';

export interface TestClock extends Clock {
  /** Moves it, and calls all that is due then. */
  pass: (ms: number) => void;
}

export function createTestClock(): TestClock {
  // Whole: differences of fractions are a hair more or less than what passed.
  let now = 1_000_000;
  const waiting = new Set<{ atMs: number; act: () => void }>();
  return {
    nowMs: () => now,
    after(ms, act) {
      const entry = { atMs: now + ms, act };
      waiting.add(entry);
      return () => void waiting.delete(entry);
    },
    pass(ms) {
      now += ms;
      const due = [...waiting].filter(({ atMs }) => atMs <= now).toSorted((a, b) => a.atMs - b.atMs);
      for (const entry of due) if (waiting.delete(entry)) entry.act();
    },
  };
}
