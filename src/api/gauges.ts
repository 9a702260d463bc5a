/** Gauges of what all processes share, read when somebody scrapes: drift, the events and the push. */

import cluster from 'node:cluster';
import { AggregatorRegistry, Gauge } from 'prom-client';
import { z } from 'zod';
import type { Metrics } from '../metrics.ts';
import type { Endpoint } from '../push/endpoints.sql.ts';
import type { Stores } from '../stores/open.ts';

// The metrics of several API processes as one: a scrape reaches any of them, which asks the process that
// started them all for the sum.

const question = z.object({ type: z.literal('holdfast:metrics?'), id: z.int() });
const textAnswer = z.object({
  type: z.literal('holdfast:metrics'),
  id: z.int(),
  text: z.string().nullable(),
});
type Question = z.infer<typeof question>;
type Answer = z.infer<typeof textAnswer>;

/** In the process that started the others. Gauges of time are averaged, all else is added up. */
export function answerForAll(): void {
  const all = new AggregatorRegistry();
  cluster.on('message', (worker, message: unknown) => {
    const asked = question.safeParse(message).data;
    if (!asked) return;
    // One that dies meanwhile leaves the sum without an answer: the next scrape has one.
    const reply = (text: string | null): boolean =>
      worker.send({ type: 'holdfast:metrics', id: asked.id, text } satisfies Answer);
    all.clusterMetrics().then(reply, () => reply(null));
  });
}

/** In each of the others. @returns the same metrics, of which all processes together are read */
export function shareMetrics(metrics: Metrics): Metrics {
  const waiting = new Map<number, (text: string | null) => void>();
  let lastId = 0;
  AggregatorRegistry.setRegistries(metrics.registry);
  // It listens for what the process that started this one asks.
  void new AggregatorRegistry();
  process.on('message', (message) => {
    const answered = textAnswer.safeParse(message).data;
    if (!answered) return;
    waiting.get(answered.id)?.(answered.text);
    waiting.delete(answered.id);
  });

  return {
    ...metrics,
    async read() {
      const id = (lastId += 1);
      const text = await new Promise<string | null>((resolve) => {
        waiting.set(id, resolve);
        process.send?.({ type: 'holdfast:metrics?', id } satisfies Question);
      });
      if (text === null) throw new Error('not all API processes sent their metrics');
      return text;
    },
  };
}

// Shows in the metrics what the last run of the reconciliation found, as workers serve no port.

/** Redis answers within a millisecond. While it does not, the scrape goes on without these samples. */
const DRIFT_TIMEOUT_MS = 500;

/** Read at each scrape. Every process of the API shows the same, so of several the first one counts. */
export function showDrift(
  { registry }: Pick<Metrics, 'registry'>,
  board: Pick<Stores['driftBoard'], 'read'>,
): void {
  const shared = { registers: [registry], aggregator: 'first' as const };
  const units = new Gauge({
    ...shared,
    name: 'holdfast_drift_units',
    help: 'Units that Redis and MySQL counted differently, as the last look of the reconciliation found.',
    labelNames: ['sale', 'sku', 'what'],
    async collect() {
      const drift = await inTime(board.read(), DRIFT_TIMEOUT_MS);
      units.reset();
      for (const { saleId: sale, sku, what, units: off } of drift?.entries ?? []) {
        units.inc({ sale, sku, what }, Math.abs(off));
      }
    },
  });
  const lookedAt = new Gauge({
    ...shared,
    name: 'holdfast_drift_looked_at_seconds',
    help: 'When the reconciliation last compared the stores (Unix time).',
    async collect() {
      const drift = await inTime(board.read(), DRIFT_TIMEOUT_MS);
      // Without a label there is no gauge without a value: 0 is long ago.
      lookedAt.set((drift?.lookedAtMs ?? 0) / 1_000);
    },
  });
}

// Shows in the metrics how far events and their consumers are behind.

