/** Bounds the log lines about what a hostile client can cause thousands of times a second. */

/** At most one line of a kind in this time. */
const LINE_EVERY_MS = 10_000;

/**
 * @param write writes one line about so many occurrences since the line before
 * @returns what counts an occurrence: the first is written at once, those that follow together; no timer runs
 *   while nothing occurs
 */
export function createBoundedLog(write: (count: number) => void): () => void {
  let count = 0;
  let isTimerRunning = false;

  function flush(): void {
    isTimerRunning = count > 0;
    if (!isTimerRunning) return;
    write(count);
    count = 0;
    setTimeout(flush, LINE_EVERY_MS).unref();
  }

  return () => {
    count += 1;
    if (!isTimerRunning) flush();
  };
}
