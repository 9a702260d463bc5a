/**
 * What a process counts and measures, for Prometheus to fetch. Each service has its own registry, so that the
 * counts of two services in one process never mix; errors of the stores alone are those of the process.
 */

import { channel } from 'node:diagnostics_channel';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { SYSTEM_CLOCK } from './clock.ts';

/**
 * How a payment notice was answered, each answer counted once. accepted: 2xx, the notice is committed.
 * forged: 401, the signature is wrong or stale. malformed: any other 4xx. unavailable: 5xx, so the provider
 * repeats it.
 */
const NOTICE_OUTCOMES = ['accepted', 'forged', 'malformed', 'unavailable'] as const;
export type NoticeOutcome = (typeof NOTICE_OUTCOMES)[number];

/** Callers that wait for changes of an order: long polls, and streams of events. */
const WATCHER_KINDS = ['poll', 'stream'] as const;
export type WatcherKind = (typeof WATCHER_KINDS)[number];

/** Why one may not wait: too many of its user, or of all. */
const WATCHER_LIMITS = ['user', 'all'] as const;
export type WatcherLimit = (typeof WATCHER_LIMITS)[number];

/** The kinds of calls that load shedding bounds separately. */
const LANES = [
  'purchases',
  'notices',
  'payments',
  'others',
  'verifications',
  'looks',
  'staff',
  'queries',
  'feeds',
  'bodies',
] as const;
export type LaneName = (typeof LANES)[number];

/**
 * unavailable: it cannot be reached, or does not answer in time. conflict: a deadlock or a wait for a lock,
 * which is repeated. refused: it takes the statement, or its values, for wrong.
 */
const STORE_ERROR_KINDS = {
  mysql: ['unavailable', 'conflict', 'refused'],
  redis: ['unavailable', 'refused'],
} as const;
type StoreName = keyof typeof STORE_ERROR_KINDS;
type StoreErrorKind<S extends StoreName> = (typeof STORE_ERROR_KINDS)[S][number];

const storeErrors = channel('holdfast:store-error');

/** To all registries of the process: a connection does not know which service it serves. */
export function storeFailed<S extends StoreName>(store: S, kind: StoreErrorKind<S>): void {
  storeErrors.publish({ store, kind });
}

const mysqlWaits = channel('holdfast:mysql-wait');

/** Work has got its connection after so long, in ms: from the pool, or a new one. */
export function waitedForMysql(ms: number): void {
  mysqlWaits.publish(ms);
}

/** What a change of an order made of it, each once: the funnel of a sale. */
const ORDER_CHANGES = [
  'payable',
  'paid',
  'cancelled',
  'failed',
  'closing',
  'refunded',
  'payment_changed',
  'deadline_extended',
] as const;
export type OrderChangeKind = (typeof ORDER_CHANGES)[number];

/**
 * What was made of a token when it was verified; one that was good is remembered, and not counted again.
 * expired: it was good here before. expired_unseen: it was not, as where our clock is ahead of its issuer's.
 * not_yet_valid: our clock is behind. unknown_key: no key or algorithm of ours. wrong_issuer, wrong_audience,
 * no_user: signed by a key of ours, with other claims than the settings ask for. malformed: anything else
 * that is no token. keys_unavailable: not refused, as the issuer's keys could not be read.
 */
export const TOKEN_OUTCOMES = [
  'accepted',
  'expired',
  'expired_unseen',
  'not_yet_valid',
  'unknown_key',
  'wrong_signature',
  'wrong_issuer',
  'wrong_audience',
  'no_user',
  'malformed',
  'keys_unavailable',
] as const;
export type TokenOutcome = (typeof TOKEN_OUTCOMES)[number];

/** What becomes of purchases, with each refusal that an alert counts. Others begin with their first. */
const PURCHASE_OUTCOMES = [
  'accepted',
  'stored',
  'repeated',
  'sold_out',
  'overloaded',
  'backlog_full',
  'outcome_unknown',
  'stock_unavailable',
  'keys_unavailable',
  'internal_error',
];

