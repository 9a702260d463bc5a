/**
 * 5,000 orders while the provider misbehaves: it repeats and reorders callbacks,
 * drops some, takes some money after the deadline and refuses some refunds at first.
 * At the end each cent that it collected is on a paid order or back with its payer.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { openConsole, type SandboxConsole } from '../sandbox/console.ts';
import { runAudit } from '../src/audit/run-audit.ts';
import { PAYMENT_STATUSES } from '../src/money/payment.ts';
import { selectRows } from '../src/mysql/connection.ts';
import { isFinal, ORDER_STATUSES } from '../src/orders/order.ts';
import { readCollected } from '../src/providers/collected.ts';
import { demoSecrets } from '../stack/app.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import type { BenchCheckout } from './checkout.ts';
import { createShoppers, runConcurrently } from './shoppers.ts';

const ORDERS = 5_000;
const USERS = 500;
/** Shoppers at once, each from buying to paying. */
const CONCURRENCY = 48;
/** Long enough to be stored and to pay on a small machine. */
const WINDOW_MS = 240_000;
/** Of every twenty orders one is cancelled by its shopper, and one is neither paid nor cancelled. */
const EVERY = 20;
const MISCHIEF = {
  duplicate: 0.2,
  reorder: 0.2,
  reorder_ms: 5_000,
  late: 0.1,
  /**
   * Beyond the end of an order that was paid at once and started last: windows run from the workflow's start.
   */
  late_ms: WINDOW_MS + 240_000,
  drop: 0.1,
  refund_refused: 0.1,
  seed: 20_261_121,
};
const END_TIMEOUT_MS = 15 * 60_000;
const LOOK_EVERY_MS = 5_000;
const REPEAT_AFTER_MS = 1_000;
const TRIES_MAX = 300;

const acceptedReply = z.object({ orderNo: z.string() });
const orderCount = z.object({ status: z.enum(ORDER_STATUSES), orders: z.int() });
const moneySum = z.object({ status: z.enum(PAYMENT_STATUSES), payments: z.int(), amount: z.coerce.number() });

export async function money(checkout: BenchCheckout): Promise<void> {
  const providerConsole = openConsole({
    url: checkout.providerUrl,
    apiKey: demoSecrets.providerApiKey,
  });
  await providerConsole.setMischief(MISCHIEF);
  const saleId = await checkout.openSale(ORDERS, WINDOW_MS);
  const shoppers = await createShoppers(checkout.apiUrl, USERS, CONCURRENCY);
  const startedMs = performance.now();
  const report = (line: string): void =>
    console.log(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${line}`);

  /** A shopper who is refused because too many orders wait tries again, as a page does. */
  async function place(i: number): Promise<string> {
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const { status, body } = await shoppers.placeOrder(i % USERS, saleId);
      if (status === 202) return acceptedReply.parse(JSON.parse(body)).orderNo;
      assert.equal(status, 503, body);
      await delay(REPEAT_AFTER_MS);
    }
    throw new Error(`order ${i} was refused ${TRIES_MAX} times`);
  }
  let pressed = 0;
  const accepted = await runConcurrently(ORDERS, CONCURRENCY, async (i) => {
    const orderNo = await place(i);
    if (i % EVERY === 0) await shoppers.cancel(i % USERS, orderNo);
    else if (i % EVERY !== 1) {
      await shoppers.pay(i % USERS, orderNo);
      pressed += 1;
    }
    return orderNo;
  });
  report(
    `${ORDERS} orders accepted; ${pressed} shoppers pressed "pay", ${ORDERS / EVERY} cancelled, ${ORDERS / EVERY} walked away`,
  );

  await waitForRest(checkout, saleId, pressed, report);
  await compareBooks(checkout, providerConsole, saleId, report);
  const { findings } = await runAudit(checkout, saleId, accepted);
  assert.deepEqual(findings, []);
  report('the audit of Redis, MySQL, Temporal, the provider and the list of accepted orders is clean');
  shoppers.close();
}

/**
 * Waits until every order has ended, all that shoppers paid
 * is collected and known, and no refund is due any more.
 */
async function waitForRest(
  checkout: BenchCheckout,
  saleId: string,
  pressed: number,
  report: (line: string) => void,
): Promise<void> {
  let last = '';
  await waitUntil({
    what: 'all money to come to rest',
    timeoutMs: END_TIMEOUT_MS,
    check: async () => {
      await delay(LOOK_EVERY_MS);
      const orders = await countOrders(checkout, saleId);
      const payments = await sumPayments(checkout, saleId);
      const line = [
        ...orders.map((row) => `${row.orders} ${row.status}`),
        ...payments.map((row) => `${row.payments} payments ${row.status}`),
      ].join(', ');
      if (line !== last) report(line);
      last = line;
      const known = payments.reduce((sum, row) => sum + row.payments, 0);
      const isSettled = payments.every(({ status }) => ['applied', 'refunded', 'parked'].includes(status));
      return orders.every(({ status }) => isFinal(status)) && isSettled && known === pressed;
    },
  });
}

/** The provider's book against ours, in minor units. */
async function compareBooks(
  checkout: BenchCheckout,
  providerConsole: SandboxConsole,
  saleId: string,
  report: (line: string) => void,
): Promise<void> {
  let [count, collected, returned] = [0, 0, 0];
  for await (const payment of readCollected(checkout.provider)) {
    count += 1;
    collected += payment.amount;
    returned += payment.returned;
  }
  const payments = await sumPayments(checkout, saleId);
  const sumOf = (wanted: string): number => payments.find(({ status }) => status === wanted)?.amount ?? 0;
  const { struck } = await providerConsole.readMischief();
  report(
    `the provider struck: ${Object.entries(struck)
      .map(([name, times]) => `${name} ${times}`)
      .join(', ')}`,
  );
  report(
    `the provider's book: ${count} payments, ${collected} collected, ${returned} returned, ${collected - returned} kept`,
  );
  report(
    `our book: ${sumOf('applied')} on paid orders, ${sumOf('refunded')} refunded, ${sumOf('parked')} parked`,
  );
  assert.equal(sumOf('applied') + sumOf('parked'), collected - returned);
  assert.equal(sumOf('refunded'), returned);
}

function countOrders({ stores: { pool } }: BenchCheckout, saleId: string) {
  const sql = 'SELECT status, COUNT(*) AS orders FROM orders WHERE sale_id = ? GROUP BY status';
  return selectRows(pool, orderCount, sql, [saleId]);
}

function sumPayments({ stores: { pool } }: BenchCheckout, saleId: string) {
  const sql = `SELECT status, COUNT(*) AS payments, SUM(amount) AS amount FROM payments
    WHERE order_no LIKE ? GROUP BY status`;
  return selectRows(pool, moneySum, sql, [`${saleId}-%`]);
}
