/**
 * What the database takes at best: rows that were made beforehand, so many orders to a transaction on so many
 * connections.
 */

import type { Pool } from 'mysql2/promise';
import { z } from 'zod';
import { buildOrders } from '../orders.ts';
import { storeRawBatch, toRawBatch, type RawBatch } from '../raw-batch.ts';
import { openStore, runConsumer } from './consumer.ts';

/** What the text `queue` of the set-up says here. */
const workSchema = z.object({
  saleId: z.string(),
  orders: z.int(),
  /** Orders in a transaction. */
  batch: z.int(),
  connections: z.int(),
});

await runConsumer(async ({ storeUrl, queue }) => {
  const { saleId, orders, batch, connections } = workSchema.parse(JSON.parse(queue));
  const pool = openStore(storeUrl, connections);
  const all = buildOrders(saleId, orders);
  const batches: RawBatch[] = [];
  for (let from = 0; from < all.length; from += batch)
    batches.push(toRawBatch(all.slice(from, from + batch)));
  // Connections are made before the clock starts.
  const warm = await Promise.all(Array.from({ length: connections }, () => pool.getConnection()));
  for (const connection of warm) connection.release();
  const waiting = batches.values();
  process.once('message', () => {
    for (let i = 0; i < connections; i += 1) void storeAll(pool, waiting);
  });
});

/** Each connection takes the next batch as soon as it has stored one. */
async function storeAll(pool: Pool, batches: Iterable<RawBatch>): Promise<void> {
  const connection = await pool.getConnection();
  for (const batch of batches) await storeRawBatch(connection, batch);
  connection.release();
}