/**
 * stored: within the wait. late: it ended first. cancelled: it ended first, and its order is being cancelled.
 * unknown: it ended first, and its order may be being cancelled. failed: the order has failed. full: too many
 * waited, so it was answered at once.
 */
const WAIT_OUTCOMES = ['stored', 'late', 'cancelled', 'unknown', 'failed', 'full'] as const;
export type WaitOutcome = (typeof WAIT_OUTCOMES)[number];

/** From a connection that is free to the wait after which work is given up. In seconds. */
const CONNECTION_BUCKETS = [0.001, 0.01, 0.05, 0.25, 1, 2];
/** From a few milliseconds, which a call takes, to what a caller waits for at most. In seconds. */
const CALL_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** From the pause between two looks to half a payment window. In seconds. */
export const ORDER_BUCKETS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900];

/** Three looks of a worker at Temporal, each with its time-out. */
const TEMPORAL_KNOWN_MS = 15_000;
/** Looks in a row without an answer: a single one is a pause of a busy server, and wakes nobody. */
const TEMPORAL_AWAY_LOOKS = 2;

/** What a scrape needs. */
export interface ReadableMetrics {
  contentType: string;
  /** All metrics in Prometheus' text format. */
  read(): Promise<string>;
}

/** What both kinds of processes have. */
function createRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const errors = new Counter({
    name: 'holdfast_store_errors_total',
    help: 'Statements and scripts that a store did not do, by kind, and connections to it that failed.',
    labelNames: ['store', 'kind'],
    registers: [registry],
  });
  for (const [store, kinds] of Object.entries(STORE_ERROR_KINDS))
    for (const kind of kinds) errors.inc({ store, kind }, 0);
  storeErrors.subscribe((error) => errors.inc(Object(error)));
  const waits = new Histogram({
    name: 'holdfast_mysql_wait_seconds',
    help: 'How long work waited for one of the connections of this process to MySQL.',
    buckets: CONNECTION_BUCKETS,
    registers: [registry],
  });
  mysqlWaits.subscribe((ms) => waits.observe(Number(ms) / 1_000));
  return registry;
}

export type WorkerMetrics = ReturnType<typeof createWorkerMetrics>;

