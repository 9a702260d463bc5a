/** Shows in the metrics how the endpoints of push fare, as workers serve no port. */

import { Gauge } from 'prom-client';
import type { Metrics } from '../metrics.ts';
import type { Endpoint } from '../stores/mysql/push/endpoint-rows.ts';
import type { Stores } from '../stores/open.ts';

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
  let reading: Promise<Endpoint[]> | undefined;
  const readOnce = (): Promise<Endpoint[]> =>
    (reading ??= readEndpointsInTime(endpoints).finally(() => {
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
        const found = await readOnce();
        gauge.reset();
        for (const endpoint of found) gauge.set({ endpoint: endpoint.name }, valueOf(endpoint));
      },
    });
  }
}

function secondsBetween(since: Date | null, now: Date): number {
  return since === null ? 0 : Math.max(0, (now.getTime() - since.getTime()) / 1_000);
}

/** None when MySQL does not answer in time. */
function readEndpointsInTime(endpoints: Pick<Stores['endpoints'], 'list'>): Promise<Endpoint[]> {
  const late = new Promise<Endpoint[]>((resolve) => {
    setTimeout(resolve, PUSH_TIMEOUT_MS, []).unref();
  });
  return Promise.race([endpoints.list().catch(() => []), late]);
}
