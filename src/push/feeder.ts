/** Turns the events that follow an endpoint's place in the feed into deliveries, page by page. */

import { LRUCache } from 'lru-cache';
import type { EventFeed, EventFilter, FeedEvent } from '../events/event-feed.ts';
import type { NewDelivery } from '../stores/mysql/push/deliveries.ts';
import type { EndpointFilter, FeedPlace, ReplayRange } from '../stores/mysql/push/endpoint-feed.ts';
import type { Stores } from '../stores/open.ts';

// The events to be pushed: pages of the feed, of which the newest are remembered for their deliveries.

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

/** Events of one transaction: it locks the endpoint's row for some milliseconds. */
const PAGE_MAX = 200;

export interface FeederDeps extends Stores {
  source: Pick<EventSource, 'readPage'>;
}

/** @returns one step for an endpoint; the step returns whether there is more for it at once */
export function createFeeder({ endpointFeed, source }: FeederDeps) {
  /** What is new goes first; what is delivered again takes the room that it leaves. */
  return async function feed(endpointId: number): Promise<boolean> {
    const place = await endpointFeed.readPlace(endpointId);
    if (!place || place.room <= 0) return false;
    const limit = Math.min(PAGE_MAX, place.room);
    const { events, next } = await source.readPage(place.fed, limit, filterOf(place.filter));
    if (next > place.fed) {
      await endpointFeed.advance(endpointId, { from: place.fed, to: next }, events.flatMap(toDeliveries));
      return true;
    }
    return place.replay ? replay(endpointId, place, place.replay, limit) : false;
  };

  async function replay(
    endpointId: number,
    { filter }: FeedPlace,
    { after, until, sinceMs, beforeMs }: ReplayRange,
    limit: number,
  ): Promise<boolean> {
    const { events, next } = await source.readPage(after, limit, filterOf(filter));
    const again = events.filter(({ sequence, occurredAt }) => {
      const atMs = Date.parse(occurredAt);
      return sequence <= until && atMs >= sinceMs && atMs < beforeMs;
    });
    const to = Math.min(next, until);
    const isLast = to >= until || to === after;
    await endpointFeed.advanceReplay(endpointId, { from: after, to, isLast }, again.flatMap(toDeliveries));
    return !isLast;
  }
}

/** None for an event that would cause the next: no endpoint gets the event that a delivery was parked. */
export function toDeliveries(event: FeedEvent): NewDelivery[] {
  const { id: eventId, sequence } = event;
  if ('orderNo' in event) return [{ eventId, sequence, line: event.orderNo }];
  if (event.type === 'parked.opened' && isAboutDelivery(event.data['parked'])) return [];
  return [{ eventId, sequence, line: event.saleId ?? event.type }];
}

function isAboutDelivery(parked: unknown): boolean {
  return typeof parked === 'object' && parked !== null && 'kind' in parked && parked.kind === 'delivery';
}

function filterOf({ types, saleId }: EndpointFilter): EventFilter {
  return {
    ...(types && { types: new Set(types) }),
    ...(saleId !== null && { saleId }),
  };
}
