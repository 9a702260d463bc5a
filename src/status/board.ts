/**
 * What an operator is shown, read by a loop in each process that shows it: a scrape waits for no store. Each
 * part is read by itself, because stores fail one by one; what cannot be read is not shown, not as it was.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { SYSTEM_CLOCK } from '../clock.ts';
import type { Stores } from '../stores/open.ts';
import {
  COUNTED_MAX,
  newestOf,
  withoutReplaced,
  type PartialStatus,
  type Status,
  type StatusPart,
} from './status.ts';

const READ_EVERY_MS = 1_000;
/**
 * A value is shown for so long after its read began, in ms: some reads after it have failed, or one hangs.
 */
const FRESH_MS = 5_000;
/** The workers are known by one store while the other is frozen, and does not even refuse. In ms. */
const LIST_WITHIN_MS = 1_000;

/** Those of a group are read one after the other, so that a look takes one connection of a store. */
const GROUPS = [
  { parts: ['workers'], everyMs: READ_EVERY_MS },
  { parts: ['redisTakesWrites', 'slots', 'outboxes', 'drift'], everyMs: READ_EVERY_MS },
  // Asked of each node of a cluster: one that hangs delays no other part.
  { parts: ['memory'], everyMs: READ_EVERY_MS },
  { parts: ['mysqlTakesWrites', 'backlog', 'parked', 'events'], everyMs: READ_EVERY_MS },
  { parts: ['api'], everyMs: 3 * READ_EVERY_MS },
  // What waits for twenty endpoints may be a hundred thousand rows.
  { parts: ['endpoints'], everyMs: 3 * READ_EVERY_MS },
  // Some commands for each of twenty sales.
  { parts: ['saleStocks'], everyMs: 3 * READ_EVERY_MS },
  { parts: ['saleTotals'], everyMs: 3 * READ_EVERY_MS },
] as const satisfies readonly { parts: readonly StatusPart[]; everyMs: number }[];

export const PARTS = GROUPS.flatMap(({ parts }): readonly StatusPart[] => parts);

export type StatusReaders = { [P in StatusPart]: () => Promise<Status[P]> };
type InRedis = Pick<Stores, 'redisStatus' | 'driftBoard' | 'apiNotes' | 'liveFigures'>;
type InMysql = Pick<Stores, 'mysqlStatus' | 'eventRows' | 'eventConsumers' | 'endpoints' | 'saleFigures'>;

/** Events get their numbers within a second, and what became of orders is counted with them. */
const COUNTED_WITHIN_MS = 10_000;

/**
 * @param redis fails where Redis is not reached
 * @param listWithinMs a tool waits longer for a store's list of the workers
 */
export function statusReaders(
  redis: () => Promise<InRedis>,
  { mysqlStatus, eventRows, eventConsumers, endpoints, saleFigures }: InMysql,
  listWithinMs = LIST_WITHIN_MS,
): StatusReaders {
  const listInRedis = onceAtATime(async () => (await redis()).redisStatus.listWorkers());
  const listInMysql = onceAtATime(() => mysqlStatus.listWorkers());
  return {
    redisTakesWrites: async () => (await redis()).redisStatus.takesWrites(),
    mysqlTakesWrites: () => mysqlStatus.takesWrites(),
    workers: () => readWorkers(listWithinMs, listInRedis(), listInMysql()),
    outboxes: async () => (await redis()).redisStatus.readOutboxes(),
    slots: async () => (await redis()).redisStatus.countSlots(),
    memory: async () => (await redis()).redisStatus.readMemory(),
    backlog: () => mysqlStatus.readBacklog(),
    parked: () => mysqlStatus.readParked(),
    drift: async () => (await (await redis()).driftBoard.read()) ?? null,
    async events() {
      const waiting = await eventRows.countWaiting(COUNTED_MAX);
      const { consumers } = await eventConsumers.list();
      return { waiting, consumers };
    },
    endpoints: () => endpoints.list(),
    api: async () => (await redis()).apiNotes.read(),
    saleStocks: async () => (await redis()).liveFigures.readStocks(),
    async saleTotals() {
      const saleIds = await (await redis()).liveFigures.listShown();
      const { nowMs, countedUntilMs } = await saleFigures.readComplete('');
      return nowMs - countedUntilMs > COUNTED_WITHIN_MS ? null : saleFigures.readTotals(saleIds);
    },
  };
}

