/**
 * Design A, a Redis order queue for Node: the front that took the stock pushed the order onto a list, and
 * order processors pop it and store it row by row. Several processors run side by side, as it advises. A
 * crash between pop and commit loses the order.
 */

import { Redis } from 'ioredis';
import { openStore, runConsumer } from './consumer.ts';
import { parseOrder, storeOrder } from './store-order.ts';

const PROCESSORS = 5;

await runConsumer(async ({ storeUrl, queueUrl, queue }) => {
  const pool = openStore(storeUrl, PROCESSORS);
  for (let processor = 0; processor < PROCESSORS; processor += 1) {
    // A blocking pop has a connection to itself.
    void processOrders(new Redis(queueUrl));
  }

  async function processOrders(redis: Redis): Promise<void> {
    for (;;) {
      const popped = await redis.brpop(queue, 0);
      if (popped) await storeOrder(pool, parseOrder(popped[1]));
    }
  }
});
