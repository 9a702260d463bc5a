/** Shows in the metrics what waits and which workers live. Every process of the API shows the same. */

import { Gauge } from 'prom-client';
import type { Metrics } from '../metrics.ts';
import { PARKED_KINDS } from '../parked/parked.sql.ts';
import type { Endpoint } from '../push/endpoints.sql.ts';
import { PARTS, type StatusBoard } from '../status/board.ts';
import { stateOf, sumOf, type Waiting } from '../status/status.ts';

interface Sample {
  labels: Record<string, string>;
  value: number;
}

interface BoardGauge {
  name: string;
  help: string;
  labelNames: readonly string[];
  /** Undefined: it is not known, and the gauge is absent. */
  read: (board: StatusBoard) => Sample[] | undefined;
}

/** Sales that have a sample of their own; those with fewer waiting orders are one sample together. */
const SALES_SHOWN_MAX = 20;

const inSeconds = (ms: number | null): number => (ms ?? 0) / 1_000;
const alone = (value: number): Sample[] => [{ labels: {}, value }];

/** How many wait, and for how long. */
function waitingGauges(
  name: string,
  what: string,
  read: (board: StatusBoard) => Waiting | undefined,
): BoardGauge[] {
  const sample = (of: (waiting: Waiting) => number) => (board: StatusBoard) => {
    const waiting = read(board);
    return waiting && alone(of(waiting));
  };
  return [
    {
      name: `holdfast_${name}`,
      help: `${what}, counted up to 10,000.`,
      labelNames: [],
      read: sample(({ waiting }) => waiting),
    },
    {
      name: `holdfast_${name}_oldest_seconds`,
      help: `${what}: how long the oldest has waited; 0: none does.`,
      labelNames: [],
      read: sample(({ oldestMs }) => inSeconds(oldestMs)),
    },
  ];
}

