/** Shows in the metrics how far events and their consumers are behind. */

import { Gauge } from 'prom-client';
import type { Metrics } from '../metrics.ts';
import type { Stores } from '../stores/open.ts';

/** MySQL answers within milliseconds. While it does not, the scrape goes on without these samples. */
const EVENTS_TIMEOUT_MS = 500;
/** Counted up to so many, because a scrape must cost little; more is as bad. */
const WAITING_MAX = 10_000;

/** Read at each scrape. Every process of the API shows the same, so of several the first one counts. */
export function showEventLag(
  { registry }: Pick<Metrics, 'registry'>,
  { eventDispatch, eventConsumers }: Stores,
): void {
  const shared = { registers: [registry], aggregator: 'first' as const };
  const waiting = new Gauge({
    ...shared,
    name: 'holdfast_event_lag',
    help: `Events that are recorded and cannot be read yet, counted up to ${WAITING_MAX}; NaN: unknown.`,
    async collect() {
      waiting.set((await inTime(eventDispatch.countWaiting(WAITING_MAX))) ?? Number.NaN);
    },
  });
  const behind = new Gauge({
    ...shared,
    name: 'holdfast_event_consumer_lag',
    help: 'Events that a named consumer has not done with.',
    labelNames: ['consumer'],
    async collect() {
      const found = await inTime(eventConsumers.list());
      behind.reset();
      for (const { name: consumer, lag } of found?.consumers ?? []) behind.set({ consumer }, lag);
    },
  });
}

/** Undefined when there is no answer in time. */
function inTime<T>(answer: Promise<T>): Promise<T | undefined> {
  const late = new Promise<undefined>((resolve) => {
    setTimeout(resolve, EVENTS_TIMEOUT_MS, undefined).unref();
  });
  return Promise.race([answer.catch(() => undefined), late]);
}
