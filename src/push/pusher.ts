/** Delivers events to the shop's endpoints: a lane for each, kicked when there is something to do. */

import pLimit from 'p-limit';
import type { EventFeed } from '../events/event-feed.ts';
import type { Stores } from '../stores/open.ts';
import { createDeliverer } from './deliverer.ts';
import { createEventSource } from './event-source.ts';
import { createFeeder } from './feeder.ts';
import { createLane, type Lane } from './lane.ts';
import { RETRY_PAUSES_MS } from './schedule.ts';
import { createSender, type Sender, type SenderOptions } from './sender.ts';

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
