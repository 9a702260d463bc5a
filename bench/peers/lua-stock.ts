/** The first step that the queue designs share: one Lua script checks the stock in Redis and deducts it. */

import { Redis } from 'ioredis';
import type { PeerOrder } from './peer.ts';

/** KEYS: the sale's stock by SKU. ARGV: SKU and quantity for each line. 1: deducted; 0: not enough. */
const DEDUCT = `
for i = 1, #ARGV, 2 do
  local available = tonumber(redis.call('HGET', KEYS[1], ARGV[i]))
  if not available or available < tonumber(ARGV[i + 1]) then return 0 end
end
for i = 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], -ARGV[i + 1]) end
return 1`;

/** As fast as a client of Redis gets: commands of one turn of the event loop travel together, as ours do. */
export function connectPlainRedis(url: string): Redis {
  return new Redis(url, { enableAutoPipelining: true });
}

export async function createLuaStock(redis: Redis) {
  const sha = String(await redis.script('LOAD', DEDUCT));
  const stockKey = (saleId: string): string => `peer:${saleId}:stock`;
  return {
    async open(saleId: string, units: number): Promise<void> {
      await redis.hset(stockKey(saleId), { unit: units, total: units });
    },

    /** @returns false when sold out */
    async deduct({ saleId, items }: PeerOrder): Promise<boolean> {
      const lines = items.flatMap(({ sku, quantity }) => [sku, quantity]);
      return (await redis.evalsha(sha, 1, stockKey(saleId), ...lines)) === 1;
    },

    async giveBack({ saleId, items }: PeerOrder): Promise<void> {
      const key = stockKey(saleId);
      await Promise.all(items.map(({ sku, quantity }) => redis.hincrby(key, sku, quantity)));
    },

    async countTaken(saleId: string): Promise<number> {
      const [left, total] = await redis.hmget(stockKey(saleId), 'unit', 'total');
      return Number(total) - Number(left);
    },
  };
}
