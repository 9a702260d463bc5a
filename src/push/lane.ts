/** What one endpoint has in hand in this process: nothing of it waits for another endpoint. */

import type { LimitFunction } from 'p-limit';
import { MAX_PUSHES_IN_FLIGHT } from '../domain/limits.ts';
import type { Claim, ClaimedDelivery } from '../stores/mysql/push/delivery-claims.ts';
import type { Stores } from '../stores/open.ts';
import type { Deliverer } from './deliverer.ts';
import type { EventSource } from './event-source.ts';

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

export function createLane(endpointId: number, deps: LaneDeps) {
  const { feed, deliveryClaims, source, deliver, storing, log, stopping } = deps;
  const inFlight = new Set<Promise<void>>();
  let looking: Promise<void> | undefined;
  /** What is to be looked for: room for more of the feed, or only what is due. */
  let wanted: 'feed' | 'due' | undefined;

  async function look(): Promise<void> {
    while (wanted && !stopping.aborted) {
      const hasFed = wanted === 'feed';
      wanted = undefined;
      if (hasFed && (await storing(() => feed(endpointId)))) wanted = 'feed';
      const claim = await storing(() => deliveryClaims.take(endpointId));
      if (claim) await start(claim);
    }
  }

  async function start({ deliveries, ...target }: Claim): Promise<void> {
    const sequences = deliveries.flatMap(({ sequence }) => (sequence === null ? [] : [sequence]));
    const events = await storing(() => source.find(sequences));
    for (const delivery of deliveries) {
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
