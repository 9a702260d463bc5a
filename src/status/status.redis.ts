/** What Redis tells of a status: the beats of the workers, orders in the outboxes, slots of the engine. */

import { Cluster, type Redis } from 'ioredis';
import { z } from 'zod';
import { readClockMs, takesWrites, type RedisClient } from '../redis/connection.ts';
import { ENGINE_KEY, WORKERS_KEY } from '../redis/keys.ts';
import { listSales, lookAtOutbox } from '../redis/outbox.ts';
import { defineScript, isDamaged, replyInt, run } from '../redis/script.ts';
import { beatText, KEPT_MS, type NodeMemory, type Status, type WorkerBeat } from './status.ts';

export { takesWrites };

export const beatReply = z.tuple([z.literal('beating')]);

export const listWorkersReply = z
  .tuple([z.literal('workers'), replyInt], z.string())
  .transform(([, nowMs, ...texts]) => ({ nowMs, workers: texts.flatMap((text) => parseSeen(text, nowMs)) }));

/** @param text when it was seen (Unix ms), a space, and its beat */
function parseSeen(text: string, nowMs: number): Status['workers'] {
  const space = text.indexOf(' ');
  const worker = beatText.safeParse(text.slice(space + 1)).data;
  const silentMs = Math.max(0, nowMs - Number(text.slice(0, space)));
  return worker && silentMs <= KEPT_MS ? [{ ...worker, silentMs }] : [];
}

export const beatScript = defineScript({
  file: 'beat',
  keys: ['workers'],
  args: ['workerId', 'worker', 'keptMs'],
  reply: beatReply,
});

export const listWorkersScript = defineScript({
  file: 'list-workers',
  keys: ['workers'],
  args: [],
  reply: listWorkersReply,
});

const keys = { workers: WORKERS_KEY };

export async function beat(redis: RedisClient, worker: WorkerBeat): Promise<void> {
  const args = { workerId: worker.workerId, worker: JSON.stringify(worker), keptMs: KEPT_MS };
  await run(redis, beatScript, { keys, args });
}

/** One that stops is not silent. */
export async function leave(redis: RedisClient, workerId: string): Promise<void> {
  await redis.hdel(WORKERS_KEY, workerId);
}

/** @returns Redis' time too (Unix ms), as of which they are silent */
export function readWorkers(redis: RedisClient): Promise<{ nowMs: number; workers: Status['workers'] }> {
  return run(redis, listWorkersScript, { keys, args: {} });
}

export async function listWorkers(redis: RedisClient): Promise<Status['workers']> {
  return (await readWorkers(redis)).workers;
}

/** The outboxes in which orders wait, the longest first. One quick command each, however many wait. */
export async function readOutboxes(redis: RedisClient): Promise<Status['outboxes']> {
  const [shards, nowMs] = await Promise.all([listSales(redis), readClockMs(redis)]);
  const found = await Promise.all(
    shards.map(async (shard): Promise<Status['outboxes']> => {
      const look = await lookAtOutbox(redis, shard).catch((error: unknown) => {
        // A damaged key hides no other: its sale is made again.
        if (isDamaged(error)) return undefined;
        throw error;
      });
      const { waiting = 0, oldestAtMs } = look ?? {};
      if (oldestAtMs === undefined) return [];
      return [{ saleId: shard.saleId, waiting, oldestAtMs, oldestMs: Math.max(0, nowMs - oldestAtMs) }];
    }),
  );
  return found.flat().toSorted((a, b) => b.waiting - a.waiting);
}

/** Slots of the engine budget that are taken. */
export async function countSlots(redis: RedisClient): Promise<number> {
  return redis.zcount(ENGINE_KEY, await readClockMs(redis), '+inf');
}

/** How full Redis is; of a cluster each master. */
export async function readMemory(redis: RedisClient): Promise<Status['memory']> {
  const nodes = redis instanceof Cluster ? redis.nodes('master') : [redis];
  const read = await Promise.allSettled(nodes.map(readNodeMemory));
  const known = read.flatMap((node) => (node.status === 'fulfilled' ? [node.value] : []));
  // One node that is away hides no other; where none answers, nothing is known.
  if (known.length === 0) throw new AggregateError(read, 'no Redis says how full it is');
  return known;
}

async function readNodeMemory(redis: Redis): Promise<NodeMemory> {
  const info = await redis.info('memory');
  const bytes = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  const maxmemory = bytes('maxmemory');
  return {
    node: `${redis.options.host}:${redis.options.port}`,
    // `lua/reserve.lua` compares the same with its share of maxmemory.
    usedBytes: bytes('used_memory') - bytes('mem_not_counted_for_evict'),
    maxBytes: maxmemory || bytes('total_system_memory') || null,
    isBounded: maxmemory > 0,
  };
}
