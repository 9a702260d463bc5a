/**
 * A rush: 2,000 orders of 500 users for 300 units. Half of
 * the accepted are paid, the others are cancelled by timer.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { runAudit } from '../src/audit/run-audit.ts';
import { selectRows } from '../src/mysql/connection.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import type { BenchCheckout } from './checkout.ts';
import { createShoppers, percentile, runConcurrently } from './shoppers.ts';
import { watchStock } from './stock-watch.ts';

const ORDERS = 2_000;
const USERS = 500;
const UNITS = 300;
const CONCURRENCY = 64;
const PAYERS_AT_ONCE = 16;
/** Long enough to store all and to pay half on a slow machine. */
const WINDOW_MS = 40_000;
const STEP_TIMEOUT_MS = 120_000;

const acceptedReply = z.object({ orderNo: z.string() });
const countRow = z.object({ status: z.string(), started: z.coerce.number(), orders: z.number() });

export async function rush(checkout: BenchCheckout): Promise<void> {
  const saleId = await checkout.openSale(UNITS, WINDOW_MS);
  const shoppers = await createShoppers(checkout.apiUrl, USERS, CONCURRENCY);
  const stock = watchStock(checkout, saleId);
  const startedMs = performance.now();
  const report = (line: string): void =>
    console.log(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${line}`);

  const replies = await runConcurrently(ORDERS, CONCURRENCY, (i) => shoppers.placeOrder(i % USERS, saleId));
  const accepted = replies.flatMap(({ status, body }, user) =>
    status === 202 ? [{ user, orderNo: acceptedReply.parse(JSON.parse(body)).orderNo }] : [],
  );
  const soldOut = replies.filter(({ status, body }) => status === 409 && body.includes('"sold_out"')).length;
  const latencies = replies.map(({ latencyMs }) => latencyMs);
  report(
    `${ORDERS} answers: ${accepted.length} accepted, ${soldOut} sold out; ` +
      `p50 ${percentile(latencies, 0.5).toFixed(1)} ms, p99 ${percentile(latencies, 0.99).toFixed(1)} ms`,
  );
  assert.equal(accepted.length, UNITS);
  assert.equal(soldOut, ORDERS - UNITS);

  await waitForCounts(checkout, saleId, { awaiting_payment: UNITS });
  report(`all ${UNITS} await payment in MySQL`);
  await waitForRunning(checkout, saleId, UNITS);
  report(`all ${UNITS} workflows run`);
  await show('stock', stock);

  const payers = accepted.slice(0, UNITS / 2);
  await runConcurrently(payers.length, PAYERS_AT_ONCE, async (i) => {
    const payer = payers[i];
    assert(payer);
    await shoppers.pay(payer.user, payer.orderNo);
  });
  await waitForCounts(checkout, saleId, { awaiting_payment: UNITS / 2, paid: UNITS / 2 });
  report(`${UNITS / 2} are paid, by webhook`);
  await show('stock', stock);

  await waitForCounts(checkout, saleId, { cancelled: UNITS / 2, paid: UNITS / 2 });
  report(`the other ${UNITS / 2} were cancelled by their timer`);
  await waitForRunning(checkout, saleId, 0);
  const { redis, mysql } = await show('stock', stock);
  assert.deepEqual([redis[0]?.sold, redis[0]?.available, redis[0]?.held], [UNITS / 2, UNITS / 2, 0]);
  assert.deepEqual([mysql[0]?.sold, mysql[0]?.available, mysql[0]?.held], [UNITS / 2, UNITS / 2, 0]);
  report(`the stock equation held in both stores at each of ${await stock.end()} looks`);
  const { findings } = await runAudit(
    checkout,
    saleId,
    accepted.map(({ orderNo }) => orderNo),
  );
  assert.deepEqual(findings, []);
  report('the audit of Redis, MySQL, Temporal, the provider and the list of accepted orders is clean');
  shoppers.close();

  async function show(what: string, watched: ReturnType<typeof watchStock>) {
    const seen = await watched.look();
    for (const [store, [count]] of Object.entries(seen)) {
      assert(count);
      report(
        `  ${what} in ${store.padEnd(5)}: ${count.total} = ${count.available} + ${count.held} + ${count.sold}`,
      );
    }
    return seen;
  }
}

async function waitForCounts(
  { stores: { pool } }: BenchCheckout,
  saleId: string,
  wanted: Record<string, number>,
): Promise<void> {
  let seen = '';
  await waitUntil({
    what: `orders to be ${JSON.stringify(wanted)}`,
    timeoutMs: STEP_TIMEOUT_MS,
    check: async () => {
      const rows = await selectRows(
        pool,
        countRow,
        `SELECT status, SUM(workflow_started_at IS NOT NULL) AS started, COUNT(*) AS orders
         FROM orders WHERE sale_id = ? GROUP BY status`,
        [saleId],
      );
      seen = JSON.stringify(rows);
      const isReached = rows.every((row) => row.orders === wanted[row.status] && row.started === row.orders);
      return isReached && rows.length === Object.keys(wanted).length;
    },
  }).catch((error: unknown) => {
    throw new Error(`MySQL has ${seen}`, { cause: error });
  });
}

async function waitForRunning({ client }: BenchCheckout, saleId: string, wanted: number): Promise<void> {
  await waitUntil({
    what: `${wanted} running workflows`,
    timeoutMs: STEP_TIMEOUT_MS,
    check: async () => {
      const query = `SaleId = "${saleId}" AND ExecutionStatus = "Running"`;
      return (await client.workflow.count(query)).count === wanted;
    },
  });
}
