/** What an operator is shown: what waits, and which workers live. */

import { z } from 'zod';
import type { EventConsumer } from '../events/consumers.sql.ts';
import type { TokenOutcome } from '../metrics.ts';
import { jsonText } from '../orders/content.ts';
import type { ParkedKind } from '../parked/parked.sql.ts';
import type { Endpoint } from '../push/endpoints.sql.ts';
import type { OutboxLook } from '../redis/outbox.ts';
import type { SaleStock, SaleTotals } from '../sales/figures.ts';

export interface OutboxBacklog extends OutboxLook {
  saleId: string;
  oldestAtMs: number;
  /** Since the oldest was accepted. */
  oldestMs: number;
}

export interface Waiting {
  /** Counted up to `COUNTED_MAX`. */
  waiting: number;
  /** Of the one that waits the longest; null: nothing waits. */
  oldestMs: number | null;
}

/** Of all sales together. */
export function sumOf(outboxes: readonly Pick<OutboxBacklog, 'waiting' | 'oldestMs'>[]): {
  waiting: number;
  oldestMs: number;
} {
  return {
    waiting: outboxes.reduce((sum, { waiting }) => sum + waiting, 0),
    oldestMs: Math.max(0, ...outboxes.map(({ oldestMs }) => oldestMs)),
  };
}

/** What the relay and the workflows have to do. */
export interface Backlog {
  /** Orders that are stored, and whose workflow has not begun. */
  notBegun: Waiting;
  /** Payments that are recorded, and that no order has got yet. */
  payments: Waiting;
  /**
   * Refunds whose workflow is to be started or signalled, counted up to `COUNTED_MAX`. Each try makes them
   * due anew, so that since when is not known.
   */
  refunds: number;
}

/** What the reconciliation found that differs between the stores. */
interface SeenDrift {
  /** Since then each sale has been compared whole (Unix ms). */
  lookedAtMs: number;
  /** `sku` is empty where it is about an order. */
  entries: { saleId: string; sku: string; what: string; units: number }[];
}

export interface TokenNote {
  count: number;
  /** Of the latest that was refused for its time. */
  claim?: string;
  /** How far that claim was ahead of the API's clock; negative: behind. */
  offSeconds?: number;
}

/** What the APIs have noted within the last five minutes. */
export interface ApiNotes {
  tokens: { [O in TokenOutcome]?: TokenNote };
  /** Hosts of APIs whose clock differs from Redis'; negative: it is behind. */
  clocks: { host: string; aheadSeconds: number }[];
}

/** The memory of one Redis. Of a cluster each master has its own. */
export interface NodeMemory {
  /** `host:port`, as the process reaches it. */
  node: string;
  /** As Redis compares it with `maxmemory`. */
  usedBytes: number;
  /** `maxmemory`, else the memory of the machine; null: Redis says neither. */
  maxBytes: number | null;
  /** Whether Redis has a `maxmemory`. Without one it refuses no purchase. */
  isBounded: boolean;
}

/** Counted up to so many: more is as bad. At it a look takes five milliseconds of MySQL. */
export const COUNTED_MAX = 10_000;

export interface Status {
  /** False: it answers, and is a replica or read-only, as after a failover. */
  redisTakesWrites: boolean;
  mysqlTakesWrites: boolean;
  workers: SeenWorker[];
  /** Where orders wait, the longest first. */
  outboxes: OutboxBacklog[];
  /** Slots of the engine budget that are taken. */
  slots: number;
  /** One entry for each Redis that holds data. */
  memory: NodeMemory[];
  backlog: Backlog;
  /** A kind of which none waits is left out. */
  parked: ({ kind: ParkedKind } & Waiting)[];
  /** Null: no run of the reconciliation has compared the stores. */
  drift: SeenDrift | null;
  events: {
    /** Recorded and without a number, counted up to `COUNTED_MAX`. */
    waiting: number;
    consumers: EventConsumer[];
  };
  endpoints: Endpoint[];
  api: ApiNotes;
  /** Of the sales that are open or ended within the hour. */
  saleStocks: SaleStock[];
  /** Of the same. Null: no process counts what becomes of orders, or it is behind. */
  saleTotals: SaleTotals[] | null;
}
export type StatusPart = keyof Status;

/** A part that could not be read is undefined. What a sale sells is for metrics alone. */
export type PartialStatus = {
  [P in Exclude<StatusPart, 'saleStocks' | 'saleTotals'>]: Status[P] | undefined;
};

// What a worker tells of itself, so that its silence shows.

/** A worker tells of itself so often, in ms. */
export const BEAT_EVERY_MS = 1_000;
/** One that is silent for longer, ten beats, is dead, frozen or cut off. In ms. */
const SILENT_AFTER_MS = 10_000;
/** A silent one is shown for so long, in ms: an operator looks within minutes. */
export const KEPT_MS = 5 * 60_000;
/** A silent one that another has replaced needs nobody. It is shown for so long, in ms. */
const REPLACED_KEPT_MS = 45_000;

const workerBeat = z.object({
  workerId: z.string(),
  host: z.string(),
  pid: z.int(),
  /** Its version; empty: it has none. */
  build: z.string(),
  /** How long it had run when it told, in ms. */
  upMs: z.int(),
  /** Where its metrics and its liveness are. */
  url: z.string(),
  /** Loops whose pass has gone on for longer than any should. */
  hanging: z.array(z.string()),
});
export type WorkerBeat = z.infer<typeof workerBeat>;
/** As the stores keep it. One of another version may have another form: it is skipped, and hides no other. */
export const beatText = jsonText(workerBeat);

export interface SeenWorker extends WorkerBeat {
  /** Since its last beat, by the clock of the store that kept it. */
  silentMs: number;
}

/** silent: it sends no beats. hanging: it does, and a loop of it stands still. */
export type WorkerState = 'alive' | 'hanging' | 'silent';

export function stateOf({ silentMs, hanging }: SeenWorker): WorkerState {
  if (silentMs > SILENT_AFTER_MS) return 'silent';
  return hanging.length > 0 ? 'hanging' : 'alive';
}

/**
 * Leaves out silent workers that have been replaced: each by another one that has begun since it fell silent.
 * One that began before may be too few for the sale.
 */
export function withoutReplaced(workers: readonly SeenWorker[]): SeenWorker[] {
  const silentFor = (worker: SeenWorker): number => (stateOf(worker) === 'silent' ? worker.silentMs : 0);
  const begunAgo = workers
    .filter((worker) => stateOf(worker) !== 'silent')
    .map(({ upMs, silentMs }) => upMs + silentMs);
  const replaced = new Set<SeenWorker>();
  for (const worker of workers.toSorted((a, b) => silentFor(a) - silentFor(b))) {
    if (silentFor(worker) < REPLACED_KEPT_MS) continue;
    const successor = begunAgo.findIndex((ms) => ms < worker.silentMs);
    if (successor === -1) continue;
    begunAgo.splice(successor, 1);
    replaced.add(worker);
  }
  return workers.filter((worker) => !replaced.has(worker));
}

/** Each worker by the store that has heard of it last. */
export function newestOf(seen: readonly SeenWorker[]): SeenWorker[] {
  const newest = new Map<string, SeenWorker>();
  for (const worker of seen) {
    const known = newest.get(worker.workerId);
    if (!known || worker.silentMs < known.silentMs) newest.set(worker.workerId, worker);
  }
  return [...newest.values()].toSorted((a, b) => (a.workerId < b.workerId ? -1 : 1));
}
