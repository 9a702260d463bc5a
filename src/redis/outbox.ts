/**
 * The outbox: accepted orders that are not yet durable in MySQL or Temporal, as a Redis stream per sale
 * shard. Entries name the order; its data are in the order's hash. An entry is acknowledged and deleted once
 * durable elsewhere.
 */

import { z } from 'zod';
import type { RedisClient } from './connection.ts';
import { formatSaleShard, orderKeys, parseSaleShard, saleKeys, SALES_KEY, type SaleShard } from './keys.ts';
import { run, defineScript, replyInt, textsJson } from './script.ts';

/** The sales that were not on the list. */
export const registerSalesReply = z
  .tuple([z.literal('registered'), textsJson])
  .transform(([, added]) => added);

/** How many were removed. */
export const removeIdleConsumersReply = z
  .tuple([z.literal('removed'), replyInt])
  .transform(([, count]) => count);

export const removeIdleConsumersScript = defineScript({
  file: 'remove-idle-consumers',
  keys: ['outbox'],
  args: ['group', 'self', 'minIdleMs'],
  reply: removeIdleConsumersReply,
});

/** How many entries were taken over. */
export const takeOverReply = z.tuple([z.literal('taken'), replyInt]).transform(([, count]) => count);

export const takeOverScript = defineScript({
  file: 'take-over',
  keys: ['outbox'],
  args: ['group', 'self', 'count', 'silentMs'],
  repeated: ['living'],
  reply: takeOverReply,
});

export const registerSalesScript = defineScript({
  file: 'register-sales',
  keys: ['sales'],
  args: [],
  repeated: ['sale'],
  reply: registerSalesReply,
});

/** One consumer group: the relays share the work. */
const GROUP = 'relay';
/** An outbox is read for so long after its sale's end: clocks differ, and the last answers are under way. */
const LINGER_MS = 10 * 60_000;

export interface OutboxEntry {
  entryId: string;
  orderNo: string;
}

// An entry of unknown shape must not stop the sale: it is read as an entry that names no order.
const entries = z.array(
  z.tuple([z.string(), z.array(z.string()).nullable()]).transform(([entryId, fields]) => ({
    entryId,
    orderNo: fields?.[0] === 'order_no' ? (fields[1] ?? '') : '',
    isDeleted: fields === null,
  })),
);
const readReply = z.union([z.null(), z.array(z.tuple([z.string(), entries]))]);
const claimReply = z.tuple([z.string(), z.array(z.unknown())]).rest(z.unknown());
/** XINFO's rows: names and values in turn. */
const infoReply = z.array(z.array(z.union([z.string(), z.number(), z.null()])));
const pendingReply = z.array(z.tuple([z.string()]).rest(z.unknown()));
const streamInfo = z.object({
  length: z.int(),
  'first-entry': z.tuple([z.string()]).rest(z.unknown()).nullable(),
});

export type Outbox = ReturnType<typeof createOutbox>;

/** The sales that Redis has on its list. It may have lost the list, or some of it. */
export async function listSales(redis: RedisClient): Promise<SaleShard[]> {
  return (await redis.smembers(SALES_KEY)).flatMap((text) => parseSaleShard(text) ?? []);
}

/** Puts sales on the list, once more where it was lost. @returns those that it did not have */
export function registerSales(redis: RedisClient, shards: readonly SaleShard[]): Promise<string[]> {
  const repeated = shards.map((shard) => ({ sale: formatSaleShard(shard) }));
  return run(redis, registerSalesScript, { keys: { sales: SALES_KEY }, args: {}, repeated });
}

/**
 * Those of these sales whose outboxes a relay reads: not what is over with nothing waiting.
 * @param isKnown whether one that has no data is to come: it is being warmed up, or made again
 */
export async function findActive(
  redis: RedisClient,
  shards: readonly SaleShard[],
  isKnown: (shard: SaleShard) => boolean = () => true,
): Promise<SaleShard[]> {
  const sales = await Promise.all(
    shards.map(async (shard) => {
      const { closesAtMs, waiting } = await readCourse(redis, shard);
      const isOver = closesAtMs === null ? !isKnown(shard) : Date.now() >= Number(closesAtMs) + LINGER_MS;
      return waiting > 0 || !isOver ? [shard] : [];
    }),
  );
  return sales.flat();
}

/** A sale with a damaged key delays no other: it is made again. */
async function readCourse(
  redis: RedisClient,
  shard: SaleShard,
): Promise<{ closesAtMs: string | null; waiting: number }> {
  const keys = saleKeys(shard);
  try {
    const [closesAtMs, waiting] = await Promise.all([
      redis.hget(keys.sale, 'closes_at'),
      redis.xlen(keys.outbox),
    ]);
    return { closesAtMs, waiting };
  } catch (error) {
    if (!isReplyError(error, 'WRONGTYPE')) throw error;
    return { closesAtMs: null, waiting: 0 };
  }
}

