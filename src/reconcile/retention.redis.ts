/** Removes data from Redis that are kept no longer: of a sale that is long over, or of a person. */

import { z } from 'zod';
import type { Order } from '../orders/content.ts';
import type { RedisClient } from '../redis/connection.ts';
import {
  formatSaleShard,
  limitField,
  orderKeys,
  saleKeys,
  SALES_KEY,
  type SaleShard,
} from '../redis/keys.ts';
import { run, defineScript, replyInt } from '../redis/script.ts';

export const forgetSaleReply = z.tuple([z.enum(['forgotten', 'busy'])]).transform(([kind]) => kind);

export const forgetOrderReply = z.tuple([z.enum(['forgotten', 'held'])]).transform(([kind]) => kind);

/** The units that were moved. */
export const renameUserReply = z.tuple([z.literal('renamed'), replyInt]).transform(([, units]) => units);

export const forgetOrderScript = defineScript({
  file: 'forget-order',
  keys: ['order', 'idem', 'open'],
  args: ['orderNo', 'userId'],
  reply: forgetOrderReply,
});

export const forgetSaleScript = defineScript({
  file: 'forget-sale',
  keys: [
    'sale',
    'stock',
    'limits',
    'outbox',
    'deadlines',
    'restored',
    'returns',
    'void',
    'damaged',
    'open',
    'unpaid',
    'free',
  ],
  args: [],
  reply: forgetSaleReply,
});

export const renameUserScript = defineScript({
  file: 'rename-user',
  keys: ['limits', 'open', 'unpaid'],
  args: ['userId', 'token'],
  repeated: ['sku'],
  reply: renameUserReply,
});

/** Idempotent. busy: an order of the sale waits or is held. Only after MySQL has noted it. */
export async function forgetSale(redis: RedisClient, shard: SaleShard): Promise<'forgotten' | 'busy'> {
  const outcome = await run(redis, forgetSaleScript, { keys: saleKeys(shard), args: {} });
  if (outcome === 'forgotten') await redis.unlink(saleKeys(shard).refused('sums', 0));
  // Last, as by it the sale is found again when this process dies in between.
  if (outcome === 'forgotten') await redis.srem(SALES_KEY, formatSaleShard(shard));
  return outcome;
}

/** The hash of an ended order, its idempotency entry, its place among the open ones. Idempotent. */
export function forgetOrder(
  redis: RedisClient,
  { orderNo, userId, idempotencyKey }: Pick<Order, 'orderNo' | 'userId' | 'idempotencyKey'>,
): Promise<'forgotten' | 'held'> {
  const keys = orderKeys(orderNo);
  return run(redis, forgetOrderScript, {
    keys: { ...keys, idem: keys.idem(userId, idempotencyKey) },
    args: { orderNo, userId },
  });
}

/** How many units of each SKU the user is counted to hold or own. */
export async function readLimits(
  redis: RedisClient,
  shard: SaleShard,
  userId: string,
  skus: readonly string[],
): Promise<Map<string, number>> {
  const counts = await redis.hmget(saleKeys(shard).limits, ...skus.map((sku) => limitField(sku, userId)));
  return new Map(skus.map((sku, i) => [sku, Number(counts[i] ?? 0)]));
}

/** Counts the user's units and unpaid holds under the token. Idempotent. @returns the units moved */
export function renameUser(
  redis: RedisClient,
  shard: SaleShard,
  userId: string,
  token: string,
  skus: readonly string[],
): Promise<number> {
  return run(redis, renameUserScript, {
    keys: saleKeys(shard),
    args: { userId, token },
    repeated: skus.map((sku) => ({ sku })),
  });
}
