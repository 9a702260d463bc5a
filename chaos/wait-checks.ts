/** Judges what shoppers were told who waited: for the answer to a purchase, or for changes of an order. */

import type { Check } from './history.ts';
import { findLost, findUnrecorded } from './loss-checks.ts';

/** A wish to cancel that was kept beside the hold in Redis is in MySQL within this time. */
const WISHED_MS = 15_000;

/** 201 is a promise that no loss of Redis' data excuses. */
export const storedIsDurable: Check = (history, { states }) => {
  const lost = findLost(history);
  return history.stored.flatMap(({ orderNo: subject, version }) => {
    if (version === 0) return [{ subject, detail: 'was answered 201, as an order that is not stored' }];
    if (states.has(subject) && !lost.has(subject)) return [];
    return [{ subject, detail: 'was answered 201, and lost' }];
  });
};

/** No payment was begun before, so none counts. A wish that was beside the hold alone may be lost with it. */
export const givenUpIsNotPaid: Check = ({ timedOut, losses }, { states }) =>
  timedOut.flatMap(({ orderNo: subject, startMs, endMs }) => {
    const isPaid = [...(states.get(subject)?.values() ?? [])].some(({ status }) => status === 'paid');
    const isNearLoss = losses.some((loss) => loss.endMs >= startMs && loss.startMs <= endMs + WISHED_MS);
    return isPaid && !isNearLoss ? [{ subject, detail: 'was answered 504, and paid' }] : [];
  });

/**
 * Each event of a stream is newer than the one before, and than what its reader had already. An order without
 * a record is told as lost under a version that another state may have had, so that one may be told again.
 */
export const streamsGoForward: Check = (history) => {
  const unrecorded = findUnrecorded(history);
  return history.streams.flatMap(({ orderNo: subject, api, lastId = -1, versions }) => {
    const least = unrecorded.has(subject) ? 0 : 1;
    const isForward = versions.every((version, i) => version - (versions[i - 1] ?? lastId) >= least);
    if (isForward) return [];
    return [{ subject, detail: `${api} told the versions ${versions.join(', ')} after ${lastId}` }];
  });
};