export interface OutboxLook {
  waiting: number;
  /** When the oldest was accepted (Unix ms); undefined: none waits. */
  oldestAtMs: number | undefined;
}

/** By one quick command, however many wait. Undefined: there is no outbox yet. */
export async function lookAtOutbox(
  redis: RedisClient,
  saleShard: SaleShard,
): Promise<OutboxLook | undefined> {
  const reply = await unlessNoGroup(() => redis.xinfo('STREAM', saleKeys(saleShard).outbox));
  if (!Array.isArray(reply)) return undefined;
  const [fields = new Map<unknown, unknown>()] = pairsOf([reply]);
  const info = streamInfo.parse(Object.fromEntries(fields));
  const oldest = info['first-entry']?.[0];
  return {
    waiting: info.length,
    oldestAtMs: oldest === undefined ? undefined : Number.parseInt(oldest),
  };
}

/**
 * The orders that a relay will still read: new ones, and those read and not acknowledged. No relay comes to
 * an entry that is neither. For inspection.
 */
export async function listWaiting(redis: RedisClient, saleShard: SaleShard): Promise<string[]> {
  const key = saleKeys(saleShard).outbox;
  const all = entries.parse(await redis.xrange(key, '-', '+'));
  const info = await unlessNoGroup(() => redis.xinfo('GROUPS', key));
  const group = parseInfo(info ?? []).find((fields) => fields.get('name') === GROUP);
  // The first relay creates the group from the beginning: every entry is unread until then.
  if (!group || all.length === 0) return all.map(({ orderNo }) => orderNo);
  const [unread, pending] = await Promise.all([
    redis.xrange(key, `(${group.get('last-delivered-id')}`, '+'),
    redis.xpending(key, GROUP, '-', '+', all.length),
  ]);
  const waiting = new Set([...unread, ...pendingReply.parse(pending)].map(([entryId]) => entryId));
  return all.filter(({ entryId }) => waiting.has(entryId)).map(({ orderNo }) => orderNo);
}

/** Hands an order that Redis has to the relays once more, as `lua/reserve.lua` did. */
export async function putIntoOutbox(redis: RedisClient, orderNo: string): Promise<void> {
  await redis.xadd(orderKeys(orderNo).outbox, '*', 'order_no', orderNo);
}

/**
 * Acknowledges and deletes; only once the orders are durable elsewhere. The entries are deleted so that the
 * stream holds just those that wait. There is no transaction, because Redis at maxmemory refuses to queue any
 * command, and commands that free memory must go on. The deletion comes first: a pending entry that is gone
 * is dropped when it is claimed, while one that is acknowledged and not deleted would count as waiting for
 * ever.
 */
export async function acknowledge(
  redis: RedisClient,
  saleShard: SaleShard,
  entryIds: readonly string[],
): Promise<void> {
  if (entryIds.length === 0) return;
  const key = saleKeys(saleShard).outbox;
  await Promise.all([redis.xdel(key, ...entryIds), redis.xack(key, GROUP, ...entryIds)]);
}

/**
 * @param redis for everything but blocking reads
 * @param blocking a connection of its own: a blocked read holds up every command that shares it
 * @param consumer this relay's name, unique among all relays that run
 */