export function createWorkerMetrics(clock = SYSTEM_CLOCK) {
  const registry = createRegistry();
  const registers = [registry];
  const failures = new Counter({
    name: 'holdfast_loop_failures_total',
    help: 'Passes of the loops of a worker that failed and were repeated, by loop.',
    labelNames: ['loop'],
    registers,
  });
  const changes = new Counter({
    name: 'holdfast_order_changes_total',
    help: 'Changes of orders by what became of the order, each change by the worker that numbered its event.',
    labelNames: ['change'],
    registers,
  });
  const endedUnbegun = new Counter({
    name: 'holdfast_orders_ended_unbegun_total',
    help: 'Orders that ended without a workflow, as Temporal had not begun them by their deadline.',
    registers,
  });
  const paidUnbegun = new Counter({
    name: 'holdfast_orders_paid_unbegun_total',
    help: 'Orders that were paid without a workflow, as Temporal had not begun them by then. They need none.',
    registers,
  });
  const payableAfter = new Histogram({
    name: 'holdfast_order_payable_seconds',
    help: 'From the acceptance of an order until it could be paid.',
    buckets: ORDER_BUCKETS,
    registers,
  });
  const paidAfter = new Histogram({
    name: 'holdfast_order_paid_seconds',
    help: "From the provider's notice until the order was paid.",
    buckets: ORDER_BUCKETS,
    registers,
  });
  const stored = new Counter({
    name: 'holdfast_orders_stored_total',
    help: 'Orders that were stored ahead of their workflow, by a relay, and by their workflow.',
    labelNames: ['by'],
    registers,
  });
  const tries = new Counter({
    name: 'holdfast_step_tries_total',
    help: 'Tries of the steps of workflows: failed ones are tried again, and those for which the provider was busy.',
    labelNames: ['step', 'result'],
    registers,
  });
  const reconciled = new Counter({
    name: 'holdfast_reconcile_total',
    help: 'What the steps of the reconciliation looked at, repaired and parked, and how often they failed.',
    labelNames: ['step', 'result'],
    registers,
  });
  let temporal: { isUp: boolean | undefined; failed: number; atMs: number } | undefined;
  const storeUp = new Gauge({
    name: 'holdfast_store_up',
    help: '1 where a store has answered within the last seconds. Of a worker: Temporal.',
    labelNames: ['store'],
    registers,
    collect() {
      storeUp.reset();
      // Absent, not as it was, where nobody looks.
      if (temporal?.isUp !== undefined && clock.nowMs() - temporal.atMs < TEMPORAL_KNOWN_MS)
        storeUp.set({ store: 'temporal' }, Number(temporal.isUp));
    },
  });
  // Each label begins at 0, so that its first event shows as an increase.
  for (const change of ORDER_CHANGES) changes.inc({ change }, 0);
  for (const by of ['relay', 'workflow']) stored.inc({ by }, 0);
  return {
    registry,
    contentType: registry.contentType,
    read: (): Promise<string> => registry.metrics(),
    passFailed: (loop: string): void => failures.inc({ loop }),
    /** Whether Temporal has answered just now. It is away only once two looks in a row have failed. */
    sawTemporal(hasAnswered: boolean): void {
      const failed = hasAnswered ? 0 : (temporal?.failed ?? 0) + 1;
      const isUp = hasAnswered || (failed < TEMPORAL_AWAY_LOOKS ? temporal?.isUp : false);
      temporal = { isUp, failed, atMs: clock.nowMs() };
    },
    orderChanged: (change: OrderChangeKind, orders: number): void => changes.inc({ change }, orders),
    paidUnbegun: (orders: number): void => paidUnbegun.inc(orders),
    endedUnbegun: (orders: number): void => endedUnbegun.inc(orders),
    /** In ms; clocks of two servers may differ, and none goes back. */
    payableAfter: (ms: number, orders: number): void => observe(payableAfter, ms, orders),
    /** In ms. */
    paidAfter: (ms: number, orders: number): void => observe(paidAfter, ms, orders),
    stored: (by: 'relay' | 'workflow', orders: number): void => stored.inc({ by }, orders),
    stepTried: (step: string, result: 'done' | 'failed' | 'busy'): void => tries.inc({ step, result }),
    reconciled: (step: string, result: string, count: number): void =>
      reconciled.inc({ step, result }, count),
  };
}

