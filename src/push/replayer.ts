/** Finds the events that a shop wants delivered once more: one, those of an order, or those of a time. */

import type { FeedEvent } from '../events/feed.ts';
import type { Stores } from '../stores/open.ts';
import { createEventSource, type EventSource, toDeliveries } from './pusher.ts';

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

/** One event, those of an order, or those from `sinceMs` to before `beforeMs`, Unix ms. */
export type Replayed = { eventId: string } | { orderNo: string } | Period;

interface Period {
  sinceMs: number;
  beforeMs: number;
}

/** @param name of the endpoint */
export async function startReplay(
  stores: Stores,
  name: string,
  what: Replayed,
  actor: string,
): Promise<ReplayOutcome> {
  const { replays } = stores;
  if ('eventId' in what) {
    const sequence = await replays.sequenceOfEvent(what.eventId);
    return sequence === undefined ? { kind: 'no-event' } : replaySequences(stores, name, [sequence], actor);
  }
  if ('orderNo' in what)
    return replaySequences(stores, name, await replays.sequencesOfOrder(what.orderNo), actor);
  return replayPeriod(stores, name, what, actor);
}

async function replayPeriod(
  stores: Stores,
  name: string,
  { sinceMs, beforeMs }: Period,
  actor: string,
): Promise<ReplayOutcome> {
  const { replays, eventRows } = stores;
  const source = createEventSource(stores);
  const last = await eventRows.readLastSequence();
  const outOfOrderMs = OUT_OF_ORDER_MS + (await eventRows.readLongestWaitMs());
  const after = await findBefore(source, sinceMs - outOfOrderMs, last);
  const until = await findBefore(source, beforeMs + outOfOrderMs, last);
  const outcome = await replays.replayRange(name, { after, until, sinceMs, beforeMs }, actor);
  return outcome === 'started' ? { kind: 'started', events: null } : { kind: outcome };
}

async function replaySequences(
  stores: Stores,
  name: string,
  sequences: readonly number[],
  actor: string,
): Promise<ReplayOutcome> {
  const found = await createEventSource(stores).find(sequences);
  const events = [...found.values()].toSorted((a, b) => a.sequence - b.sequence);
  if (events.length === 0) return { kind: 'no-event' };
  const count = await stores.replays.replay(name, events.flatMap(toDeliveries), actor);
  return count === undefined ? { kind: 'unknown' } : { kind: 'started', events: count };
}

/** The sequence before the first event that occurred at or after this time. */
async function findBefore(source: EventSource, atMs: number, last: number): Promise<number> {
  let [before, after] = [0, last + 1];
  for (let halving = 0; halving < HALVINGS_MAX && after - before > 1; halving += 1) {
    const middle = Math.floor((before + after) / 2);
    const event = await firstFrom(source, middle);
    if (event && Date.parse(event.occurredAt) < atMs) before = middle;
    else after = middle;
  }
  return before;
}

async function firstFrom(source: EventSource, sequence: number): Promise<FeedEvent | undefined> {
  return (await source.readPage(sequence - 1, 1)).events[0];
}
