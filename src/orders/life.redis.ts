/** All that Redis knows of one order: its hold and its projection. */

import { z } from 'zod';
import type { RedisClient } from '../redis/connection.ts';
import { orderKeys } from '../redis/keys.ts';
import { toReservedOrderIfWhole, ORDER_FIELDS, type ReservedOrder } from './reserve.redis.ts';

const HOLDS = ['held', 'sold', 'released', 'returned'] as const;
const int = z.coerce.number().int();

export interface RedisLife {
  /** Undefined: Redis does not have the order, or not whole. */
  reserved: ReservedOrder | undefined;
  /** The order's key is there, but not all of its fields. */
  isDamaged: boolean;
  /** Undefined: there is none. */
  hold: (typeof HOLDS)[number] | undefined;
  /** Of the sale; undefined: Redis does not have the sale. */
  epoch: number | undefined;
}

export async function readRedisLife(redis: RedisClient, orderNo: string): Promise<RedisLife> {
  const keys = orderKeys(orderNo);
  const [hash, epoch] = await Promise.all([redis.hgetall(keys.order), redis.hget(keys.sale, 'epoch')]);
  const reserved = toReservedOrderIfWhole(
    orderNo,
    ORDER_FIELDS.map((field) => hash[field]),
  );
  return {
    reserved,
    isDamaged: !reserved && Object.keys(hash).length > 0,
    hold: HOLDS.find((hold) => hold === hash['hold']),
    epoch: epoch === null ? undefined : int.parse(epoch),
  };
}
