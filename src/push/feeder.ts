/** Turns the events that follow an endpoint's place in the feed into deliveries, page by page. */

import type { EventFilter, FeedEvent } from '../events/event-feed.ts';
import type { NewDelivery } from '../stores/mysql/push/delivery-rows.ts';
import type { EndpointFilter, FeedPlace, ReplayRange } from '../stores/mysql/push/endpoint-feed.ts';
import type { Stores } from '../stores/open.ts';
import type { EventSource } from './event-source.ts';

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
