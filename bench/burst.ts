/**
 * A burst: 5,000 orders at once for as many units. Measures
 * how soon all are accepted, payable, and in the engine.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { selectRows } from '../src/mysql/connection.ts';
import type { BenchCheckout } from './checkout.ts';
import { createShoppers, percentile, runConcurrently } from './shoppers.ts';

const ORDERS = 5_000;
/** As many as one API takes in at once. */
const CONCURRENCY = 128;
const WINDOW_MS = 30 * 60_000;
const LOOK_EVERY_MS = 250;
const REPORT_EVERY_LOOKS = 20;
/** Far more than the slowest machine needs; bounds a hang. */
const TIMEOUT_MS = 10 * 60_000;

const progressRow = z.object({ stored: z.coerce.number(), started: z.coerce.number() });

export async function burst(checkout: BenchCheckout): Promise<void> {
  const saleId = await checkout.openSale(ORDERS, WINDOW_MS);
  const shoppers = await createShoppers(checkout.apiUrl, ORDERS, CONCURRENCY);
  const startedMs = performance.now();
  const seconds = (): string => ((performance.now() - startedMs) / 1000).toFixed(1);
  const watching = watchProgress(checkout, saleId, seconds);

  const replies = await runConcurrently(ORDERS, CONCURRENCY, (i) => shoppers.placeOrder(i, saleId));
  const acceptedAfter = seconds();
  shoppers.close();
  const latencies = replies.map(({ latencyMs }) => latencyMs);
  assert(
    replies.every(({ status }) => status === 202),
    'every order is accepted',
  );
  const { payableAfter, inEngineAfter } = await watching;
  console.log(
    [
      `${ORDERS} orders from ${CONCURRENCY} connections`,
      `  all accepted      ${acceptedAfter} s (p50 ${percentile(latencies, 0.5).toFixed(0)} ms, p99 ${percentile(latencies, 0.99).toFixed(0)} ms)`,
      `  all payable       ${payableAfter} s`,
      `  all in the engine ${inEngineAfter} s (${(ORDERS / Number(inEngineAfter)).toFixed(0)} orders/s)`,
    ].join('\n'),
  );
}

async function watchProgress({ stores: { pool } }: BenchCheckout, saleId: string, seconds: () => string) {
  let payableAfter: string | undefined;
  for (let look = 0; look * LOOK_EVERY_MS < TIMEOUT_MS; look += 1) {
    const [row] = await selectRows(
      pool,
      progressRow,
      `SELECT COUNT(*) AS stored, COALESCE(SUM(workflow_started_at IS NOT NULL), 0) AS started
       FROM orders WHERE sale_id = ?`,
      [saleId],
    );
    assert(row);
    if (look % REPORT_EVERY_LOOKS === 0)
      console.log(`${seconds().padStart(6)} s  payable ${row.stored}, in the engine ${row.started}`);
    if (row.stored === ORDERS) payableAfter ??= seconds();
    if (row.started === ORDERS) return { payableAfter, inEngineAfter: seconds() };
    await delay(LOOK_EVERY_MS);
  }
  throw new Error('the burst did not end');
}
