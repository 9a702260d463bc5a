/**
 * Design B, accepting side: a Lua script deducts the stock in Redis, then the order is published to RabbitMQ
 * as a persistent message of a durable queue. The caller is answered once the broker has confirmed it.
 *
 * Source: the common "Redis Lua + RabbitMQ" flash-sale design, requirement rows B1 to B9 of this project;
 * RabbitMQ's guides "Reliability" and "Consumer Acknowledgements and Publisher Confirms" (rabbitmq.com). A
 * publication of the kind in Node: FlashFlow on GitHub.
 */

import { connect } from 'amqplib';
import { connectPlainRedis, createLuaStock } from './lua-stock.ts';
import { claimKey, type OpenPeer } from './peer.ts';

/** Durable; declared by the first that comes. */
export const RABBITMQ_QUEUE = 'peer-orders';

export const openRabbitmq: OpenPeer = async ({ servers, isIdempotent }) => {
  const redis = connectPlainRedis(servers.redisUrl);
  const stock = await createLuaStock(redis);
  const connection = await connect(servers.rabbitmqUrl);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(RABBITMQ_QUEUE, { durable: true });

  const publish = (content: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
      const options = { persistent: true, contentType: 'application/json' };
      channel.sendToQueue(RABBITMQ_QUEUE, content, options, (error: unknown) =>
        error ? reject(new Error('the broker refused the order', { cause: error })) : resolve(),
      );
    });

  return {
    openSale: stock.open,

    async accept(order) {
      const earlier = isIdempotent ? await claimKey(redis, order) : undefined;
      if (earlier !== undefined) return { kind: 'repeated', orderNo: earlier };
      if (!(await stock.deduct(order))) return { kind: 'sold-out' };
      await publish(Buffer.from(JSON.stringify(order)));
      return { kind: 'accepted' };
    },

    async count(saleId) {
      const { messageCount } = await channel.checkQueue(RABBITMQ_QUEUE);
      return { taken: await stock.countTaken(saleId), handedOver: messageCount };
    },

    async clear() {
      await channel.purgeQueue(RABBITMQ_QUEUE);
    },

    async close() {
      await connection.close();
      redis.disconnect();
    },
  };
};
