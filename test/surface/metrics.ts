/** The metrics that dashboards and alarms read. Those of Node, and what they show, are left out. */

import { showBoard, showDrift, showEventLag, showPush } from '../../src/api/gauges.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createStatusBoard, statusReaders } from '../../src/status/board.ts';
import type { Stores } from '../../src/stores/open.ts';
import { partly } from '../support/partly.ts';

const OURS = /^holdfast_/;

/** With the values of the labels that are known before anything has happened. */
export async function showMetrics() {
  const metrics = createMetrics();
  showDrift(metrics, { read: async () => undefined });
  showEventLag(
    metrics,
    partly<Stores>({
      eventRows: { countWaiting: async () => 0 },
      eventConsumers: { list: async () => ({ consumers: [], last: 0 }) },
    }),
  );
  showBoard(
    metrics,
    createStatusBoard(statusReaders(async () => partly<Stores>({}), partly<Stores>({ mysqlStatus: {} }))),
  );
  showPush(metrics, { list: async () => [] });
  const labelNames = new Map(
    metrics.registry.getMetricsAsArray().map((metric) => [metric.name, labelNamesOf(metric)]),
  );
  const found = await metrics.registry.getMetricsAsJSON();
  const shown = found
    .filter(({ name }) => OURS.test(name))
    .map(({ name, help, type, aggregator, values }) => [
      name,
      {
        help,
        type,
        aggregator,
        labels: labelNames.get(name) ?? [],
        values: values.map(({ labels }) => Object.values(labels).join(' ')).filter((value) => value !== ''),
      },
    ]);
  return Object.fromEntries(shown);
}

/** The typings of the library leave them out. */
function labelNamesOf(metric: object): unknown {
  return Reflect.get(metric, 'labelNames');
}
