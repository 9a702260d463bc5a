/** Fills the queues of the other designs with accepted orders, as their fronts would. */

import { DBOSClient } from '@dbos-inc/dbos-sdk';
import { connect } from 'amqplib';
import { Queue } from 'bullmq';
import type { Order } from '../../../../src/orders/content.ts';
import type { RedisClient } from '../../../../src/redis/connection.ts';
import { runConcurrently } from '../../../shoppers.ts';

/** Connections to a queue that takes one order a call. */
const CALLS_AT_ONCE = 50;
/** Orders to a round trip, where there can be several. */
const BATCH = 500;

/** A list: pushed at the head, popped at the tail. */
export async function fillList(redis: RedisClient, queue: string, orders: readonly Order[]): Promise<void> {
  for (const batch of batchesOf(orders)) {
    await redis.lpush(queue, ...batch.map((order) => JSON.stringify(order)));
  }
}

/** Persistent messages in a durable queue, confirmed by the broker. */
export async function fillRabbitmq(url: string, queue: string, orders: readonly Order[]): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createConfirmChannel();
  for (const batch of batchesOf(orders)) {
    for (const order of batch) {
      channel.sendToQueue(queue, Buffer.from(JSON.stringify(order)), { persistent: true });
    }
    await channel.waitForConfirms();
  }
  await connection.close();
}

export async function fillBullmq(url: string, name: string, orders: readonly Order[]): Promise<void> {
  const queue = new Queue(name, { connection: { url } });
  for (const batch of batchesOf(orders)) {
    await queue.addBulk(batch.map((data) => ({ name: 'order', data })));
  }
  await queue.close();
}

/** One-way invocations: the ingress answers once they are durable. */
export async function fillRestate(url: string, service: string, orders: readonly Order[]): Promise<void> {
  await runConcurrently(orders.length, CALLS_AT_ONCE, async (i) => {
    const response = await fetch(`${url}/${service}/store/send`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(orders[i]),
    });
    if (!response.ok) throw new Error(`Restate takes no order: ${await response.text()}`);
    await response.body?.cancel();
  });
}

/** The consumer has made the tables of DBOS before. */
export async function fillDbos(url: string, queueName: string, orders: readonly Order[]): Promise<void> {
  const client = await DBOSClient.create({ systemDatabaseUrl: url, applicationName: 'peer' });
  await runConcurrently(orders.length, CALLS_AT_ONCE, (i) =>
    client.enqueue({ queueName, workflowName: 'order' }, orders[i]),
  );
  await client.destroy();
}

function* batchesOf(orders: readonly Order[]): Generator<readonly Order[]> {
  for (let from = 0; from < orders.length; from += BATCH) yield orders.slice(from, from + BATCH);
}
