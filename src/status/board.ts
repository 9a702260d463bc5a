/**
 * What an operator is shown, read by a loop in each process that shows it: a scrape waits for no store. Each
 * part is read by itself, because stores fail one by one; what cannot be read is not shown, not as it was.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Stores } from '../stores/open.ts';
import {
  COUNTED_MAX,
  newestOf,
  type PartialStatus,
  type SeenWorker,
  type Status,
  type StatusPart,
} from './status.ts';

const READ_EVERY_MS = 1_000;
/** A value is shown for so long, in ms: some reads after it have failed, or one hangs. */
const FRESH_MS = 5_000;

/** In the order in which they are shown. */
export const PARTS = [
  'workers',
  'outboxes',
  'slots',
  'backlog',
  'parked',
  'drift',
  'events',
  'endpoints',
] as const satisfies readonly StatusPart[];

export type StatusReaders = { [P in StatusPart]: () => Promise<Status[P]> };
type InRedis = Pick<Stores, 'redisStatus' | 'driftBoard'>;
type InMysql = Pick<Stores, 'mysqlStatus' | 'eventRows' | 'eventConsumers' | 'endpoints'>;

/** @param redis fails where Redis is not reached */
export function statusReaders(
  redis: () => Promise<InRedis>,
  { mysqlStatus, eventRows, eventConsumers, endpoints }: InMysql,
): StatusReaders {
  return {
    workers: () =>
      readWorkers(
        redis().then(({ redisStatus }) => redisStatus.listWorkers()),
        mysqlStatus.listWorkers(),
      ),
    outboxes: async () => (await redis()).redisStatus.readOutboxes(),
    slots: async () => (await redis()).redisStatus.countSlots(),
    backlog: () => mysqlStatus.readBacklog(),
    parked: () => mysqlStatus.readParked(),
    drift: async () => (await (await redis()).driftBoard.read()) ?? null,
    async events() {
      const [waiting, { consumers }] = await Promise.all([
        eventRows.countWaiting(COUNTED_MAX),
        eventConsumers.list(),
      ]);
      return { waiting, consumers };
    },
    endpoints: () => endpoints.list(),
  };
}

/** By either store. @throws when both are away: then nothing is known, and no worker counts as dead */
async function readWorkers(...lists: Promise<SeenWorker[]>[]): Promise<SeenWorker[]> {
  const answers = await Promise.allSettled(lists);
  const seen = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  if (seen.length === 0) throw new AggregateError(answers, 'neither store says which workers live');
  return newestOf(seen.flat());
}

export type StatusBoard = ReturnType<typeof createStatusBoard>;

export function createStatusBoard(readers: StatusReaders) {
  const known: Partial<Status> = {};
  /** By `performance.now()`. */
  const readAtMs = new Map<StatusPart, number>();
  const begunAtMs = performance.now();

  /** The store's own client logs why one fails, and the age of the part shows it. */
  async function read(part: StatusPart): Promise<void> {
    try {
      Object.assign(known, { [part]: await readers[part]() });
      readAtMs.set(part, performance.now());
    } catch {
      // It is read again, and is not shown meanwhile.
    }
  }

  /** Since the part was read; since the board was made, while it never was. In ms. */
  function ageMs(part: StatusPart): number {
    return performance.now() - (readAtMs.get(part) ?? begunAtMs);
  }

  /** Undefined: it could not be read for a while. */
  function current<P extends StatusPart>(part: P): Status[P] | undefined {
    return ageMs(part) <= FRESH_MS ? known[part] : undefined;
  }

  return {
    ageMs,
    current,

    all: (): PartialStatus => ({
      workers: current('workers'),
      outboxes: current('outboxes'),
      slots: current('slots'),
      backlog: current('backlog'),
      parked: current('parked'),
      drift: current('drift'),
      events: current('events'),
      endpoints: current('endpoints'),
    }),

    /** Reads all parts once. */
    async look(): Promise<void> {
      await Promise.all(PARTS.map(read));
    },

    /** Until `signal` aborts. A read that hangs delays no other part. */
    async run(signal: AbortSignal): Promise<void> {
      await Promise.all(
        PARTS.map(async (part) => {
          while (!signal.aborted) {
            await read(part);
            await delay(READ_EVERY_MS, undefined, { signal }).catch(() => {});
          }
        }),
      );
    },
  };
}
