/** What a process counts, for Prometheus to fetch. Each service has a registry of its own, so two in one process never mix. */

import { collectDefaultMetrics, Counter, Registry } from 'prom-client';

/**
 * How a payment notice was answered. accepted: 2xx, it is committed. forged: 401, the signature is wrong or stale. malformed: any
 * other 4xx. unavailable: 5xx, so the provider sends it again. Each answer counts once.
 */
const NOTICE_OUTCOMES = ['accepted', 'forged', 'malformed', 'unavailable'] as const;
export type NoticeOutcome = (typeof NOTICE_OUTCOMES)[number];

/** The kinds of calls that load shedding keeps apart. */
const LANES = ['purchases', 'notices', 'others'] as const;
export type LaneName = (typeof LANES)[number];

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
  // From the start, so that the first of its kind is seen as an increase.
  for (const outcome of NOTICE_OUTCOMES) notices.inc({ outcome }, 0);
  for (const lane of LANES) shed.inc({ lane }, 0);

  return {
    contentType: registry.contentType,

    /** Everything, in Prometheus' text format. */
    read: (): Promise<string> => registry.metrics(),

    noticeAnswered: (outcome: NoticeOutcome): void => notices.inc({ outcome }),

    /** Made once for a lane, so that counting a refusal costs no more than the increment. */
    shedCounter(lane: LaneName): () => void {
      const counter = shed.labels(lane);
      return () => counter.inc();
    },
  };
}
