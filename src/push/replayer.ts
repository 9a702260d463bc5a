/** Finds the events that a shop wants delivered once more: one, those of an order, or those of a time. */

import type { FeedEvent } from '../events/event-feed.ts';
import type { Stores } from '../stores/open.ts';
import { type EventSource, toDeliveries } from './feeder.ts';

/**
 * How far events may be out of the order of time, besides what they waited for their numbers: a transaction
 * takes less, and so does a correction of the server's clock.
 */
const OUT_OF_ORDER_MS = 60_000;
/** Halvings that find one of as many events as JavaScript counts exactly. */
const HALVINGS_MAX = 53;

/** started: so many events, or as many as the time has. running: another time is being replayed. */
export type ReplayOutcome =
  | { kind: 'started'; events: number | null }
  | { kind: 'running' }
  | { kind: 'no-event' }
  | { kind: 'unknown' };

export interface ReplayerDeps extends Stores {
  source: EventSource;
}

export type Replayer = ReturnType<typeof createReplayer>;

export function createReplayer({ replays, source, eventDispatch }: ReplayerDeps) {
  async function replaySequences(
    name: string,
    sequences: readonly number[],
    actor: string,
  ): Promise<ReplayOutcome> {
    const events = [...(await source.find(sequences)).values()].toSorted((a, b) => a.sequence - b.sequence);
    if (events.length === 0) return { kind: 'no-event' };
    const count = await replays.replay(name, events.flatMap(toDeliveries), actor);
    return count === undefined ? { kind: 'unknown' } : { kind: 'started', events: count };
  }

  /** The sequence before the first event that occurred at or after this time. */
  async function findBefore(atMs: number, last: number): Promise<number> {
    let [before, after] = [0, last + 1];
    for (let halving = 0; halving < HALVINGS_MAX && after - before > 1; halving += 1) {
      const middle = Math.floor((before + after) / 2);
      const event = await firstFrom(middle);
      if (event && Date.parse(event.occurredAt) < atMs) before = middle;
      else after = middle;
    }
    return before;
  }

  async function firstFrom(sequence: number): Promise<FeedEvent | undefined> {
    return (await source.readPage(sequence - 1, 1)).events[0];
  }

  return {
    async replayEvent(name: string, eventId: string, actor: string): Promise<ReplayOutcome> {
      const sequence = await replays.sequenceOfEvent(eventId);
      return sequence === undefined ? { kind: 'no-event' } : replaySequences(name, [sequence], actor);
    },

    async replayOrder(name: string, orderNo: string, actor: string): Promise<ReplayOutcome> {
      return replaySequences(name, await replays.sequencesOfOrder(orderNo), actor);
    },

    /** @param time from `sinceMs` to before `beforeMs`, Unix ms */
    async replayTime(
      name: string,
      { sinceMs, beforeMs }: { sinceMs: number; beforeMs: number },
      actor: string,
    ): Promise<ReplayOutcome> {
      const last = await eventDispatch.readLastSequence();
      const outOfOrderMs = OUT_OF_ORDER_MS + (await eventDispatch.readLongestWaitMs());
      const after = await findBefore(sinceMs - outOfOrderMs, last);
      const until = await findBefore(beforeMs + outOfOrderMs, last);
      const outcome = await replays.replayRange(name, { after, until, sinceMs, beforeMs }, actor);
      return outcome === 'started' ? { kind: 'started', events: null } : { kind: outcome };
    },
  };
}
