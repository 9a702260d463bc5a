/** The clock of the waits that callers are promised, so that a test can move it. */

export interface Clock {
  /** Milliseconds since any fixed moment; never goes back. */
  nowMs: () => number;
  /** Calls `act` once, after so many milliseconds. @returns what prevents that */
  after: (ms: number, act: () => void) => () => void;
}

export const SYSTEM_CLOCK: Clock = {
  nowMs: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
};
