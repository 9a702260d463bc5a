/** Decides when an undelivered event is sent again. */

/** Counts the failed tries of each event and calls `onDue` after the pause that follows each. */
export function createRetrySchedule(delaysMs: readonly number[], onDue: (eventId: string) => void) {
  const failures = new Map<string, number>();
  const timers = new Map<string, NodeJS.Timeout>();
  let stopped = false;

  function forget(eventId: string): void {
    failures.delete(eventId);
    clearTimeout(timers.get(eventId));
    timers.delete(eventId);
  }

  function hold(eventId: string, delayMs: number): void {
    timers.set(
      eventId,
      setTimeout(() => {
        timers.delete(eventId);
        onDue(eventId);
      }, delayMs),
    );
  }

  return {
    forget,
    hold,
    /** False when the tries are used up; the event is then forgotten. */
    plan: (eventId: string): boolean => {
      // A redelivery asked for during a try makes two at a time; the one that fails first has set the timer
      // for both.
      if (timers.has(eventId)) return true;
      const failed = (failures.get(eventId) ?? 0) + 1;
      const delayMs = delaysMs[failed - 1];
      if (delayMs === undefined) {
        forget(eventId);
        return false;
      }
      failures.set(eventId, failed);
      // The try under way at the stop still counts, but the one after it belongs to the next start.
      if (stopped) return true;
      hold(eventId, delayMs);
      return true;
    },
    stop: (): void => {
      stopped = true;
      for (const timer of timers.values()) clearTimeout(timer);
    },
  };
}
