/** Delivers events to the shop's endpoints: a lane for each, fed from the feed, kicked when it has work. */

import { LRUCache } from 'lru-cache';
import pLimit from 'p-limit';
import type { LimitFunction } from 'p-limit';
import { type EventFilter, type FeedEvent, readEvents } from '../events/feed.ts';
import type { Stores } from '../stores/open.ts';
import {
  type Deliverer,
  createDeliverer,
  createSender,
  type Sender,
  type SenderOptions,
  FIRST_PROBE_PAUSE_MS,
  RETRY_PAUSES_MS,
} from './deliverer.ts';
import { MAX_PUSHES_IN_FLIGHT } from './deliveries.sql.ts';
import type { Claim, ClaimedDelivery, NewDelivery } from './deliveries.sql.ts';
import type { EndpointFilter, FeedCursor, ReplayRange } from './endpoints.sql.ts';

// What one endpoint has in hand in this process: nothing of it waits for another endpoint.

/** So many under way are few enough to claim more: half of all by one transaction, not one by one. */
const REFILL_AT = MAX_PUSHES_IN_FLIGHT / 2;

export interface LaneDeps extends Stores {
  source: EventSource;
  deliver: Deliverer;
  /** Bounds the work with MySQL of all endpoints together. */
  storing: LimitFunction;
  watch?: PusherDeps['watch'];
  stopping: AbortSignal;
}

export type Lane = ReturnType<typeof createLane>;

function createLane(endpointId: number, deps: LaneDeps) {
  const { deliveries, source, deliver, storing, watch, log, stopping } = deps;
  const inFlight = new Set<Promise<void>>();
  let looking: Promise<void> | undefined;
  /** What is to be looked for: room for more of the feed, or only what is due. */
  let wanted: 'feed' | 'due' | undefined;
  /** The sale that had the last turn. */
  let lastTurn = '';

  async function look(): Promise<void> {
    // Each turn is watched by itself: while events go on and on, so does a look.
    while (wanted && !stopping.aborted) await (watch ? watch.during('push look', turn) : turn());
  }

  async function turn(): Promise<void> {
    const hasFed = wanted === 'feed';
    wanted = undefined;
    if (hasFed && (await storing(() => feedEndpoint(deps, endpointId)))) wanted = 'feed';
    const claim = await storing(() => deliveries.take(endpointId, lastTurn));
    if (!claim) return;
    lastTurn = claim.lastTurn;
    await start(claim);
  }

  async function start({ deliveries: claimed, ...target }: Claim): Promise<void> {
    const sequences = claimed.flatMap(({ sequence }) => (sequence === null ? [] : [sequence]));
    const events = await storing(() => source.find(sequences));
    for (const delivery of claimed) {
      const event = events.get(delivery.sequence ?? 0);
      const attempt = deliver(delivery, target, event)
        .catch(failed(delivery))
        .finally(() => {
          inFlight.delete(attempt);
          // There is room now, and the next of the line may be due.
          if (inFlight.size <= REFILL_AT) lookFor('due');
        });
      inFlight.add(attempt);
    }
  }

  /** What could not be recorded is sent again when its claim runs out. */
  function failed({ endpointName: endpoint, eventId }: ClaimedDelivery) {
    return (error: unknown) =>
      log.warn({ err: error, endpoint, eventId }, 'an attempt could not be recorded');
  }

  /** Once more where it is looking already. */
  function lookFor(what: 'feed' | 'due'): void {
    if (wanted !== 'feed') wanted = what;
    looking ??= look()
      .catch((error: unknown) => log.warn({ err: error, endpointId }, 'a look at an endpoint failed'))
      .finally(() => {
        looking = undefined;
      });
  }

  return {
    /** Has it look for all that there may be to do. */
    kick: (): void => lookFor('feed'),

    isIdle: (): boolean => looking === undefined && inFlight.size === 0,

    /** Settles when nothing is in hand any more. */
    async drain(): Promise<void> {
      const inHand = (): Promise<void>[] => [...(looking ? [looking] : []), ...inFlight];
      for (let rest = inHand(); rest.length > 0; rest = inHand()) await Promise.all(rest);
    },
  };
}

