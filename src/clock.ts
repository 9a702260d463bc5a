/** The clock of the API's waits and limits. A test passes one that it can move. */

export interface Clock {
  /** Milliseconds since any fixed moment; never goes back. */
  nowMs: () => number;
  /**
   * Calls `act` once, after so many milliseconds. The timer does not keep the process: the connection of the
   * caller that waits does. @returns cancels the timer
   */
  after: (ms: number, act: () => void) => () => void;
}

export const SYSTEM_CLOCK: Clock = {
  nowMs: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms).unref();
    return () => clearTimeout(timer);
  },
};
