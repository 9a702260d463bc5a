/**
 * DBOS Transact: each order is a durable workflow from a DBOS queue, whose one step stores it in the database
 * of DBOS itself, in a transaction that a repeat finds done. A data-source transaction would write a
 * checkpoint more than a step does.
 */

import assert from 'node:assert/strict';
import { DBOS } from '@dbos-inc/dbos-sdk';
import postgres, { type Sql } from 'postgres';
import type { PeerOrder } from '../peer.ts';
import { runConsumer } from './consumer.ts';

const CONCURRENCY = 50;
const POOL_SIZE = 20;
/** DBOS looks into its queue once a second by default, which would bound the rate. */
const POLL_EVERY_MS = 10;

/** As Holdfast has them. */
const TABLES = `
  CREATE TABLE IF NOT EXISTS skus (sale_id text, sku text, total int NOT NULL, held int NOT NULL DEFAULT 0,
    CHECK (held <= total), PRIMARY KEY (sale_id, sku));
  CREATE TABLE IF NOT EXISTS orders (order_no text PRIMARY KEY, sale_id text NOT NULL, user_id text NOT NULL,
    idempotency_key text NOT NULL, status text NOT NULL, total bigint NOT NULL, currency text NOT NULL,
    ip text NOT NULL, user_agent text NOT NULL, reserved_at timestamptz NOT NULL, deadline timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (sale_id, user_id, idempotency_key));
  CREATE TABLE IF NOT EXISTS order_items (order_no text, sku text, quantity int NOT NULL,
    unit_price bigint NOT NULL, PRIMARY KEY (order_no, sku));`;

await runConsumer(async ({ storeUrl, queue }) => {
  const sql = postgres(storeUrl, { max: POOL_SIZE, onnotice: () => {} });
  await sql.unsafe(TABLES);
  const store = (order: PeerOrder): Promise<void> => storeOrder(sql, order);
  DBOS.registerWorkflow((order: PeerOrder) => DBOS.runStep(() => store(order), { name: 'store' }), {
    name: 'order',
  });
  DBOS.setConfig({
    name: 'peer',
    systemDatabaseUrl: storeUrl,
    systemDatabasePoolSize: POOL_SIZE,
    logLevel: 'error',
  });
  await DBOS.launch();
  await DBOS.registerQueue(queue, { workerConcurrency: CONCURRENCY, minPollingIntervalMs: POLL_EVERY_MS });
});

async function storeOrder(store: Sql, order: PeerOrder): Promise<void> {
  const { orderNo, saleId, userId, idempotencyKey, total, currency, ip, userAgent } = order;
  const { reservedAtMs, paymentWindowMs } = order;
  await store.begin(async (sql) => {
    const { count: inserted } = await sql`
      INSERT INTO orders (order_no, sale_id, user_id, idempotency_key, status, total, currency, ip, user_agent,
        reserved_at, deadline)
      VALUES (${orderNo}, ${saleId}, ${userId}, ${idempotencyKey}, 'awaiting_payment', ${total}, ${currency},
        ${ip}, ${userAgent}, ${new Date(reservedAtMs)}, ${new Date(reservedAtMs + paymentWindowMs)})
      ON CONFLICT (order_no) DO NOTHING`;
    if (inserted === 0) return;
    for (const { sku, quantity, unitPrice } of order.items) {
      await sql`INSERT INTO order_items VALUES (${orderNo}, ${sku}, ${quantity}, ${unitPrice})`;
      const { count } = await sql`UPDATE skus SET held = held + ${quantity}
        WHERE sale_id = ${saleId} AND sku = ${sku}`;
      assert.equal(count, 1, `stock of ${sku}`);
    }
  });
}
