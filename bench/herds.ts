/**
 * Herds: 2,000 payments within a second or two, and 2,000 windows that ended while no worker was there.
 * Every order must end right, and Temporal must not repeat its work.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { runAudit } from '../src/audit/run-audit.ts';
import { selectRows } from '../src/mysql/connection.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import type { BenchCheckout } from './checkout.ts';
import { createPaymentNotifier } from './notices.ts';
import { createShoppers, runConcurrently } from './shoppers.ts';

const ORDERS = 2_000;
const USERS = 500;
const CONCURRENCY = 64;
const LONG_WINDOW_MS = 60 * 60_000;
/**
 * The engine begins all orders within a third of it, 50 a second. One that it begins later ends without a
 * workflow.
 */
const SHORT_WINDOW_MS = 180_000;
const STEP_TIMEOUT_MS = 300_000;
/** The looks themselves must not be load. */
const LOOK_EVERY_MS = 250;

const acceptedReply = z.object({ orderNo: z.string() });
const progressRow = z.object({
  ended: z.coerce.number(),
  started: z.coerce.number(),
  last_started_at: z.date().nullable(),
});

export async function herds(checkout: BenchCheckout): Promise<void> {
  const startedMs = performance.now();
  const seconds = (): number => (performance.now() - startedMs) / 1_000;
  const report = (line: string): void => console.log(`${seconds().toFixed(1).padStart(6)} s  ${line}`);
  const shoppers = await createShoppers(checkout.apiUrl, USERS, CONCURRENCY);

  async function placeAll(windowMs: number): Promise<{ saleId: string; orderNos: string[] }> {
    const saleId = await checkout.openSale(ORDERS, windowMs);
    const orderNos = await runConcurrently(ORDERS, CONCURRENCY, async (i) => {
      const { status, body } = await shoppers.placeOrder(i, saleId);
      assert.equal(status, 202, body);
      return acceptedReply.parse(JSON.parse(body)).orderNo;
    });
    await waitFor(checkout, saleId, 'all workflows to run', ({ started }) => started === ORDERS);
    report(`${ORDERS} orders accepted, and their workflows run`);
    return { saleId, orderNos };
  }

  async function expectEnded(saleId: string, orderNos: string[], sinceS: number): Promise<void> {
    await waitFor(checkout, saleId, 'all orders to end', ({ ended }) => ended === ORDERS);
    const took = seconds() - sinceS;
    report(`all have ended after ${took.toFixed(1)} s (${(ORDERS / took).toFixed(0)}/s)`);
    await waitForClosed(checkout, saleId);
    const { tasks, timedOut, failed } = await countTasks(checkout, orderNos);
    report(`  ${tasks} workflow tasks, ${timedOut} of them timed out, ${failed} failed`);
  }

  const paying = await placeAll(LONG_WINDOW_MS);
  const notifier = createPaymentNotifier(checkout.apiUrl, CONCURRENCY);
  const paidFromS = seconds();
  await runConcurrently(ORDERS, CONCURRENCY, (i) => notifier.sendPaid(paying.orderNos[i] ?? ''));
  report(`${ORDERS} payments answered within ${(seconds() - paidFromS).toFixed(1)} s`);
  await expectEnded(paying.saleId, paying.orderNos, paidFromS);
  const stock = await checkout.stores.saleStock.read(paying.saleId);
  assert.deepEqual([stock?.skus[0]?.held, stock?.skus[0]?.sold], [0, ORDERS]);
  notifier.close();

  const leaving = await placeAll(SHORT_WINDOW_MS);
  const { last_started_at: lastStart } = await readProgress(checkout, leaving.saleId);
  checkout.freezeWorker();
  report('the worker is frozen until every window has ended');
  await delay(Math.max(0, Number(lastStart) + SHORT_WINDOW_MS - Date.now()));
  checkout.thawWorker();
  const thawedS = seconds();
  report('the worker goes on');
  await expectEnded(leaving.saleId, leaving.orderNos, thawedS);
  const { findings } = await runAudit(checkout, leaving.saleId, leaving.orderNos);
  assert.deepEqual(findings, []);
  report('the audit of the cancelled orders is clean');
  shoppers.close();
}

async function readProgress({ stores: { pool } }: BenchCheckout, saleId: string) {
  const [row] = await selectRows(
    pool,
    progressRow,
    `SELECT COALESCE(SUM(status <> 'awaiting_payment'), 0) AS ended, COUNT(workflow_started_at) AS started,
       MAX(workflow_started_at) AS last_started_at
     FROM orders WHERE sale_id = ?`,
    [saleId],
  );
  assert(row);
  return row;
}

async function waitFor(
  checkout: BenchCheckout,
  saleId: string,
  what: string,
  isReached: (progress: z.infer<typeof progressRow>) => boolean,
): Promise<void> {
  await waitUntil({
    what,
    timeoutMs: STEP_TIMEOUT_MS,
    check: async () => {
      await delay(LOOK_EVERY_MS);
      return isReached(await readProgress(checkout, saleId));
    },
  });
}

async function waitForClosed({ client }: BenchCheckout, saleId: string): Promise<void> {
  await waitUntil({
    what: 'no workflow to run',
    timeoutMs: STEP_TIMEOUT_MS,
    check: async () => {
      await delay(LOOK_EVERY_MS);
      const query = `SaleId = "${saleId}" AND ExecutionStatus = "Running"`;
      return (await client.workflow.count(query)).count === 0;
    },
  });
}

/** From the histories: a task that timed out or failed was done again. */
async function countTasks({ client }: BenchCheckout, orderNos: readonly string[]) {
  const counts = { tasks: 0, timedOut: 0, failed: 0 };
  await runConcurrently(orderNos.length, CONCURRENCY, async (i) => {
    const { events } = await client.workflow.getHandle(orderNos[i] ?? '').fetchHistory();
    for (const event of events ?? []) {
      if (event.workflowTaskStartedEventAttributes) counts.tasks += 1;
      if (event.workflowTaskTimedOutEventAttributes) counts.timedOut += 1;
      if (event.workflowTaskFailedEventAttributes) counts.failed += 1;
    }
  });
  return counts;
}
