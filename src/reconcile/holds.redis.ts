/** The holds of a sale shard, walked by their deadlines, and what becomes of those that were lost. */

import { z } from 'zod';
import { toOrderNos } from '../orders/reserve.redis.ts';
import type { RedisClient } from '../redis/connection.ts';
import { orderKeys, parseSaleShard, saleKeys, SALES_KEY, type SaleShard } from '../redis/keys.ts';
import { run, defineScript } from '../redis/script.ts';

/** One an order. */
export const waitingReply = z.array(z.enum(['waits', 'left', 'settled', 'absent', 'damaged']));

export const requeueReply = z
  .tuple([z.enum(['requeued', 'moved', 'released', 'sold', 'returned', 'absent'])])
  .transform(([kind]) => kind);

export const dropDeadlineReply = z.tuple([z.enum(['dropped', 'gone', 'kept'])]).transform(([kind]) => kind);

export const waitingScript = defineScript({
  file: 'waiting',
  keys: ['outbox'],
  keyList: 'order',
  args: [],
  reply: waitingReply,
});

export const requeueScript = defineScript({
  file: 'requeue',
  keys: ['order', 'outbox'],
  args: ['orderNo', 'entry'],
  reply: requeueReply,
});

export const dropDeadlineScript = defineScript({
  file: 'drop-deadline',
  keys: ['order', 'deadlines'],
  args: ['orderNo'],
  reply: dropDeadlineReply,
});

export const dropOpenReply = z.tuple([z.enum(['dropped', 'gone', 'held'])]).transform(([kind]) => kind);

export const dropOpenScript = defineScript({
  file: 'drop-open',
  keys: ['order', 'open'],
  args: ['orderNo', 'userId'],
  reply: dropOpenReply,
});

/** See `lua/waiting.lua`. */
export type HoldPlace = z.infer<typeof waitingReply>[number];

/** A member of a shard's deadlines; also the cursor of a walk. */
export interface HeldOrder {
  orderNo: string;
  /** Unix time in ms. */
  deadlineMs: number;
}

/** As the cursor of a walk. */
export function formatHeldOrder({ orderNo, deadlineMs }: HeldOrder): string {
  return `${deadlineMs} ${orderNo}`;
}

/** @returns undefined for a text that `formatHeldOrder` has not made */
export function parseHeldOrder(cursor: string): HeldOrder | undefined {
  const [, deadlineMs, orderNo] = /^(\d+) (.+)$/.exec(cursor) ?? [];
  return orderNo === undefined ? undefined : { orderNo, deadlineMs: Number(deadlineMs) };
}

/** The shards of all sales that Redis holds. */
export async function listShards(redis: RedisClient): Promise<SaleShard[]> {
  return (await redis.smembers(SALES_KEY)).toSorted().flatMap((text) => parseSaleShard(text) ?? []);
}

/**
 * Held orders in the order of their deadlines.
 * @param after the last one of the page before; undefined: from the first on
 */
export function list(
  redis: RedisClient,
  shard: SaleShard,
  limit: number,
  after: HeldOrder | undefined,
): Promise<HeldOrder[]> {
  return listHeldAfter(redis, saleKeys(shard).deadlines, limit, after);
}

/** As `list`, the free orders that were sold within a day; `deadlineMs` is when. */
export function listFree(
  redis: RedisClient,
  shard: SaleShard,
  limit: number,
  after: HeldOrder | undefined,
): Promise<HeldOrder[]> {
  return listHeldAfter(redis, saleKeys(shard).free, limit, after);
}

/** Takes the free orders off the list that were sold before (Unix ms). */
export async function trimFree(redis: RedisClient, shard: SaleShard, beforeMs: number): Promise<void> {
  await redis.zremrangebyscore(saleKeys(shard).free, '-inf', beforeMs);
}

/** Removes what is in the place of their list. */
export async function removeFree(redis: RedisClient, shard: SaleShard): Promise<void> {
  await redis.unlink(saleKeys(shard).free);
}

/** Where each of these orders of one shard is, in one step; see `lua/waiting.lua`. */
export function look(
  redis: RedisClient,
  shard: SaleShard,
  orderNos: readonly string[],
): Promise<HoldPlace[]> {
  const keys = saleKeys(shard);
  return run(redis, waitingScript, { keys, keyList: orderNos.map(keys.order), args: {} });
}

/** The entry of the outbox that the order's hash names; empty: none. */
export async function readEntry(redis: RedisClient, orderNo: string): Promise<string> {
  return (await redis.hget(orderKeys(orderNo).order, 'entry')) ?? '';
}

/** Puts a lost order back into the outbox, where its hash still names the lost `entry`. Idempotent. */
export function requeue(
  redis: RedisClient,
  orderNo: string,
  entry: string,
): Promise<z.infer<typeof requeueReply>> {
  return run(redis, requeueScript, { keys: orderKeys(orderNo), args: { orderNo, entry } });
}

/** Takes an order off the deadlines that holds nothing. Idempotent. */
export function dropDeadline(
  redis: RedisClient,
  shard: SaleShard,
  orderNo: string,
): Promise<z.infer<typeof dropDeadlineReply>> {
  const keys = saleKeys(shard);
  return run(redis, dropDeadlineScript, {
    keys: { ...keys, order: keys.order(orderNo) },
    args: { orderNo },
  });
}

/** An order in the list of its user's open ones. */
export interface ListedOrder {
  orderNo: string;
  userId: string;
}

/**
 * The listed orders of some users.
 * @param cursor where the page before ended; '0' begins, and is returned at the end
 */
export async function scanOpen(
  redis: RedisClient,
  shard: SaleShard,
  cursor: string,
  users: number,
): Promise<{ cursor: string; orders: ListedOrder[] }> {
  const [next, flat] = await redis.hscan(saleKeys(shard).open, cursor, 'COUNT', users);
  const orders = flat.flatMap((userId, i) =>
    i % 2 === 0 ? toOrderNos(flat[i + 1] ?? null).map((orderNo) => ({ orderNo, userId })) : [],
  );
  return { cursor: next, orders };
}

/** See `lua/drop-open.lua`. */
export function dropOpen(redis: RedisClient, order: ListedOrder): Promise<z.infer<typeof dropOpenReply>> {
  return run(redis, dropOpenScript, { keys: orderKeys(order.orderNo), args: { ...order } });
}

/** See `list`. */
export async function listHeldAfter(
  redis: RedisClient,
  deadlinesKey: string,
  limit: number,
  after: HeldOrder | undefined,
): Promise<HeldOrder[]> {
  // As many may share the millisecond of the last one as the page has places, so the page is read twice as
  // long, and those up to the last one are left out.
  const flat = await redis.zrangebyscore(
    deadlinesKey,
    after?.deadlineMs ?? '-inf',
    '+inf',
    'WITHSCORES',
    'LIMIT',
    0,
    2 * limit,
  );
  const found: HeldOrder[] = [];
  for (let i = 0; i + 1 < flat.length; i += 2) {
    found.push({ orderNo: flat[i] ?? '', deadlineMs: Number(flat[i + 1]) });
  }
  return found.filter((held) => !after || isAfter(held, after)).slice(0, limit);
}

/** Whether the walk comes to this one later. */
export function isAfter(one: HeldOrder, other: HeldOrder): boolean {
  return (
    one.deadlineMs > other.deadlineMs || (one.deadlineMs === other.deadlineMs && one.orderNo > other.orderNo)
  );
}
