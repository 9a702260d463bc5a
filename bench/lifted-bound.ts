/**
 * Lifts the bound on waiting orders (503 `backlog_full`) for a measurement. Every lifting is remembered, so
 * that the results say so beside the figures, whatever part it was.
 */

import { DEFAULT_PAYMENT_WINDOW_MS } from '../src/domain/limits.ts';

/** The bound grows with the payment window. */
const LIFTED_WINDOW_MS = 24 * 60 * 60_000;
/** For what fills an outbox ahead of a measurement: so many that any number of orders is accepted. */
const LIFTED_STARTS_PER_SECOND = 1_000_000;

/** In Markdown. */
export const LIFTED =
  "The sale's payment window is 24 hours instead of the default 30 minutes, so that the bound on waiting orders " +
  '(503 `backlog_full`) is far above the one that users have by default, and refuses none of these orders.';

/** `default`: a sale as users have it. */
export type BacklogBound = 'default' | 'lifted';

let isLifted = false;

/** @returns the payment window of a sale, in milliseconds */
export function windowMsFor(bound: BacklogBound): number {
  if (bound === 'default') return DEFAULT_PAYMENT_WINDOW_MS;
  isLifted = true;
  return LIFTED_WINDOW_MS;
}

/** @returns the pace of the engine that `createReservations` takes, in orders a second */
export function liftStartsPerSecond(): number {
  isLifted = true;
  return LIFTED_STARTS_PER_SECOND;
}

/** @returns what was lifted since the last call; undefined when nothing was */
export function takeLifted(): string | undefined {
  const lifted = isLifted ? LIFTED : undefined;
  isLifted = false;
  return lifted;
}