/** Each with one sample an endpoint. */
const ENDPOINT_GAUGES: readonly { name: string; help: string; valueOf: (endpoint: Endpoint) => number }[] = [
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

function secondsBetween(since: Date | null, now: Date): number {
  return since === null ? 0 : Math.max(0, (now.getTime() - since.getTime()) / 1_000);
}

/** Any node of a cluster answers for its role, while the node with the engine's slots may be away. */
function hasData(board: StatusBoard, store: 'redis' | 'mysql'): boolean {
  return store === 'mysql' || board.isKnown('slots') !== false;
}

/** SKUs of a sale that have samples of their own; the others are one together. */
const SKUS_SHOWN_MAX = 50;

const UNITS = ['available', 'held', 'sold'] as const;

/** Each with a sample for every sale that is open or ended within the hour. */
const SALE_GAUGES: readonly BoardGauge[] = [
  {
    name: 'holdfast_sale_units',
    help: 'Units of a sale that are available, held or sold, by SKU: the first 50, and all others as one.',
    labelNames: ['sale', 'sku', 'what'],
    read(board) {
      const units = new Map<string, Sample>();
      for (const { saleId: sale, skus } of board.current('saleStocks') ?? [])
        for (const [i, { sku, ...counts }] of skus.entries())
          for (const what of UNITS)
            addSample(units, { sale, sku: i < SKUS_SHOWN_MAX ? sku : 'others', what }, counts[what]);
      return [...units.values()];
    },
  },
  {
    name: 'holdfast_sale_refused',
    help: 'Purchases of a sale that were refused since it began, by the code of the refusal.',
    labelNames: ['sale', 'reason'],
    read: (board) =>
      board
        .current('saleStocks')
        ?.flatMap(({ saleId: sale, refused }) =>
          Object.entries(refused).map(([reason, value]) => ({ labels: { sale, reason }, value })),
        ),
  },
  {
    name: 'holdfast_sale_orders',
    help: 'Orders of a sale that were accepted and stored, paid, or ended unpaid. Absent while they are not counted.',
    labelNames: ['sale', 'what'],
    read: (board) =>
      board.current('saleTotals')?.flatMap(({ saleId: sale, accepted, paid, endedUnpaid }) => [
        { labels: { sale, what: 'accepted' }, value: accepted },
        { labels: { sale, what: 'paid' }, value: paid },
        { labels: { sale, what: 'ended_unpaid' }, value: addUp(Object.values(endedUnpaid)) },
      ]),
  },
  {
    name: 'holdfast_sale_money',
    help: 'Money that a sale has taken, and what of it went back, in minor units. Absent while it is not counted.',
    labelNames: ['sale', 'currency', 'what'],
    read: (board) =>
      board.current('saleTotals')?.flatMap(({ saleId: sale, currency, taken, refunded }) => [
        { labels: { sale, currency, what: 'taken' }, value: taken },
        { labels: { sale, currency, what: 'refunded' }, value: refunded },
      ]),
  },
];

const addUp = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/** By which a store is known to answer and to take writes: each is read first of those of its store. */
const STORE_PARTS = [
  ['redis', 'redisTakesWrites'],
  ['mysql', 'mysqlTakesWrites'],
] as const;

const BOARD_GAUGES: readonly BoardGauge[] = [
  {
    name: 'holdfast_outbox_orders',
    help: 'Accepted orders that are not stored yet, by sale: the 20 with the most, and all others as one.',
    labelNames: ['sale'],
    read(board) {
      const outboxes = board.current('outboxes');
      if (!outboxes) return undefined;
      const shown = outboxes.slice(0, SALES_SHOWN_MAX);
      return [
        ...shown.map(({ saleId, waiting }) => ({ labels: { sale: saleId }, value: waiting })),
        { labels: { sale: 'others' }, value: sumOf(outboxes.slice(SALES_SHOWN_MAX)).waiting },
      ];
    },
  },
  {
    name: 'holdfast_outbox_oldest_seconds',
    help: 'How long the oldest accepted order has waited to be stored; 0: none does.',
    labelNames: [],
    read(board) {
      const outboxes = board.current('outboxes');
      return outboxes && alone(inSeconds(sumOf(outboxes).oldestMs));
    },
  },
  {
    name: 'holdfast_engine_slots_taken',
    help: 'Slots of ENGINE_BUDGET that are taken.',
    labelNames: [],
    read(board) {
      const slots = board.current('slots');
      return slots === undefined ? undefined : alone(slots);
    },
  },
  {
    name: 'holdfast_redis_memory_bytes',
    help: 'Memory that each Redis uses, as it compares it with its maxmemory.',
    labelNames: ['node'],
    read: (board) =>
      board.current('memory')?.map(({ node, usedBytes }) => ({ labels: { node }, value: usedBytes })),
  },
  {
    name: 'holdfast_redis_memory_max_bytes',
    help: 'The maxmemory of each Redis; without one, the memory of its machine.',
    labelNames: ['node'],
    read: (board) =>
      board
        .current('memory')
        ?.flatMap(({ node, maxBytes }) => (maxBytes === null ? [] : [{ labels: { node }, value: maxBytes }])),
  },
  ...waitingGauges(
    'orders_not_begun',
    'Stored orders whose workflow has not begun',
    (board) => board.current('backlog')?.notBegun,
  ),
  ...waitingGauges(
    'payments_waiting',
    'Recorded payments that have not reached their order',
    (board) => board.current('backlog')?.payments,
  ),
  {
    name: 'holdfast_refunds_due',
    help: 'Refunds whose workflow is to be started or signalled, counted up to 10,000.',
    labelNames: [],
    read(board) {
      const backlog = board.current('backlog');
      return backlog && alone(backlog.refunds);
    },
  },
  {
    name: 'holdfast_parked',
    help: 'Parked work that waits for an operator, by kind.',
    labelNames: ['kind'],
    read(board) {
      const parked = board.current('parked');
      return parked && PARKED_KINDS.map((kind) => ({ labels: { kind }, value: waitingOf(parked, kind) }));
    },
  },
  {
    name: 'holdfast_workers',
    help: 'Workers of the last five minutes. hanging: a loop stands still. silent: frozen, cut off or killed.',
    labelNames: ['state', 'build'],
    read(board) {
      const workers = board.current('workers');
      if (!workers) return undefined;
      const counts = new Map<string, Sample>();
      // So that an alarm has a number while there is no worker.
      for (const state of ['alive', 'hanging', 'silent']) addSample(counts, { state, build: '' }, 0);
      for (const worker of workers) addSample(counts, { state: stateOf(worker), build: worker.build }, 1);
      return [...counts.values()];
    },
  },
  {
    name: 'holdfast_drift_units',
    help: 'Units that Redis and MySQL counted differently, as the last look of the reconciliation found.',
    labelNames: ['sale', 'sku', 'what'],
    read(board) {
      const drift = board.current('drift');
      if (drift === undefined) return undefined;
      const units = new Map<string, Sample>();
      for (const { saleId: sale, sku, what, units: off } of drift?.entries ?? [])
        addSample(units, { sale, sku, what }, Math.abs(off));
      return [...units.values()];
    },
  },
  {
    name: 'holdfast_drift_looked_at_seconds',
    help: 'Since when each sale has been compared whole by the reconciliation (Unix time); 0: one never was.',
    labelNames: [],
    read(board) {
      const drift = board.current('drift');
      return drift === undefined ? undefined : alone(inSeconds(drift?.lookedAtMs ?? 0));
    },
  },
  {
    name: 'holdfast_event_lag',
    help: 'Events that are recorded and cannot be read yet, counted up to 10,000.',
    labelNames: [],
    read(board) {
      const events = board.current('events');
      return events && alone(events.waiting);
    },
  },
  {
    name: 'holdfast_event_consumer_lag',
    help: 'Events that a named consumer has not done with.',
    labelNames: ['consumer'],
    read: (board) =>
      board.current('events')?.consumers.map(({ name, lag }) => ({ labels: { consumer: name }, value: lag })),
  },
  ...ENDPOINT_GAUGES.map(({ name, help, valueOf }): BoardGauge => ({
    name,
    help,
    labelNames: ['endpoint'],
    read: (board) =>
      board
        .current('endpoints')
        ?.map((endpoint) => ({ labels: { endpoint: endpoint.name }, value: valueOf(endpoint) })),
  })),
  ...SALE_GAUGES,
  {
    name: 'holdfast_store_up',
    help: '1 where a store has answered within the last seconds, and takes writes.',
    labelNames: ['store'],
    read: (board) =>
      STORE_PARTS.flatMap(([store, part]) => {
        const isKnown = board.isKnown(part);
        return isKnown === undefined
          ? []
          : [{ labels: { store }, value: Number(isKnown && hasData(board, store) && board.current(part)) }];
      }),
  },
  {
    name: 'holdfast_status_age_seconds',
    help: 'Since when each part of what the gauges show was read.',
    labelNames: ['part'],
    read: (board) => PARTS.map((part) => ({ labels: { part }, value: inSeconds(board.ageMs(part)) })),
  },
];

function waitingOf(parked: readonly ({ kind: string } & Waiting)[], kind: string): number {
  return parked.find((each) => each.kind === kind)?.waiting ?? 0;
}

function addSample(samples: Map<string, Sample>, labels: Record<string, string>, value: number): void {
  const key = JSON.stringify(labels);
  samples.set(key, { labels, value: (samples.get(key)?.value ?? 0) + value });
}

export function showBoard({ registry }: Pick<Metrics, 'registry'>, board: StatusBoard): void {
  for (const { name, help, labelNames, read } of BOARD_GAUGES) {
    const gauge = new Gauge({
      registers: [registry],
      name,
      help,
      labelNames,
      collect() {
        gauge.reset();
        // Without a label a gauge begins with a value, and what is not known has none.
        if (labelNames.length === 0) gauge.remove();
        for (const { labels, value } of read(board) ?? []) gauge.set(labels, value);
      },
    });
  }
}