export function createOutbox(
  redis: RedisClient,
  blocking: RedisClient,
  saleShard: SaleShard,
  consumer: string,
) {
  const key = saleKeys(saleShard).outbox;

  /** From 0, so that orders accepted before the first relay came are read too. */
  async function ensureGroup(): Promise<void> {
    try {
      await redis.xgroup('CREATE', key, GROUP, '0', 'MKSTREAM');
    } catch (error) {
      if (!isReplyError(error, 'BUSYGROUP')) throw error;
    }
  }

  async function read(count: number, from: string, blockMs: number): Promise<OutboxEntry[]> {
    try {
      // Redis answers at once for this consumer's own backlog (`0`), and waits only for new entries.
      const reply = await blocking.xreadgroup(
        'GROUP',
        GROUP,
        consumer,
        'COUNT',
        count,
        'BLOCK',
        blockMs,
        'STREAMS',
        key,
        from,
      );
      return await withoutDeleted(readReply.parse(reply)?.[0]?.[1] ?? []);
    } catch (error) {
      if (!isReplyError(error, 'NOGROUP')) throw error;
      await ensureGroup();
      return [];
    }
  }

  /**
   * An acknowledgement deletes first: an entry deleted and still pending is done, and only its mark is left.
   */
  async function withoutDeleted(
    found: readonly (OutboxEntry & { isDeleted: boolean })[],
  ): Promise<OutboxEntry[]> {
    const deleted = found.filter(({ isDeleted }) => isDeleted).map(({ entryId }) => entryId);
    if (deleted.length > 0) await redis.xack(key, GROUP, ...deleted);
    return found.filter(({ isDeleted }) => !isDeleted).map(({ entryId, orderNo }) => ({ entryId, orderNo }));
  }

  return {
    /** By which parked work refers to an entry, because its id is unique in its stream alone. */
    referenceOf: (entryId: string): string => `${formatSaleShard(saleShard)}/${entryId}`,

    /** Waits up to `blockMs` for entries that no consumer has read yet. */
    readNew: (count: number, blockMs: number) => read(count, '>', blockMs),

    /** Entries that this consumer has read and not acknowledged, after `afterId`; '0' is before the first. */
    readPending: (count: number, afterId: string) => read(count, afterId, 1),

    /**
     * Takes over entries of relays that do not live; they are then among `readPending`.
     * @param living names of consumers
     * @returns how many
     */
    async takeOver(count: number, living: readonly string[], silentMs: number): Promise<number> {
      const call = {
        keys: { outbox: key },
        args: { group: GROUP, self: consumer, count, silentMs },
        repeated: living.map((name) => ({ living: name })),
      };
      return (await unlessNoGroup(() => run(redis, takeOverScript, call))) ?? 0;
    },

    /**
     * Takes over entries that no consumer has touched for so long; they are then among `readPending`.
     * @returns how many
     */
    async claimAbandoned(count: number, minIdleMs: number): Promise<number> {
      const reply = await unlessNoGroup(() =>
        redis.xautoclaim(key, GROUP, consumer, minIdleMs, '0', 'COUNT', count, 'JUSTID'),
      );
      return reply === undefined ? 0 : claimReply.parse(reply)[1].length;
    },

    acknowledge: (entryIds: readonly string[]): Promise<void> => acknowledge(redis, saleShard, entryIds),

    /**
     * Removes consumers that are idle for so long with nothing pending; pending entries are claimed first.
     * This consumer shows with it that it lives.
     * @returns how many
     */
    async removeIdleConsumers(minIdleMs: number): Promise<number> {
      const args = { group: GROUP, self: consumer, minIdleMs };
      return (
        (await unlessNoGroup(() => run(redis, removeIdleConsumersScript, { keys: { outbox: key }, args }))) ??
        0
      );
    },
  };
}

function parseInfo(reply: unknown) {
  return pairsOf(infoReply.parse(reply));
}

function pairsOf<T>(rows: readonly (readonly T[])[]): Map<T, T | undefined>[] {
  return rows.map(
    (row) => new Map(row.flatMap((name, i) => (i % 2 === 0 ? [[name, row[i + 1]] as const] : []))),
  );
}

/** Without a group, or without the stream, no entry has been read yet; the next read creates both. */
async function unlessNoGroup<T>(command: () => Promise<T>): Promise<T | undefined> {
  try {
    return await command();
  } catch (error) {
    if (isReplyError(error, 'NOGROUP') || isReplyError(error, 'ERR no such key')) return undefined;
    throw error;
  }
}

function isReplyError(error: unknown, code: string): boolean {
  return error instanceof Error && error.message.startsWith(code);
}

/** How old a count may be, in ms. MySQL stores far less in it than may wait. */
const LOOK_EVERY_MS = 1_000;

/**
 * A process counts for itself while it reserves orders. The count of another, which has died since, would
 * look as healthy as a new one.
 */
export function createOutboxCounts(redis: RedisClient) {
  /** By their keys; those where orders waited at the last look. */
  const counts = new Map<string, number>();
  let nextLookMs = 0;

  /** What cannot be read counts as before: a node of a cluster may be away, or the list of sales damaged. */
  async function look(): Promise<void> {
    const [listed] = await Promise.allSettled([listSales(redis)]);
    const shards = listed.status === 'fulfilled' ? listed.value : [];
    const outboxes = new Set([...counts.keys(), ...shards.map((shard) => saleKeys(shard).outbox)]);
    await Promise.allSettled([...outboxes].map(async (key) => counts.set(key, await redis.xlen(key))));
    for (const [key, count] of counts) if (count === 0) counts.delete(key);
    nextLookMs = performance.now() + LOOK_EVERY_MS;
  }

  return {
    /**
     * The orders in all other outboxes than this one, and how many outboxes have them, at the last look. A
     * new look is begun if that was a while ago, and not waited for: the first counts of a process are 0.
     */
    countWithout(outbox: string): { orders: number; outboxes: number } {
      if (performance.now() >= nextLookMs) {
        nextLookMs = Infinity;
        void look();
      }
      const elsewhere = { orders: 0, outboxes: 0 };
      for (const [key, count] of counts) {
        if (key === outbox) continue;
        elsewhere.orders += count;
        elsewhere.outboxes += 1;
      }
      return elsewhere;
    },
  };
}