/** How soon a new event, or one that is due again, is noticed. */
const LOOK_EVERY_MS = 250;
/** An endpoint without anything to do for so long needs no connections, or was removed. */
const IDLE_MAX_MS = 60_000;
/** Steps that use MySQL at once: the rest of MYSQL_CONNECTIONS (20 unless set) is for orders. */
const STORING_MAX = 4;

export interface PusherDeps extends Stores {
  sender: SenderOptions;
  /** Sees a turn of a look at an endpoint that never ends. */
  watch?: { during<T>(name: string, work: () => Promise<T>): Promise<T> } | undefined;

  /** The pause after each failed try, in ms; for tests. */
  retryPausesMs?: readonly number[];
  /** The first pause before a probe, in ms; for tests. */
  firstProbeMs?: number;
}

export function createPusher(deps: PusherDeps, stopping: AbortSignal) {
  const { retryPausesMs = RETRY_PAUSES_MS, firstProbeMs = FIRST_PROBE_PAUSE_MS, endpoints } = deps;
  const storing = pLimit(STORING_MAX);
  const source = createEventSource(deps);
  const lanes = new Map<number, { lane: Lane; sender: Sender; busyAtMs: number }>();

  function laneOf(endpointId: number): Lane {
    const known = lanes.get(endpointId);
    if (known) {
      known.busyAtMs = Date.now();
      return known.lane;
    }
    const sender = createSender(deps.sender);
    const deliver = createDeliverer({ ...deps, retryPausesMs, firstProbeMs, storing }, sender);
    const lane = createLane(endpointId, { ...deps, source, deliver, storing, stopping });
    lanes.set(endpointId, { lane, sender, busyAtMs: Date.now() });
    return lane;
  }

  function closeIdle(): void {
    for (const [endpointId, { lane, sender, busyAtMs }] of lanes) {
      if (Date.now() - busyAtMs < IDLE_MAX_MS || !lane.isIdle()) continue;
      sender.close();
      lanes.delete(endpointId);
    }
  }

  return {
    /** One pass of a loop. @returns the pause before the next, in ms */
    async pass(): Promise<number> {
      const busy = await endpoints.listBusy();
      for (const endpointId of busy) laneOf(endpointId).kick();
      closeIdle();
      return (await endpoints.deleteRemoved()) ? 0 : LOOK_EVERY_MS;
    },

    /** Waits for the attempts under way, each of which is bounded. */
    async drain(): Promise<void> {
      await Promise.all([...lanes.values()].map(({ lane }) => lane.drain()));
      for (const { sender } of lanes.values()) sender.close();
    },
  };
}

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

export function createEventSource(stores: Stores) {
  const remembered = new LRUCache<number, FeedEvent>({
    max: REMEMBERED_MAX,
    ttl: REMEMBERED_MS,
    maxSize: REMEMBERED_BYTES_MAX,
    sizeCalculation: (event) => ('orderNo' in event ? ORDER_BYTES : JSON.stringify(event.data).length),
  });

  async function readPage(after: number, limit: number, filter: EventFilter = {}): Promise<EventPage> {
    const page = await readEvents(stores, { after, limit, filter });
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

/**
 * Adds deliveries of an endpoint. What is new goes first; what is delivered again takes the room that it
 * leaves.
 * @returns whether there is more at once
 */
export async function feedEndpoint(deps: FeederDeps, endpointId: number): Promise<boolean> {
  const { endpoints, source } = deps;
  const place = await endpoints.readCursor(endpointId);
  if (!place || place.room <= 0) return false;
  const limit = Math.min(PAGE_MAX, place.room);
  const { events, next } = await source.readPage(place.fed, limit, filterOf(place.filter));
  if (next > place.fed) {
    await endpoints.advance(endpointId, { from: place.fed, to: next }, events.flatMap(toDeliveries));
    return true;
  }
  return place.replay ? feedAgain(deps, endpointId, place, place.replay, limit) : false;
}

async function feedAgain(
  { endpoints, source }: FeederDeps,
  endpointId: number,
  { filter }: FeedCursor,
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
  await endpoints.advanceReplay(endpointId, { from: after, to, isLast }, again.flatMap(toDeliveries));
  return !isLast;
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
