/** The scripts called as ioredis sends them, with everything to be chosen; and a sale's keys as Redis has them. */

import { ulid } from 'ulidx';
import { formatOrderNo } from '../../src/domain/order.ts';
import type { RedisClient } from '../../src/stores/redis/connection.ts';
import { orderKeys, saleKeys } from '../../src/stores/redis/keys.ts';

const DAY_MS = '86400000';

export interface ReserveCall {
  saleId: string;
  orderNo: string;
  epoch: string;
  userId: string;
  idempotencyKey: string;
  fingerprint: string;
  startsPerSecond: number;
  lines: readonly { sku: string; quantity: number }[];
}

/** One lamp for ada, under an order number and a key of its own. */
export function buildReserveCall(
  saleId: string,
  overrides: Partial<Omit<ReserveCall, 'saleId'>> = {},
): ReserveCall {
  return {
    saleId,
    orderNo: newOrderNo(saleId),
    epoch: '1',
    userId: 'ada',
    idempotencyKey: ulid(),
    fingerprint: 'f',
    startsPerSecond: 100,
    lines: [{ sku: 'lamp', quantity: 1 }],
    ...overrides,
  };
}

export function newOrderNo(saleId: string): string {
  return formatOrderNo({ saleId, shard: 0, epoch: 1, ulid: ulid() });
}

export function callReserve(redis: RedisClient, call: ReserveCall): Promise<string[]> {
  const keys = orderKeys(call.orderNo);
  return redis.reserve(
    keys.sale,
    keys.stock,
    keys.limits,
    keys.orderKey,
    keys.idem(call.userId, call.idempotencyKey),
    keys.outbox,
    keys.deadlines,
    keys.storedAhead,
    call.orderNo,
    call.epoch,
    call.saleId,
    call.userId,
    call.idempotencyKey,
    call.fingerprint,
    DAY_MS,
    String(call.startsPerSecond),
    '192.0.2.1',
    'test',
    ...call.lines.flatMap(({ sku, quantity }) => [sku, String(quantity)]),
  );
}

export function callConfirm(redis: RedisClient, orderNo: string): Promise<string[]> {
  const keys = orderKeys(orderNo);
  return redis.confirm(keys.orderKey, keys.stock, keys.deadlines, orderNo, DAY_MS);
}

export function callRelease(redis: RedisClient, orderNo: string): Promise<string[]> {
  const keys = orderKeys(orderNo);
  return redis.release(keys.orderKey, keys.stock, keys.limits, keys.deadlines, orderNo, DAY_MS);
}

/** The same order, said to have been accepted at noon of a day long past. */
export function callReserveAgain(redis: RedisClient, call: ReserveCall): Promise<string[]> {
  const keys = orderKeys(call.orderNo);
  return redis.reserveAgain(
    keys.sale,
    keys.stock,
    keys.limits,
    keys.orderKey,
    keys.idem(call.userId, call.idempotencyKey),
    keys.outbox,
    keys.deadlines,
    keys.restored,
    call.orderNo,
    call.saleId,
    call.userId,
    call.idempotencyKey,
    call.fingerprint,
    DAY_MS,
    JSON.stringify(call.lines.map((line) => ({ ...line, unitPrice: 100 }))),
    '100',
    'EUR',
    String(Date.UTC(2026, 0, 31, 12)),
    '60000',
    '',
    '',
  );
}

export interface GiveBackCall extends Pick<ReserveCall, 'orderNo' | 'userId' | 'lines'> {
  limit: boolean;
  stock: boolean;
}

export function callGiveBack(
  redis: RedisClient,
  { orderNo, userId, lines, limit, stock }: GiveBackCall,
): Promise<string[]> {
  const keys = orderKeys(orderNo);
  const flags = [limit, stock].map((asked) => (asked ? '1' : '0'));
  return redis.giveBack(
    keys.orderKey,
    keys.stock,
    keys.limits,
    keys.returns,
    orderNo,
    userId,
    JSON.stringify(lines),
    ...flags,
  );
}

export function callRestock(
  redis: RedisClient,
  saleId: string,
  sku: string,
  total: number,
  version: number,
): Promise<string[]> {
  const keys = saleKeys({ saleId, shard: 0 });
  return redis.restock(keys.sale, keys.stock, sku, String(total), String(version));
}

export function callProject(
  redis: RedisClient,
  orderNo: string,
  version: number,
  status = 'awaiting_payment',
): Promise<string[]> {
  return redis.project(orderKeys(orderNo).orderKey, String(version), status, 'none', '');
}

/** Every key of the sale with its value and the moment it expires: equal snapshots mean that nothing was written. */
export async function snapshot(redis: RedisClient, saleId: string): Promise<Record<string, unknown>> {
  const keys = (await redis.keys(`holdfast:{${saleId}.0}:*`)).toSorted();
  const values: Record<string, unknown> = {};
  for (const key of keys) {
    values[key] = { value: await readKey(redis, key), expiresAtMs: await redis.pexpiretime(key) };
  }
  return values;
}

async function readKey(redis: RedisClient, key: string): Promise<unknown> {
  const type = await redis.type(key);
  if (type === 'hash') return redis.hgetall(key);
  if (type === 'zset') return redis.zrange(key, '0', '-1', 'WITHSCORES');
  if (type === 'set') return (await redis.smembers(key)).toSorted();
  if (type === 'stream') return redis.xrange(key, '-', '+');
  return redis.get(key);
}
