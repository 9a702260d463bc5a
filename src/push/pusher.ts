/** Delivers events to the shop's endpoints: a lane for each, kicked when there is something to do. */

import pLimit from 'p-limit';
import type { LimitFunction } from 'p-limit';
import { MAX_PUSHES_IN_FLIGHT } from '../domain/limits.ts';
import type { EventFeed } from '../events/event-feed.ts';
import type { Claim, ClaimedDelivery } from '../stores/mysql/push/deliveries.ts';
import type { Stores } from '../stores/open.ts';
import {
  type Deliverer,
  createDeliverer,
  createSender,
  type Sender,
  type SenderOptions,
  RETRY_PAUSES_MS,
} from './deliverer.ts';
import { type EventSource, createEventSource, createFeeder } from './feeder.ts';

// What one endpoint has in hand in this process: nothing of it waits for another endpoint.

/** So many under way are few enough to claim more: half of all by one transaction, not one by one. */
const REFILL_AT = MAX_PUSHES_IN_FLIGHT / 2;

export interface LaneDeps extends Stores {
  /** Adds deliveries. @returns whether there is more at once */
  feed: (endpointId: number) => Promise<boolean>;

  source: Pick<EventSource, 'find'>;
  deliver: Deliverer;
  /** Bounds the work with MySQL of all endpoints together. */
  storing: LimitFunction;

  stopping: AbortSignal;
}

export type Lane = ReturnType<typeof createLane>;

function createLane(endpointId: number, deps: LaneDeps) {
  const { feed, deliveries, source, deliver, storing, log, stopping } = deps;
  const inFlight = new Set<Promise<void>>();
  let looking: Promise<void> | undefined;
  /** What is to be looked for: room for more of the feed, or only what is due. */
  let wanted: 'feed' | 'due' | undefined;

  async function look(): Promise<void> {
    while (wanted && !stopping.aborted) {
      const hasFed = wanted === 'feed';
      wanted = undefined;
      if (hasFed && (await storing(() => feed(endpointId)))) wanted = 'feed';
      const claim = await storing(() => deliveries.take(endpointId));
      if (claim) await start(claim);
    }
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
/** Steps that use MySQL at once: the others of the process' 20 connections are for orders. */
const STORING_MAX = 4;

export interface PusherDeps extends Stores {
  eventFeed: Pick<EventFeed, 'read'>;

  sender: SenderOptions;

  /** The pause after each failed try, in ms; for tests. */
  retryPausesMs?: readonly number[];
}

export function createPusher(deps: PusherDeps, stopping: AbortSignal) {
  const { retryPausesMs = RETRY_PAUSES_MS, endpointFeed } = deps;
  const storing = pLimit(STORING_MAX);
  const source = createEventSource(deps.eventFeed);
  const feed = createFeeder({ ...deps, source });
  const lanes = new Map<number, { lane: Lane; sender: Sender; busyAtMs: number }>();

  function laneOf(endpointId: number): Lane {
    const known = lanes.get(endpointId);
    if (known) {
      known.busyAtMs = Date.now();
      return known.lane;
    }
    const sender = createSender(deps.sender);
    const deliver = createDeliverer({ ...deps, retryPausesMs, storing }, sender);
    const lane = createLane(endpointId, { ...deps, feed, source, deliver, storing, stopping });
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
      const busy = await endpointFeed.listBusy();
      for (const endpointId of busy) laneOf(endpointId).kick();
      closeIdle();
      return (await endpointFeed.deleteRemoved()) ? 0 : LOOK_EVERY_MS;
    },

    /** Waits for the attempts under way, each of which is bounded. */
    async drain(): Promise<void> {
      await Promise.all([...lanes.values()].map(({ lane }) => lane.drain()));
      for (const { sender } of lanes.values()) sender.close();
    },
  };
}