/** MySQL answers within milliseconds. While it does not, the scrape goes on without these samples. */
const EVENTS_TIMEOUT_MS = 500;
/** Counted up to so many, because a scrape must cost little; more is as bad. */
const WAITING_MAX = 10_000;

/** Read at each scrape. Every process of the API shows the same, so of several the first one counts. */
export function showEventLag(
  { registry }: Pick<Metrics, 'registry'>,
  { eventRows, eventConsumers }: Stores,
): void {
  const shared = { registers: [registry], aggregator: 'first' as const };
  const waiting = new Gauge({
    ...shared,
    name: 'holdfast_event_lag',
    help: `Events that are recorded and cannot be read yet, counted up to ${WAITING_MAX}; NaN: unknown.`,
    async collect() {
      waiting.set((await inTime(eventRows.countWaiting(WAITING_MAX), EVENTS_TIMEOUT_MS)) ?? Number.NaN);
    },
  });
  const behind = new Gauge({
    ...shared,
    name: 'holdfast_event_consumer_lag',
    help: 'Events that a named consumer has not done with.',
    labelNames: ['consumer'],
    async collect() {
      const found = await inTime(eventConsumers.list(), EVENTS_TIMEOUT_MS);
      behind.reset();
      for (const { name: consumer, lag } of found?.consumers ?? []) behind.set({ consumer }, lag);
    },
  });
}

// Shows in the metrics how the endpoints of push fare, as workers serve no port.

/** While MySQL does not answer within it, the scrape goes on without these samples. */
const PUSH_TIMEOUT_MS = 1_000;

/** Each with one sample an endpoint. */
const GAUGES: { name: string; help: string; valueOf: (endpoint: Endpoint) => number }[] = [
  {
    name: 'holdfast_push_waiting',
    help: 'Deliveries that wait for the endpoint.',
    valueOf: ({ health }) => health.waiting,
  },
  {
    name: 'holdfast_push_behind',
    help: 'Events of the feed that are yet to be looked at for the endpoint.',
    valueOf: ({ health }) => health.behind,
  },
  {
    name: 'holdfast_push_waiting_seconds',
    help: 'How long the oldest delivery has waited.',
    valueOf: ({ health, readAt }) => secondsBetween(health.waitingSince, readAt),
  },
  {
    name: 'holdfast_push_failing_seconds',
    help: 'How long every attempt has failed; 0: the last one did not.',
    valueOf: ({ health, readAt }) => secondsBetween(health.failingSince, readAt),
  },
  {
    name: 'holdfast_push_disabled',
    help: '1 where nothing is sent, for an operator has disabled the endpoint or it has answered 410.',
    valueOf: ({ disabledFor }) => Number(disabledFor !== null),
  },
];

/** Read once for each scrape. Every process of the API shows the same, so of several the first one counts. */
export function showPush(
  { registry }: Pick<Metrics, 'registry'>,
  endpoints: Pick<Stores['endpoints'], 'list'>,
): void {
  let reading: Promise<Endpoint[] | undefined> | undefined;
  const readOnce = (): Promise<Endpoint[] | undefined> =>
    (reading ??= inTime(endpoints.list(), PUSH_TIMEOUT_MS).finally(() => {
      reading = undefined;
    }));
  for (const { name, help, valueOf } of GAUGES) {
    const gauge: Gauge<'endpoint'> = new Gauge({
      registers: [registry],
      aggregator: 'first',
      name,
      help,
      labelNames: ['endpoint'],
      async collect() {
        const found = (await readOnce()) ?? [];
        gauge.reset();
        for (const endpoint of found) gauge.set({ endpoint: endpoint.name }, valueOf(endpoint));
      },
    });
  }
}

function secondsBetween(since: Date | null, now: Date): number {
  return since === null ? 0 : Math.max(0, (now.getTime() - since.getTime()) / 1_000);
}

/** Undefined when there is no answer in time. */
function inTime<T>(answer: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  const late = new Promise<undefined>((resolve) => {
    setTimeout(resolve, timeoutMs, undefined).unref();
  });
  return Promise.race([answer.catch(() => undefined), late]);
}
