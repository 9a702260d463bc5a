/** As of when the provider has said what it lists, by the provider's own clock. */

import { NOTICE_CLOCK_MS } from '../limits.ts';

/** A list may lag so far behind the provider's own notices. */
const LIST_LAG_MS = 10_000;

/**
 * Unix ms. A notice of a later time is newer than the list.
 * @param dateHeader `Date` of the answer, a whole second; without one our own clock counts
 * @param tookMs how long the call took: the provider may have read the list at its beginning
 */
export function listedAsOf(dateHeader: string | null | undefined, tookMs: number): number {
  const answeredAtMs = Date.parse(dateHeader ?? '');
  // A notice further off our clock is refused, so the two clocks differ by no more.
  const countedFrom = Number.isNaN(answeredAtMs) ? Date.now() - NOTICE_CLOCK_MS : answeredAtMs;
  return Math.floor(countedFrom - tookMs) - LIST_LAG_MS;
}
