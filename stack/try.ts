/** `npm run try`: orders, pays, cancels and forgets to pay at a running `npm start`, and prints each step. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { sessionReply } from '../src/api/calls/orders.ts';
import { signToken } from '../src/api/http/auth.ts';
import { orderReply } from '../src/api/http/replies.ts';
import { createMysqlPool } from '../src/mysql/connection.ts';
import type { OrderStatus } from '../src/orders/order.ts';
import { connectRedis } from '../src/redis/connection.ts';
import type { Sale, StockCount } from '../src/sales/sale.ts';
import { mysqlStores, redisStores } from '../src/stores/bound.ts';
import type { Stores } from '../src/stores/open.ts';
import { readAddresses, type Addresses } from './addresses.ts';
import { demoSecrets } from './app.ts';
import { waitUntil } from './processes/wait.ts';

/** Bounds a hang; each step takes about a second. */
const STEP_TIMEOUT_MS = 30_000;
const SHORT_WINDOW_MS = 3_000;
const LONG_WINDOW_MS = 30 * 60_000;

/** With any code. */
const problemReply = z.object({ code: z.string(), detail: z.string() });

const startedMs = Date.now();
const log = (line: string): void =>
  console.log(`${((Date.now() - startedMs) / 1000).toFixed(1).padStart(5)} s  ${line}`);

const addresses = readAddresses();
if (addresses === undefined) {
  console.error('Holdfast is not running here: run `npm start` in another terminal first.');
  process.exit(1);
}
await tryOut(addresses);

async function tryOut(running: Addresses): Promise<void> {
  const pool = createMysqlPool(running.mysqlUrl);
  const keyPrefix = process.env['REDIS_KEY_PREFIX'] || undefined;
  const redis = await connectRedis(running.redisUrl.split(','), pino({ level: 'warn' }), { keyPrefix });
  const { sales } = mysqlStores(pool);
  const { saleStock } = redisStores(redis);
  try {
    const sale = await openSale(sales, saleStock, LONG_WINDOW_MS);
    const hasty = await openSale(sales, saleStock, SHORT_WINDOW_MS);
    log(`sale ${sale} is open, and ${hasty}, where a shopper has ${SHORT_WINDOW_MS / 1000} s to pay`);
    const shopper = await createShopper(running.apiUrl);
    await buyAndPay(shopper, sale);
    await buyAndCancel(shopper, sale);
    await buyAndForget(shopper, hasty);
    await comeTooLate(shopper, sale);
    for (const saleId of [sale, hasty]) await showStock(sales, saleStock, saleId);
    log('all as it should be');
  } finally {
    redis.disconnect();
    await pool.end();
  }
}

async function openSale(
  sales: Stores['sales'],
  saleStock: Stores['saleStock'],
  paymentWindowMs: number,
): Promise<string> {
  const saleId = `try-${ulid().toLowerCase().slice(0, 22)}`;
  const sale: Sale = {
    saleId,
    name: 'A try',
    currency: 'EUR',
    opensAtMs: Date.now() - 1000,
    closesAtMs: Date.now() + LONG_WINDOW_MS,
    paused: false,
    paymentWindowMs,
    refundRestoresLimit: true,
    limitPerUser: null,
    maxUnpaidHolds: null,
    addressPurchasesPerMinute: null,
    ticketRequired: false,
    skus: [
      { sku: 'lantern', name: 'The only lantern', unitPrice: 9_900, total: 1, limitPerUser: null },
      { sku: 'rope', name: 'Rope', unitPrice: 700, total: 20, limitPerUser: 5 },
    ],
  };
  await sales.create(sale);
  await sales.warmUp(saleId, saleStock);
  return saleId;
}

type Shopper = Awaited<ReturnType<typeof createShopper>>;

