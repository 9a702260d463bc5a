/** How much the book may hold. */

import type { BookState } from './book-state.ts';

/**
 * Entries of each kind (sessions, payments, events, refunds and refusals, disputes). All stay in memory, at
 * about a kilobyte each with a usual signed order, and a payment is never forgotten, so a full book refuses
 * new entries. This is hours of the fastest sale that the tests drive.
 */
export const MAX_ENTRIES = 200_000;

/** Whether one more payment, or one more event, may be written. What is promised has its room already. */
export function hasRoom({ payments, promises, events, reversals }: BookState): boolean {
  const promised = promises.size;
  return (
    payments.length + promised < MAX_ENTRIES &&
    events.size + promised + reversals.slowRefunds.size < MAX_ENTRIES
  );
}

/** Whether one more refund, refusal or dispute may be written, with its event. */
export function hasReversalRoom(state: BookState): boolean {
  const { refunds, refusalsByKey, disputes } = state.reversals;
  return hasRoom(state) && refunds.size + refusalsByKey.size < MAX_ENTRIES && disputes.size < MAX_ENTRIES;
}
