/**
 * Design B, an order queue on RabbitMQ for Go: five workers with a prefetch of ten store persistent messages,
 * each order in a transaction of its own, and acknowledge after the commit.
 */

import { connect, type Channel, type ConsumeMessage } from 'amqplib';
import { openStore, runConsumer } from './consumer.ts';
import { parseOrder, storeOrder } from './store-order.ts';

const WORKERS = 5;
const PREFETCH = 10;

await runConsumer(async ({ storeUrl, queueUrl, queue }) => {
  const pool = openStore(storeUrl, WORKERS);
  const connection = await connect(queueUrl);
  for (let worker = 0; worker < WORKERS; worker += 1) await startWorker(await connection.createChannel());

  async function startWorker(channel: Channel): Promise<void> {
    await channel.assertQueue(queue, { durable: true });
    await channel.prefetch(PREFETCH);
    // A worker takes one order after the other; the prefetched ones wait for it.
    let latest: Promise<void> | undefined;
    await channel.consume(queue, (message) => {
      if (message) latest = storeAfter(latest, channel, message);
    });
  }

  async function storeAfter(
    earlier: Promise<void> | undefined,
    channel: Channel,
    message: ConsumeMessage,
  ): Promise<void> {
    await earlier;
    await storeOrder(pool, parseOrder(message.content.toString()));
    channel.ack(message);
  }
});