async function createShopper(apiUrl: string) {
  const token = await signToken(demoSecrets.jwt, `try-${ulid().toLowerCase()}`, '1h');

  async function call(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ status: number; body: unknown }> {
    const response = await fetch(new URL(path, apiUrl), {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        'idempotency-key': randomUUID(),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(STEP_TIMEOUT_MS),
    });
    return { status: response.status, body: await response.json() };
  }

  /** The last printed status of each order. */
  const printed = new Map<string, string>();

  return {
    call,

    async order(saleId: string, sku: string, quantity: number): Promise<string> {
      const placedMs = performance.now();
      const reply = await call('POST', '/v1/orders', { saleId, items: [{ sku, quantity }] });
      assert.equal(reply.status, 202, JSON.stringify(reply.body));
      const { orderNo, status } = orderReply.parse(reply.body);
      printed.set(orderNo, status);
      log(
        `ordered ${quantity} × ${sku}: ${orderNo} is ${status}, after ${Math.round(performance.now() - placedMs)} ms`,
      );
      return orderNo;
    },

    /** Polls until the order has the status; prints each one on the way. */
    async pollUntil(orderNo: string, wanted: OrderStatus): Promise<void> {
      await waitUntil({
        what: `${orderNo} to be ${wanted}`,
        timeoutMs: STEP_TIMEOUT_MS,
        check: async () => {
          const { status, reason } = orderReply.parse((await call('GET', `/v1/orders/${orderNo}`)).body);
          const news = reason === null ? status : `${status} (${reason})`;
          if (news !== printed.get(orderNo)) log(`  … ${news}`);
          printed.set(orderNo, news);
          return status === wanted;
        },
      });
    },
  };
}

async function buyAndPay(shopper: Shopper, saleId: string): Promise<void> {
  const orderNo = await shopper.order(saleId, 'lantern', 1);
  await shopper.pollUntil(orderNo, 'awaiting_payment');
  const { url } = sessionReply.parse((await shopper.call('POST', `/v1/orders/${orderNo}/payment`)).body);
  log(`  the shopper pays at ${url}`);
  await pressPay(url);
  await shopper.pollUntil(orderNo, 'paid');
}

/** What the button on the provider's page does. */
async function pressPay(pageUrl: string): Promise<void> {
  const sessionId = new URL(pageUrl).pathname.split('/').at(-1) ?? '';
  const payUrl = new URL(`/v1/payment_sessions/${sessionId}/pay`, pageUrl);
  const response = await fetch(payUrl, { method: 'POST', signal: AbortSignal.timeout(STEP_TIMEOUT_MS) });
  assert(response.ok, `the provider took no payment: ${response.status} ${await response.text()}`);
}

async function buyAndCancel(shopper: Shopper, saleId: string): Promise<void> {
  const orderNo = await shopper.order(saleId, 'rope', 2);
  await shopper.pollUntil(orderNo, 'awaiting_payment');
  log('  the shopper cancels');
  await shopper.call('POST', `/v1/orders/${orderNo}/cancel`);
  await shopper.pollUntil(orderNo, 'cancelled');
}

async function buyAndForget(shopper: Shopper, saleId: string): Promise<void> {
  const orderNo = await shopper.order(saleId, 'rope', 1);
  log('  the shopper never pays');
  await shopper.pollUntil(orderNo, 'cancelled');
}

async function comeTooLate(shopper: Shopper, saleId: string): Promise<void> {
  const reply = await shopper.call('POST', '/v1/orders', {
    saleId,
    items: [{ sku: 'lantern', quantity: 1 }],
  });
  assert.equal(reply.status, 409);
  const { code, detail } = problemReply.parse(reply.body);
  assert.equal(code, 'sold_out');
  log(`a second lantern: ${code}. ${detail}`);
}

/** Prints the stock of both stores once they agree: the last release may be under way. */
async function showStock(
  sales: Stores['sales'],
  saleStock: Stores['saleStock'],
  saleId: string,
): Promise<void> {
  const read = async () => ({
    mysql: await sales.readStock(saleId),
    redis: (await saleStock.read(saleId))?.skus ?? [],
  });
  await waitUntil({
    what: `the stores to agree on ${saleId}`,
    timeoutMs: STEP_TIMEOUT_MS,
    check: async () => {
      const { mysql, redis } = await read();
      return redis.length > 0 && mysql.every((count, i) => isSame(count, redis[i]));
    },
  });
  log(`stock of ${saleId}, the same in Redis and MySQL: total = available + held + sold`);
  for (const { sku, total, available, held, sold } of (await read()).mysql) {
    assert.equal(total, available + held + sold);
    console.log(`         ${sku.padEnd(8)} ${total} = ${available} + ${held} + ${sold}`);
  }
}

function isSame(a: StockCount, b: StockCount | undefined): boolean {
  return (
    a.sku === b?.sku &&
    a.total === b.total &&
    a.available === b.available &&
    a.held === b.held &&
    a.sold === b.sold
  );
}
