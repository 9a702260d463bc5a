/** What one endpoint has in hand in this process: nothing of it waits for another endpoint. */

import type { LimitFunction } from 'p-limit';
import type { Logger } from 'pino';
import type { Claim, ClaimedDelivery, DeliveryClaims } from '../stores/mysql/push/delivery-claims.ts';
import type { Deliverer } from './deliverer.ts';
import type { EventSource } from './event-source.ts';

export interface LaneDeps {
  /** Adds deliveries. @returns whether there is more at once */
  feed: (endpointId: number) => Promise<boolean>;
  deliveryClaims: Pick<DeliveryClaims, 'take'>;
  source: Pick<EventSource, 'find'>;
  deliver: Deliverer;
  /** Bounds the work with MySQL of all endpoints together. */
  storing: LimitFunction;
  log: Logger;
  stopping: AbortSignal;
}

export type Lane = ReturnType<typeof createLane>;

export function createLane(endpointId: number, deps: LaneDeps) {
  const { feed, deliveryClaims, source, deliver, storing, log, stopping } = deps;
  const inFlight = new Set<Promise<void>>();
  let looking: Promise<void> | undefined;
  let isWanted = false;

  async function look(): Promise<void> {
    while (isWanted && !stopping.aborted) {
      isWanted = await storing(() => feed(endpointId));
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
          kick();
        });
      inFlight.add(attempt);
    }
  }

  /** What could not be recorded is sent again when its claim runs out. */
  function failed({ endpointName: endpoint, eventId }: ClaimedDelivery) {
    return (error: unknown) =>
      log.warn({ err: error, endpoint, eventId }, 'an attempt could not be recorded');
  }

  /** Looks for something to do, once more where it is looking already. */
  function kick(): void {
    isWanted = true;
    looking ??= look()
      .catch((error: unknown) => log.warn({ err: error, endpointId }, 'a look at an endpoint failed'))
      .finally(() => {
        looking = undefined;
      });
  }

  return {
    kick,

    isIdle: (): boolean => looking === undefined && inFlight.size === 0,

    /** Settles when nothing is in hand any more. */
    async drain(): Promise<void> {
      const inHand = (): Promise<void>[] => [...(looking ? [looking] : []), ...inFlight];
      for (let rest = inHand(); rest.length > 0; rest = inHand()) await Promise.all(rest);
    },
  };
}
