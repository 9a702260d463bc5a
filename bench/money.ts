/**
 * 5,000 orders while the provider misbehaves: it repeats and reorders its callbacks, forgets some, takes money after the deadline and
 * refuses refunds at first. At the end each cent that it took is on a paid order or back with whoever paid.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { mischiefReplySchema } from '../sandbox/book/mischief.ts';
import { runAudit } from '../src/audit/run-audit.ts';
import { isFinal, ORDER_STATUSES } from '../src/domain/order.ts';
import { PAYMENT_STATUSES } from '../src/domain/payment.ts';
import { readCollected } from '../src/payments/collected.ts';
import { selectRows } from '../src/stores/mysql/connection.ts';
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
/** Of every twenty orders one is cancelled by its shopper, and one is walked away from. */
const EVERY = 20;
const MISCHIEF = {
  duplicate: 0.2,
  reorder: 0.2,
  reorder_ms: 5_000,
  late: 0.1,
  /** Beyond the end of an order that was paid at once and started last: windows run from the workflow's start. */
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
  await callMischief(checkout, 'PUT', MISCHIEF);
  const saleId = await checkout.openSale(ORDERS, WINDOW_MS);
  const shoppers = await createShoppers(checkout.apiUrl, USERS, CONCURRENCY);
  const startedMs = performance.now();
  const tell = (line: string): void =>
    console.log(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${line}`);

  /** Whoever is told that too many orders wait comes back, as a page does. */
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
  tell(
    `${ORDERS} orders accepted; ${pressed} shoppers pressed "pay", ${ORDERS / EVERY} cancelled, ${ORDERS / EVERY} walked away`,
  );

  await waitForRest(checkout, saleId, pressed, tell);
  await compareBooks(checkout, saleId, tell);
  const { findings } = await runAudit(checkout, saleId, accepted);
  assert.deepEqual(findings, []);
  tell('the audit of Redis, MySQL, Temporal, the provider and the list of accepted orders is clean');
  shoppers.close();
}

/** Every order has ended, all that shoppers paid is taken and known, and no refund is due any more. */
async function waitForRest(
  checkout: BenchCheckout,
  saleId: string,
  pressed: number,
  tell: (line: string) => void,
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
      if (line !== last) tell(line);
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
  saleId: string,
  tell: (line: string) => void,
): Promise<void> {
  let [count, taken, returned] = [0, 0, 0];
  for await (const payment of readCollected(checkout.provider)) {
    count += 1;
    taken += payment.amount;
    returned += payment.returned;
  }
  const payments = await sumPayments(checkout, saleId);
  const sumOf = (wanted: string): number => payments.find(({ status }) => status === wanted)?.amount ?? 0;
  const { struck } = await callMischief(checkout, 'GET');
  tell(
    `the provider struck: ${Object.entries(struck)
      .map(([name, times]) => `${name} ${times}`)
      .join(', ')}`,
  );
  tell(
    `the provider's book: ${count} payments, ${taken} taken, ${returned} returned, ${taken - returned} kept`,
  );
  tell(
    `our book: ${sumOf('applied')} on paid orders, ${sumOf('refunded')} refunded, ${sumOf('parked')} parked`,
  );
  assert.equal(sumOf('applied') + sumOf('parked'), taken - returned);
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

async function callMischief({ providerUrl }: BenchCheckout, method: 'GET' | 'PUT', settings?: object) {
  const response = await fetch(new URL('/v1/test/mischief', providerUrl), {
    method,
    headers: { authorization: `Bearer ${demoSecrets.providerApiKey}`, 'content-type': 'application/json' },
    ...(settings === undefined ? {} : { body: JSON.stringify(settings) }),
  });
  return mischiefReplySchema.parse(await response.json());
}
