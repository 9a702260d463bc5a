/** The events to be pushed: pages of the feed, of which the newest are remembered for their deliveries. */

import { LRUCache } from 'lru-cache';
import type { EventFeed, EventFilter, FeedEvent } from '../events/event-feed.ts';

/** Events that a process remembers: most are delivered soon after they were read. */
const REMEMBERED_MAX = 2_000;
/** Their bytes: those of 2,000 orders, or of some ten sales with all that a sale may have. */
const REMEMBERED_BYTES_MAX = 8 * 1024 * 1024;
/** About those of an order with a few lines. */
const ORDER_BYTES = 1_024;
/** How old a snapshot may be that is sent: a person may be erased meanwhile. */
const REMEMBERED_MS = 30_000;
/** Events that one look reads for the sake of a single one among them, where several lie close together. */
const SPAN_MAX = 50;

export interface EventPage {
  events: FeedEvent[];
  /** Where to go on. */
  next: number;
}

export type EventSource = ReturnType<typeof createEventSource>;

export function createEventSource(feed: Pick<EventFeed, 'read'>) {
  const remembered = new LRUCache<number, FeedEvent>({
    max: REMEMBERED_MAX,
    ttl: REMEMBERED_MS,
    maxSize: REMEMBERED_BYTES_MAX,
    sizeCalculation: (event) => ('orderNo' in event ? ORDER_BYTES : JSON.stringify(event.data).length),
  });

  async function readPage(after: number, limit: number, filter: EventFilter = {}): Promise<EventPage> {
    const page = await feed.read({ after, limit, filter });
    if (page.kind === 'ahead') return { events: [], next: after };
    for (const event of page.events) remembered.set(event.sequence, event);
    return page;
  }

  return {
    readPage,

    /** The events of these sequences; those that were deleted are missing. */
    async find(sequences: readonly number[]): Promise<Map<number, FeedEvent>> {
      const found = new Map<number, FeedEvent>();
      let missing = sequences.toSorted((a, b) => a - b);
      for (const sequence of missing) {
        const event = remembered.get(sequence);
        if (event) found.set(sequence, event);
      }
      missing = missing.filter((sequence) => !found.has(sequence));
      // Each turn finds the first or knows that it is gone.
      for (let first = missing[0]; first !== undefined; first = missing[0]) {
        const end = first + SPAN_MAX;
        const last = missing.findLast((sequence) => sequence < end) ?? first;
        const { events, next } = await readPage(first - 1, last - first + 1);
        for (const event of events) if (missing.includes(event.sequence)) found.set(event.sequence, event);
        // A page of large events may end before the span does.
        const readTo = Math.max(first, Math.min(last, next));
        missing = missing.filter((sequence) => sequence > readTo);
      }
      return found;
    },
  };
}
