/** BullMQ, the usual job queue for Node on Redis: one worker that runs fifty jobs at once, an order each. */

import { Worker } from 'bullmq';
import type { PeerOrder } from '../peer.ts';
import { openStore, runConsumer } from './consumer.ts';
import { storeOrder } from './store-order.ts';

const CONCURRENCY = 50;

await runConsumer(async ({ storeUrl, queueUrl, queue }) => {
  const pool = openStore(storeUrl, CONCURRENCY);
  const worker = new Worker<PeerOrder>(queue, ({ data }) => storeOrder(pool, data), {
    connection: { url: queueUrl },
    concurrency: CONCURRENCY,
    removeOnComplete: { count: 0 },
  });
  worker.on('error', (error) => console.error(error));
  await worker.waitUntilReady();
});
