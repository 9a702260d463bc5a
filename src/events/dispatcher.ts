/**
 * Numbers committed events, in a loop of the worker. A number that were given by an auto-increment would be
 * older than its commit: a consumer that has read 7 would never see a 6 that is committed later.
 *
 * Redis knows the last number as well. A MySQL that knows less has lost commits: its next numbers go on above
 * those that were given, or a consumer that has read them would skip other events of the same numbers.
 */

import type { Stores } from '../stores/open.ts';

/** A transaction of some 20 ms, so that a dispatcher that dies leaves little undone. */
const PAGE_MAX = 1_000;
/** An event can be read within a second of its commit; and other dispatchers look whether they are needed. */
const IDLE_PAUSE_MS = 200;

/** @returns one pass of the loop; the pass returns the pause before the next, in ms */
export function createDispatcher({ eventDispatch, feedMarks, log }: Stores) {
  /** The greatest number that this process knows as given; undefined: Redis was never asked. */
  let given: number | undefined;
  /** What Redis has, which may have lost it since. */
  let marked = 0;

  /** @throws while Redis is away and was never asked by this process */
  async function readGiven(feedId: string): Promise<number> {
    try {
      marked = await feedMarks.read(feedId);
      given = Math.max(given ?? 0, marked);
    } catch (error) {
      // Events are numbered all the same, by what this process knows itself.
      if (given === undefined) throw error;
    }
    return given;
  }

  /** A mark that Redis does not take now is set by the next pass. */
  async function mark(feedId: string, sequence: number): Promise<void> {
    given = Math.max(given ?? 0, sequence);
    if (given <= marked) return;
    const raised = given;
    await feedMarks.raise(feedId, raised).then(
      () => (marked = raised),
      () => undefined,
    );
  }

  return async function pass(): Promise<number> {
    const { feedId, last } = await eventDispatch.readFeed();
    const had = await readGiven(feedId);
    if (last < had) {
      const lost = await eventDispatch.skipLostNumbers(had);
      if (lost)
        log.error(
          lost,
          'MySQL has lost commits; what to do is in docs/operations.md, "When MySQL loses commits"',
        );
      return 0;
    }
    const outcome = await eventDispatch.numberEvents(PAGE_MAX, had);
    const events = outcome.kind === 'numbered' ? outcome.events : 0;
    await mark(feedId, last + events);
    return events === PAGE_MAX ? 0 : IDLE_PAUSE_MS;
  };
}
