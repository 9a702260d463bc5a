/** The metrics that dashboards and alarms read. Those of Node, and what they show, are left out. */

import { showBoard } from '../../../src/api/gauges.ts';
import { createMetrics } from '../../../src/metrics.ts';
import { createStatusBoard, type StatusReaders } from '../../../src/status/board.ts';

const OURS = /^holdfast_/;

const none = { waiting: 0, oldestMs: null };
/** Nothing waits, and all is known. */
const NOTHING: StatusReaders = {
  redisTakesWrites: async () => true,
  mysqlTakesWrites: async () => true,
  workers: async () => [],
  outboxes: async () => [],
  slots: async () => 0,
  memory: async () => [],
  backlog: async () => ({ notBegun: none, payments: none, refunds: 0 }),
  parked: async () => [],
  drift: async () => null,
  events: async () => ({ waiting: 0, consumers: [] }),
  endpoints: async () => [],
  api: async () => ({ tokens: {}, clocks: [] }),
  saleStocks: async () => [],
  saleTotals: async () => [],
};

/** With the values of the labels that are known before anything has happened. */
export async function showMetrics() {
  const metrics = createMetrics();
  const board = createStatusBoard(NOTHING);
  showBoard(metrics, board);
  await board.look();
  const labelNames = new Map(
    metrics.registry.getMetricsAsArray().map((metric) => [metric.name, labelNamesOf(metric)]),
  );
  const found = await metrics.registry.getMetricsAsJSON();
  const shown = found
    .filter(({ name }) => OURS.test(name))
    .map(({ name, help, type, values }) => [
      name,
      {
        help,
        type,
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
