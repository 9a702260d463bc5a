/** When a delivery that failed is tried again, and when an endpoint that is down is probed. */

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** The pause after each failed try, as Standard Webhooks suggests; after the last one there is no other. */
export const RETRY_PAUSES_MS: readonly number[] = [
  5 * SECOND_MS,
  5 * MINUTE_MS,
  30 * MINUTE_MS,
  2 * HOUR_MS,
  5 * HOUR_MS,
  10 * HOUR_MS,
  14 * HOUR_MS,
  20 * HOUR_MS,
  24 * HOUR_MS,
];
/** Up to so much is added, so that what failed together does not come back together. */
const JITTER = 0.1;
/** What an endpoint may ask for by Retry-After. One that is to be left alone for longer can be disabled. */
const MAX_RETRY_AFTER_MS = HOUR_MS;
const FIRST_PROBE_PAUSE_MS = SECOND_MS;
const MAX_PROBE_PAUSE_MS = MINUTE_MS;

/**
 * The pause after a failed try, in ms; undefined: it was the last.
 * @param attempts how many there were, with this one
 * @param retryAfterMs what the endpoint asked for
 */
export function retryPauseMs(
  pausesMs: readonly number[],
  attempts: number,
  retryAfterMs = 0,
): number | undefined {
  const pauseMs = pausesMs[attempts - 1];
  if (pauseMs === undefined) return undefined;
  return Math.max(pauseMs * (1 + Math.random() * JITTER), boundedRetryAfterMs(retryAfterMs));
}

/** The pause before the next probe, in ms: growing, so that an endpoint that comes back is found soon. */
export function probePauseMs(failedProbes: number, retryAfterMs = 0): number {
  const pauseMs = Math.min(FIRST_PROBE_PAUSE_MS * 2 ** failedProbes, MAX_PROBE_PAUSE_MS);
  return Math.max(pauseMs * (1 - Math.random() * JITTER), boundedRetryAfterMs(retryAfterMs));
}

/** What the endpoint asked for, as far as it is honoured. */
export function boundedRetryAfterMs(retryAfterMs: number): number {
  return Math.min(retryAfterMs, MAX_RETRY_AFTER_MS);
}