/** The same value so many times. */
function observe(histogram: Histogram, ms: number, times: number): void {
  for (let time = 0; time < times; time += 1) histogram.observe(Math.max(0, ms) / 1_000);
}

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = createRegistry();
  const registers = [registry];
  const notices = new Counter({
    name: 'holdfast_notices_total',
    help: 'Payment notices by how they were answered.',
    labelNames: ['outcome'],
    registers,
  });
  const tokens = new Counter({
    name: 'holdfast_tokens_total',
    help: 'Tokens that were verified, by outcome: accepted, or why they were refused.',
    labelNames: ['outcome'],
    registers,
  });
  const shed = new Counter({
    name: 'holdfast_shed_total',
    help: 'Calls refused because too many were at work, by lane.',
    labelNames: ['lane'],
    registers,
  });
  const lost = new Counter({
    name: 'holdfast_lost_orders_total',
    help: 'Accepted orders that were asked for and had been lost with the data of Redis.',
    registers,
  });
  const purchases = new Counter({
    name: 'holdfast_purchases_total',
    help: 'Purchases by how they were answered: accepted, stored, repeated, or the code of the refusal.',
    labelNames: ['outcome'],
    registers,
  });
  const waits = new Counter({
    name: 'holdfast_waits_total',
    help: 'Purchases that asked to wait until their order is stored, by how their waiting ended.',
    labelNames: ['outcome'],
    registers,
  });
  let waitingNow = () => 0;
  const waiting = new Gauge({
    name: 'holdfast_waiting_purchases',
    help: 'Purchases that wait until their order is stored.',
    registers,
    collect() {
      waiting.set(waitingNow());
    },
  });
  const calls = new Histogram({
    name: 'holdfast_call_seconds',
    help: 'Calls by how long their answer took, from their headers on.',
    labelNames: ['call', 'status'],
    buckets: CALL_BUCKETS,
    registers,
  });
  const watchers = new Gauge({
    name: 'holdfast_watchers',
    help: 'Callers that wait for changes of an order, by kind.',
    labelNames: ['kind'],
    registers,
  });
  const watchersRefused = new Counter({
    name: 'holdfast_watchers_refused_total',
    help: 'Callers that may not wait for changes of an order, by which limit.',
    labelNames: ['limit'],
    registers,
  });
  let clockAheadSeconds: number | undefined;
  const clockAhead = new Gauge({
    name: 'holdfast_clock_ahead_seconds',
    help: "How far the clock of this host is ahead of Redis'; negative: behind.",
    registers,
    collect() {
      clockAhead.remove();
      if (clockAheadSeconds !== undefined) clockAhead.set(clockAheadSeconds);
    },
  });
  // Each label begins at 0, so that its first event shows as an increase.
  for (const kind of WATCHER_KINDS) watchers.set({ kind }, 0);
  for (const limit of WATCHER_LIMITS) watchersRefused.inc({ limit }, 0);
  for (const outcome of NOTICE_OUTCOMES) notices.inc({ outcome }, 0);
  for (const outcome of TOKEN_OUTCOMES) tokens.inc({ outcome }, 0);
  for (const outcome of WAIT_OUTCOMES) waits.inc({ outcome }, 0);
  for (const lane of LANES) shed.inc({ lane }, 0);
  for (const outcome of PURCHASE_OUTCOMES) purchases.inc({ outcome }, 0);

  return {
    registry,
    contentType: registry.contentType,

    /** All metrics in Prometheus' text format. */
    read: (): Promise<string> => registry.metrics(),

    orderLost: (): void => lost.inc(),

    noticeAnswered: (outcome: NoticeOutcome): void => notices.inc({ outcome }),

    /** Undefined: it could not be compared. */
    sawClock: (aheadSeconds: number | undefined): void => void (clockAheadSeconds = aheadSeconds),

    tokenJudged: (outcome: TokenOutcome): void => tokens.inc({ outcome }),

    /** One more or one fewer. */
    watching: (kind: WatcherKind, change: 1 | -1): void => watchers.inc({ kind }, change),

    watcherRefused: (limit: WatcherLimit): void => watchersRefused.inc({ limit }),

    /** @param outcome `accepted`, `stored`, `repeated`, or the code of a problem */
    purchaseAnswered: (outcome: string): void => purchases.inc({ outcome }),

    /** Shows how many wait. */
    watchWaiting(count: () => number): void {
      waitingNow = count;
    },

    waitEnded: (outcome: WaitOutcome): void => waits.inc({ outcome }),

    /**
     * @param call method and path of a route, such as `GET /v1/orders/:orderNo`, of which there are few
     * @param sinceMs when it came, by `performance.now()`
     */
    callAnswered(call: string, status: number, sinceMs: number): void {
      const seconds = (performance.now() - sinceMs) / 1_000;
      calls.observe({ call, status: `${Math.floor(status / 100)}xx` }, seconds);
    },

    /** The caller creates it once for each lane, so that counting a refusal costs only the increment. */
    shedCounter(lane: LaneName): () => void {
      const counter = shed.labels(lane);
      return () => counter.inc();
    },
  };
}
