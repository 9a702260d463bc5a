/** Reads for the audit, from Redis: one whole sale. Too slow for any other use. */

import { z } from 'zod';
import type { OrderState } from '../orders/order.ts';
import { orderHash } from '../orders/reserve.redis.ts';
import type { RedisClient } from '../redis/connection.ts';
import { saleKeys, wholeSale } from '../redis/keys.ts';
import { listWaiting } from '../redis/outbox.ts';

export { limitField } from '../redis/keys.ts';

/** Keys scanned per round trip. */
const SCAN_COUNT = 1_000;
/** Holds read at once: a few hundred KiB, which are answered long before a command times out. */
const READ_AT_ONCE = 500;

const holdHash = orderHash.extend({ hold: z.enum(['held', 'sold', 'released', 'returned']) });

export interface RedisHold {
  orderNo: string;
  userId: string;
  hold: z.infer<typeof holdHash>['hold'];
  /** The life of the sale's data that it belongs to. */
  epoch: number;
  items: { sku: string; quantity: number }[];
  state: OrderState;
}

/**
 * The holds of a sale, the orders that wait in its outbox, and the units counted per SKU and user. Holds of
 * an older epoch than the sale's are void, and left out.
 */
export async function readRedisSale(redis: RedisClient, saleId: string) {
  const keys = saleKeys(wholeSale(saleId));
  const [orderKeys, waiting, limits, present] = await Promise.all([
    scanKeys(redis, keys.order('*')),
    listWaiting(redis, wholeSale(saleId)),
    redis.hgetall(keys.limits),
    redis.hget(keys.sale, 'epoch'),
  ]);
  const epoch = Number(present);
  const holds = await readHolds(redis, orderKeys, keys.order('').length);
  return {
    epoch,
    holds: holds.filter((hold) => hold.epoch >= epoch),
    outbox: waiting,
    limits: new Map(Object.entries(limits).map(([field, count]) => [field, Number(count)])),
  };
}

/**
 * Reads in portions of one round trip each, because the holds of a big sale take longer than one command may.
 */
async function readHolds(
  redis: RedisClient,
  orderKeys: readonly string[],
  prefixChars: number,
): Promise<RedisHold[]> {
  const holds: RedisHold[] = [];
  for (let from = 0; from < orderKeys.length; from += READ_AT_ONCE) {
    const portion = orderKeys.slice(from, from + READ_AT_ONCE);
    const hashes = await Promise.all(portion.map((key) => redis.hgetall(key)));
    for (const [i, key] of portion.entries()) {
      const hash = hashes[i] ?? {};
      // The projection of an ended order may expire between the two reads.
      if (Object.keys(hash).length > 0) holds.push(toHold(key.slice(prefixChars), hash));
    }
  }
  return holds;
}

/**
 * Scans all nodes of a cluster. The keys of one sale are on one node, and each node lists only its own. A
 * pattern and what it finds have the connection's prefix, which it adds to keys alone.
 */
async function scanKeys(redis: RedisClient, pattern: string): Promise<string[]> {
  const prefix = redis.options.keyPrefix ?? '';
  const nodes = 'nodes' in redis ? redis.nodes('master') : [redis];
  const found = await Promise.all(
    nodes.map(async (node) => {
      const keys: string[] = [];
      const escaped = prefix + pattern.replace('{', '[{]').replace('}', '[}]');
      for await (const batch of node.scanStream({ match: escaped, count: SCAN_COUNT })) {
        keys.push(...z.array(z.string().transform((key) => key.slice(prefix.length))).parse(batch));
      }
      return keys;
    }),
  );
  return [...new Set(found.flat())];
}

function toHold(orderNo: string, hash: Record<string, string>): RedisHold {
  const {
    user_id: userId,
    hold,
    items,
    status,
    version,
    payment,
    reason,
    refunded,
    epoch,
  } = holdHash.parse(hash);
  const state = { status, version, payment, reason, ...(refunded > 0 && { refunded }) };
  return { orderNo, userId, hold, epoch, items, state };
}
