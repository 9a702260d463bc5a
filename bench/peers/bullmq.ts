/**
 * BullMQ, accepting side: a Lua script deducts the stock in Redis, then the order becomes a job of BullMQ,
 * whose id is the order's number. What most people would pick for a queue in Node.
 *
 * Source: BullMQ's documentation, "Adding jobs" and "Job ids" (docs.bullmq.io), with the defaults of its
 * Queue.
 */

import { Queue } from 'bullmq';
import { connectPlainRedis, createLuaStock } from './lua-stock.ts';
import { claimKey, type OpenPeer } from './peer.ts';

export const BULLMQ_QUEUE = 'peer-orders';

export const openBullmq: OpenPeer = async ({ servers, isIdempotent }) => {
  const redis = connectPlainRedis(servers.redisUrl);
  const stock = await createLuaStock(redis);
  // By address: BullMQ brings an ioredis of its own.
  const queue = new Queue(BULLMQ_QUEUE, { connection: { url: servers.redisUrl } });
  await queue.waitUntilReady();
  return {
    openSale: stock.open,

    async accept(order) {
      const earlier = isIdempotent ? await claimKey(redis, order) : undefined;
      if (earlier !== undefined) return { kind: 'repeated', orderNo: earlier };
      if (!(await stock.deduct(order))) return { kind: 'sold-out' };
      await queue.add('order', order, { jobId: order.orderNo });
      return { kind: 'accepted' };
    },

    async count(saleId) {
      return { taken: await stock.countTaken(saleId), handedOver: await queue.getWaitingCount() };
    },

    async clear() {
      await queue.obliterate({ force: true });
    },

    async close() {
      await queue.close();
      redis.disconnect();
    },
  };
};
