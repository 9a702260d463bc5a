/**
 * The counters of a process, for Prometheus to fetch. Each service has its own registry, so that the counts
 * of two services in one process never mix.
 */

import { collectDefaultMetrics, Counter, Registry } from 'prom-client';

/**
 * How a payment notice was answered, each answer counted once. accepted: 2xx, the notice is committed.
 * forged: 401, the signature is wrong or stale. malformed: any other 4xx. unavailable: 5xx, so the provider
 * repeats it.
 */
const NOTICE_OUTCOMES = ['accepted', 'forged', 'malformed', 'unavailable'] as const;
export type NoticeOutcome = (typeof NOTICE_OUTCOMES)[number];

/** The kinds of calls that load shedding bounds separately. */
const LANES = ['purchases', 'notices', 'payments', 'others', 'staff', 'queries', 'feeds', 'bodies'] as const;
export type LaneName = (typeof LANES)[number];

export type WorkerMetrics = ReturnType<typeof createWorkerMetrics>;

export function createWorkerMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const failures = new Counter({
    name: 'holdfast_loop_failures_total',
    help: 'Passes of the loops of a worker that failed and were repeated, by loop.',
    labelNames: ['loop'],
    registers: [registry],
  });
  return {
    registry,
    contentType: registry.contentType,
    read: (): Promise<string> => registry.metrics(),
    passFailed: (loop: string): void => failures.inc({ loop }),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const notices = new Counter({
    name: 'holdfast_notices_total',
    help: 'Payment notices by how they were answered.',
    labelNames: ['outcome'],
    registers: [registry],
  });
  const shed = new Counter({
    name: 'holdfast_shed_total',
    help: 'Calls refused because too many were at work, by lane.',
    labelNames: ['lane'],
    registers: [registry],
  });
  const lost = new Counter({
    name: 'holdfast_lost_orders_total',
    help: 'Accepted orders that were asked for and had been lost with the data of Redis.',
    registers: [registry],
  });
  // Each label begins at 0, so that its first event shows as an increase.
  for (const outcome of NOTICE_OUTCOMES) notices.inc({ outcome }, 0);
  for (const lane of LANES) shed.inc({ lane }, 0);

  return {
    registry,
    contentType: registry.contentType,

    /** All metrics in Prometheus' text format. */
    read: (): Promise<string> => registry.metrics(),

    orderLost: (): void => lost.inc(),

    noticeAnswered: (outcome: NoticeOutcome): void => notices.inc({ outcome }),

    /** The caller creates it once for each lane, so that counting a refusal costs only the increment. */
    shedCounter(lane: LaneName): () => void {
      const counter = shed.labels(lane);
      return () => counter.inc();
    },
  };
}
