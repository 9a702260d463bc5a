/**
 * The sums of docs/capacity.md: from what an order costs to what a sale of so many orders a minute needs, and
 * what breaks first. Without servers and files.
 */

/** What an order can become, by what it costs. */
type Fate = 'paid' | 'begun' | 'neverBegun';
export const PROCESSES = ['api', 'worker', 'redis', 'mysql', 'temporal'] as const;
export type Process = (typeof PROCESSES)[number];

export interface OrderCosts {
  /** Microseconds of processor time, from the purchase to the end. */
  cpuUs: Record<Fate, Record<Process, number>>;
  /** Temporal actions. */
  actions: Record<Fate, number>;
  /** Actions of the reconciliation in an hour, whatever is sold. */
  reconcileActions: number;
  /** Bytes: kept in Redis until a day after the end, kept in MySQL for good, and written to its logs. */
  bytes: Record<
    'paid' | 'neverBegun',
    { redis: number; mysql: number; redo: number; binlog: number; aof: number }
  >;
  /** Whole lives a second of the engine that was measured. */
  livesPerSecond: number;
  /** How long an order that begins holds a slot of the engine budget, and one that is paid besides. */
  slotMs: { begun: number; paid: number };
}

/** What the figures are for; each is assumed, and stands on the page. */
export interface Assumptions {
  paidShare: number;
  /** How full a process may be, so that waits stay short. */
  fullest: number;
  /** How long the sale goes on at this pace each day. */
  minutesADay: number;
  daysAMonth: number;
  /** To pay, and the part of it within which the engine begins an order. */
  windowSeconds: number;
  beginWithin: number;
  /** Of the engine budget, for starts (`START_SHARE` of src/redis/budget.ts). */
  startShare: number;
  /** Temporal Cloud's default of a namespace. */
  cloudActionsPerSecond: number;
  /** Cores of the MySQL that is thought of as one. */
  mysqlCores: number;
}

/** Units a second that an engine does, and how many an order takes. */
interface Engine {
  perSecond: number;
  paid: number;
  begun: number;
}

/** The share of some orders that get a workflow in this time. MySQL pays and ends the others. */
export function begunShareOf(engine: Engine, orders: number, seconds: number, paidShare: number): number {
  const each = paidShare * engine.paid + (1 - paidShare) * engine.begun;
  return Math.min(1, (engine.perSecond * seconds) / (orders * each));
}

export interface Need {
  perMinute: number;
  perSecond: number;
  /** Cores of each, with a workflow for each paid order and none for the others. */
  cores: Record<Process, number>;
  apis: number;
  workers: number;
  redisGb: number;
  mysqlGbADay: number;
  binlogGbADay: number;
  /** Bytes a second to the logs of MySQL and Redis. */
  logMbPerSecond: number;
  /** With a workflow for each paid order, and for each order. */
  actionsPerSecond: { paidAlone: number; allBegun: number };
  millionActionsAMonth: { paidAlone: number; allBegun: number };
  engineBudget: number;
  /** The shares of the orders that get a workflow. */
  measured: { rush: number; hour: number };
  cloud: { rush: number; hour: number };
  /** How full one of each would be, the fullest first. */
  load: { what: string; share: number }[];
}

export function byProcess<T>(of: (name: Process) => T): Record<Process, T> {
  return {
    api: of('api'),
    worker: of('worker'),
    redis: of('redis'),
    mysql: of('mysql'),
    temporal: of('temporal'),
  };
}

/** Two, so that one may be restarted. */
const FEWEST = 2;
/**
 * Twice what a day's orders take: a tenth of its memory is kept free, and a rewrite of its file copies pages.
 */
const REDIS_ROOM = 2;
const HOUR_SECONDS = 3_600;
/** As by default. */
const LEAST_BUDGET = 40;

export function needOf(perMinute: number, costs: OrderCosts, assumed: Assumptions): Need {
  const { paidShare, fullest, minutesADay, daysAMonth } = assumed;
  const perSecond = perMinute / 60;
  const ofFates = (unpaid: 'begun' | 'neverBegun', of: (fate: Fate) => number): number =>
    paidShare * of('paid') + (1 - paidShare) * of(unpaid);
  const cores = byProcess(
    (name) => (perSecond * ofFates('neverBegun', (fate) => costs.cpuUs[fate][name])) / 1_000_000,
  );
  const bytes = (of: keyof OrderCosts['bytes']['paid']): number =>
    paidShare * costs.bytes.paid[of] + (1 - paidShare) * costs.bytes.neverBegun[of];
  const ordersADay = perMinute * minutesADay;
  const actions = (unpaid: 'begun' | 'neverBegun'): number => ofFates(unpaid, (fate) => costs.actions[fate]);
  const aSecond = (unpaid: 'begun' | 'neverBegun'): number =>
    perSecond * actions(unpaid) + costs.reconcileActions / HOUR_SECONDS;
  const aMonth = (unpaid: 'begun' | 'neverBegun'): number =>
    (daysAMonth * (ordersADay * actions(unpaid) + 24 * costs.reconcileActions)) / 1_000_000;
  const own: Engine = { perSecond: costs.livesPerSecond, paid: 1, begun: 1 };
  const cloud: Engine = { perSecond: assumed.cloudActionsPerSecond, ...costs.actions };
  const reaches = (engine: Engine) => ({
    rush: begunShareOf(engine, perMinute, assumed.windowSeconds * assumed.beginWithin, paidShare),
    hour: begunShareOf(engine, 60 * perMinute, HOUR_SECONDS, paidShare),
  });
  const load = [
    { what: 'one API', share: cores.api },
    { what: 'one worker', share: cores.worker },
    { what: 'one Redis', share: cores.redis },
    { what: `one MySQL of ${assumed.mysqlCores} cores`, share: cores.mysql / assumed.mysqlCores },
    { what: 'the engine that was measured', share: (perSecond * paidShare) / costs.livesPerSecond },
    {
      what: `Temporal Cloud's default`,
      share: aSecond('neverBegun') / assumed.cloudActionsPerSecond,
    },
  ].toSorted((a, b) => b.share - a.share);
  const processes = (full: number): number => Math.max(FEWEST, Math.ceil(full / fullest));
  return {
    perMinute,
    perSecond,
    cores,
    apis: processes(cores.api),
    workers: processes(cores.worker),
    redisGb: (REDIS_ROOM * ordersADay * bytes('redis')) / 1e9,
    mysqlGbADay: (ordersADay * bytes('mysql')) / 1e9,
    binlogGbADay: (ordersADay * bytes('binlog')) / 1e9,
    logMbPerSecond: (perSecond * (bytes('redo') + bytes('binlog') + bytes('aof'))) / 1e6,
    actionsPerSecond: { paidAlone: aSecond('neverBegun'), allBegun: aSecond('begun') },
    millionActionsAMonth: { paidAlone: aMonth('neverBegun'), allBegun: aMonth('begun') },
    engineBudget: budgetOf(perSecond, costs, assumed),
    measured: reaches(own),
    cloud: reaches(cloud),
    load,
  };
}

/**
 * Slots for an engine that begins all: by Little's law as many are taken as come in a second times the
 * seconds that each holds one. Starts have a part of all slots, so that part must hold theirs.
 */
function budgetOf(perSecond: number, { slotMs }: OrderCosts, { startShare, paidShare }: Assumptions): number {
  const starts = (perSecond * slotMs.begun) / 1_000 / startShare;
  const all = (perSecond * (slotMs.begun + paidShare * slotMs.paid)) / 1_000;
  return Math.max(LEAST_BUDGET, Math.ceil(Math.max(starts, all)));
}