/** By either store. @throws when both are away: then nothing is known, and no worker counts as dead */
async function readWorkers(
  withinMs: number,
  ...lists: Promise<Status['workers']>[]
): Promise<Status['workers']> {
  const answers = await Promise.allSettled(lists.map((list) => inTime(list, withinMs)));
  const seen = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  if (seen.length === 0) throw new AggregateError(answers, 'neither store says which workers live');
  return withoutReplaced(newestOf(seen.flat()));
}

/** There was no answer in time. */
export class LateError extends Error {
  override name = 'LateError';
}

/** @throws LateError when there is no answer in time */
export function inTime<T>(answer: Promise<T>, withinMs: number): Promise<T> {
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new LateError(`no answer within ${withinMs / 1_000} s`)), withinMs).unref();
  });
  return Promise.race([answer, late]);
}

/** A store that is frozen is asked anew once it has answered, or its client has given up. */
export function onceAtATime<T>(ask: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | undefined;
  return () => (underWay ??= ask().finally(() => (underWay = undefined)));
}

export type StatusBoard = ReturnType<typeof createStatusBoard>;

/** @param freshMs a value is shown for so long */
export function createStatusBoard(readers: StatusReaders, clock = SYSTEM_CLOCK, freshMs = FRESH_MS) {
  const known: Partial<Status> = {};
  /** By the clock. */
  const readAtMs = new Map<StatusPart, number>();
  const begunAtMs = clock.nowMs();
  const tookMs = new Map<StatusPart, number>();

  /** The store's own client logs why one fails, and the age of the part shows it. */
  async function read(part: StatusPart): Promise<void> {
    const beganAtMs = clock.nowMs();
    try {
      Object.assign(known, { [part]: await readers[part]() });
      readAtMs.set(part, beganAtMs);
      tookMs.set(part, clock.nowMs() - beganAtMs);
    } catch {
      // It is read again, and is not shown meanwhile.
    }
  }

  async function readAll(parts: readonly StatusPart[]): Promise<void> {
    for (const part of parts) await read(part);
  }

  /** Since the part was read; since the board was made, while it never was. In ms. */
  function ageMs(part: StatusPart): number {
    return clock.nowMs() - (readAtMs.get(part) ?? begunAtMs);
  }

  /** Undefined: it could not be read for a while. */
  function current<P extends StatusPart>(part: P): Status[P] | undefined {
    return ageMs(part) <= freshMs ? known[part] : undefined;
  }

  return {
    ageMs,
    current,

    /** How long the last read of it took; undefined: it was never read. */
    tookMs: (part: StatusPart): number | undefined => tookMs.get(part),

    /** Undefined while the first read of it may be under way. */
    isKnown: (part: StatusPart): boolean | undefined =>
      readAtMs.has(part) || ageMs(part) > freshMs ? current(part) !== undefined : undefined,

    all: (): PartialStatus => ({
      redisTakesWrites: current('redisTakesWrites'),
      mysqlTakesWrites: current('mysqlTakesWrites'),
      workers: current('workers'),
      outboxes: current('outboxes'),
      slots: current('slots'),
      memory: current('memory'),
      backlog: current('backlog'),
      parked: current('parked'),
      drift: current('drift'),
      events: current('events'),
      endpoints: current('endpoints'),
      api: current('api'),
    }),

    /** Reads all parts once. */
    async look(): Promise<void> {
      await Promise.all(GROUPS.map(({ parts }) => readAll(parts)));
    },

    /** Until `signal` aborts. A read that hangs delays no part of another group. */
    async run(signal: AbortSignal): Promise<void> {
      await Promise.all(
        GROUPS.map(async ({ parts, everyMs }) => {
          while (!signal.aborted) {
            await readAll(parts);
            await delay(everyMs, undefined, { signal }).catch(() => {});
          }
        }),
      );
    },
  };
}
