/**
 * Design A, accepting side: a Lua script deducts the stock in Redis, then the order is pushed onto a list
 * that workers pop. Two round trips; a process that dies between them has taken stock for no order.
 *
 * Source: the common "Redis Lua + list queue" flash-sale design in Node, requirement rows A1 to A9 of this
 * project. Near it, and not this: "Redis应用实战 - 秒杀场景（Node.js版本）" (2021) deducts in Lua and inserts the order
 * into MySQL within the request; the `seckill.lua` of hm-dianping and its many forks on GitHub adds the order
 * to a stream in the very script that deducts.
 */

import { connectPlainRedis, createLuaStock } from './lua-stock.ts';
import { claimKey, type OpenPeer } from './peer.ts';

/** Order JSON, the newest first; workers pop from the other end. */
export const LUA_LIST_KEY = 'peer:lua-list:orders';

export const openLuaList: OpenPeer = async ({ servers, isIdempotent }) => {
  const redis = connectPlainRedis(servers.redisUrl);
  const stock = await createLuaStock(redis);
  return {
    openSale: stock.open,

    async accept(order) {
      const earlier = isIdempotent ? await claimKey(redis, order) : undefined;
      if (earlier !== undefined) return { kind: 'repeated', orderNo: earlier };
      if (!(await stock.deduct(order))) return { kind: 'sold-out' };
      await redis.lpush(LUA_LIST_KEY, JSON.stringify(order));
      return { kind: 'accepted' };
    },

    async count(saleId) {
      return { taken: await stock.countTaken(saleId), handedOver: await redis.llen(LUA_LIST_KEY) };
    },

    async clear() {
      await redis.del(LUA_LIST_KEY);
    },

    async close() {
      redis.disconnect();
    },
  };
};
