/** The clock of the API's waits and limits, which a test can move; and how times are written for people. */

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

/** `2026-11-22 12:00:01.123`, in UTC. */
export function formatTime(at: Date): string {
  return at.toISOString().replace('T', ' ').replace('Z', '');
}

/** `3 min`: in the greatest unit that fits. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3_600) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
