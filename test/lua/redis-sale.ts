/** A sale as Redis has it, and what must be true of it at every instant. */

import { expect } from 'vitest';
import type { RedisClient } from '../../src/redis/connection.ts';
import { saleKeys } from '../../src/redis/keys.ts';

interface RedisOrder {
  orderNo: string;
  userId: string;
  hold: string;
  version: number;
  items: { sku: string; quantity: number }[];
}

export interface RedisSale {
  stock: Map<string, { total: number; available: number; held: number; sold: number }>;
  limits: Record<string, string>;
  /** Marks of what has gone back of refunded orders. */
  returns: string[];
  orders: RedisOrder[];
  deadlines: string[];
  outbox: string[];
}

export async function readRedisSale(
  redis: RedisClient,
  saleId: string,
  skus: readonly string[],
): Promise<RedisSale> {
  const keys = saleKeys({ saleId, shard: 0 });
  const [hash, limits, returns, deadlines, outbox] = await Promise.all([
    redis.hgetall(keys.stock),
    redis.hgetall(keys.limits),
    redis.smembers(keys.returns),
    redis.zrange(keys.deadlines, '0', '-1'),
    redis.xrange(keys.outbox, '-', '+'),
  ]);
  const queued = outbox.map(([, fields]) => String(fields[1]));
  return {
    stock: new Map(skus.map((sku) => [sku, countsOf(hash, sku)])),
    limits,
    returns,
    orders: await Promise.all(queued.map((orderNo) => readRedisOrder(redis, saleId, orderNo))),
    deadlines,
    outbox: queued,
  };
}

function countsOf(hash: Record<string, string>, sku: string) {
  const count = (field: string) => Number(hash[`${sku}:${field}`]);
  return { total: count('total'), available: count('available'), held: count('held'), sold: count('sold') };
}

async function readRedisOrder(redis: RedisClient, saleId: string, orderNo: string): Promise<RedisOrder> {
  const hash = await redis.hgetall(saleKeys({ saleId, shard: 0 }).order(orderNo));
  const items: RedisOrder['items'] = JSON.parse(String(hash['items']));
  const { user_id: userId, hold } = hash;
  return { orderNo, userId: String(userId), hold: String(hold), version: Number(hash['version']), items };
}

export function expectConservation(sale: RedisSale): void {
  const held = unitsBy(sale, ['held'], (_order, sku) => sku);
  const sold = unitsBy(sale, ['sold'], (_order, sku) => sku);
  for (const [sku, counts] of sale.stock) {
    const { total, available } = counts;
    expect(counts).toEqual({ total, available, held: held[sku] ?? 0, sold: sold[sku] ?? 0 });
    expect(total, sku).toBe(available + counts.held + counts.sold);
    expect(Math.min(available, counts.held, counts.sold), sku).toBeGreaterThanOrEqual(0);
  }
  const counted = sale.orders.filter(({ orderNo }) => !sale.returns.includes(`${orderNo}:limit`));
  const allowances = unitsBy(
    { orders: counted },
    ['held', 'sold', 'returned'],
    (order, sku) => `${sku}:${order.userId}`,
  );
  const returned = sale.orders.filter(({ hold }) => hold === 'returned').map(({ orderNo }) => orderNo);
  const marked = sale.returns.flatMap((mark) => (mark.endsWith(':stock') ? [mark.slice(0, -6)] : []));
  expect(marked.toSorted()).toEqual(returned.toSorted());
  expect(
    Object.fromEntries(Object.entries(sale.limits).map(([field, units]) => [field, Number(units)])),
  ).toEqual(allowances);
  expect(sale.deadlines.toSorted()).toEqual(
    sale.orders
      .filter(({ hold }) => hold === 'held')
      .map(({ orderNo }) => orderNo)
      .toSorted(),
  );
  expect(new Set(sale.outbox).size).toBe(sale.outbox.length);
}

/** A hold that has ended keeps its end, but that what was sold may come back; and a version never falls. */
export function expectNoWayBack(before: RedisSale, after: RedisSale): void {
  const now = new Map(after.orders.map((order) => [order.orderNo, order]));
  for (const order of before.orders) {
    const later = now.get(order.orderNo);
    if (order.hold === 'sold') expect(['sold', 'returned']).toContain(later?.hold);
    else if (order.hold !== 'held') expect(later?.hold).toBe(order.hold);
    expect(later?.version).toBeGreaterThanOrEqual(order.version);
    expect(later?.items).toEqual(order.items);
  }
}

function unitsBy(
  sale: Pick<RedisSale, 'orders'>,
  holds: readonly string[],
  keyOf: (order: RedisOrder, sku: string) => string,
): Record<string, number> {
  const units: Record<string, number> = {};
  for (const order of sale.orders.filter(({ hold }) => holds.includes(hold))) {
    for (const { sku, quantity } of order.items) {
      const key = keyOf(order, sku);
      units[key] = (units[key] ?? 0) + quantity;
    }
  }
  return units;
}
