/**
 * Numbers committed events, in a loop of the worker. A number that were given by an auto-increment would be
 * older than its commit: a consumer that has read 7 would never see a 6 that is committed later.
 */

import type { EventDispatch } from '../stores/mysql/events/event-dispatch.ts';

/** A transaction of some 20 ms, so that a dispatcher that dies leaves little undone. */
const PAGE_MAX = 1_000;
/** An event can be read within a second of its commit; and other dispatchers look whether they are needed. */
const IDLE_PAUSE_MS = 200;

/** @returns one pass of the loop; the pass returns the pause before the next, in ms */
export function createDispatcher(eventDispatch: Pick<EventDispatch, 'numberEvents'>) {
  return async function pass(): Promise<number> {
    const outcome = await eventDispatch.numberEvents(PAGE_MAX);
    return outcome.kind === 'numbered' && outcome.events === PAGE_MAX ? 0 : IDLE_PAUSE_MS;
  };
}
