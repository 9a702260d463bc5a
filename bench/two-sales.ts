/**
 * One buyer a second in sale B, who buys, waits until the order is payable, pays and watches the event stream
 * until it is paid: first alone, then beside a rush on sale A of which many orders wait for the engine, then
 * beside the same rush on A sold out. `two-sales SECONDS ORDERS` sets how long each takes, and how many
 * orders of A wait.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { signToken } from '../src/api/http/auth.ts';
import { selectRows } from '../src/mysql/connection.ts';
import { saleKeys } from '../src/redis/keys.ts';
import { DEFAULT_PAYMENT_WINDOW_MS } from '../src/sales/sale.ts';
import { demoSecrets } from '../stack/app.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import type { BenchCheckout } from './checkout.ts';
import { seedOrders } from './compare/growth/seed-orders.ts';
import { startLoadGenerator, type LoadReport } from './load.ts';
import { createPaymentNotifier } from './notices.ts';
import { createOrderStreams } from './order-streams.ts';
import { seedOutbox } from './seed-outbox.ts';
import { createShoppers, percentile, signTokens } from './shoppers.ts';

const SECONDS = 60;
const ORDERS_WAITING = 300_000;
/** Purchases a second of A, however they are answered. */
const RATE = 1_000;
const CONNECTIONS = 500;
const USERS = 1_000;
/** The rush begins before the first buyer of B, and goes on beyond the last. */
const AHEAD_SECONDS = 3;
const BEYOND_SECONDS = 5;
const WARM_UP_BUYERS = 5;
/** So many that nothing sells out. */
const UNITS_OF_B = 100_000;
/** A shopper reads the payment page. An order that is paid before its workflow begins needs none. */
const PAY_AFTER_MS = 3_000;
const AGAIN_AFTER_MS = 200;
/** The worker looks for new sales once a second. */
const FOLLOW_MS = 2_000;
/** These bound hangs. */
const STREAM_TIMEOUT_MS = 120_000;
const STORE_TIMEOUT_MS = 10 * 60_000;

export async function twoSales(checkout: BenchCheckout): Promise<void> {
  const [seconds = SECONDS, waiting = ORDERS_WAITING] = process.argv.slice(3).map(Number);
  const units = waiting + RATE * (seconds + AHEAD_SECONDS + BEYOND_SECONDS);
  const rushed = await checkout.openSale(units, DEFAULT_PAYMENT_WINDOW_MS);
  const openCalm = () => checkout.openSale(UNITS_OF_B, DEFAULT_PAYMENT_WINDOW_MS);
  const [warmUp, alone, beside, after] = [
    await openCalm(),
    await openCalm(),
    await openCalm(),
    await openCalm(),
  ];
  const buyers = await createBuyers(checkout);
  const rush = await createRush(checkout, rushed, 'early');
  // They have bought nothing, as nearly all who come when all is sold.
  const lateRush = await createRush(checkout, rushed, 'late');
  try {
    await delay(FOLLOW_MS);
    await buyers.buy(warmUp, WARM_UP_BUYERS);

    report('B alone', await buyers.buy(alone, seconds));

    // A worker that compares the stores meanwhile would find orders in one that are not in the other yet.
    await checkout.stopWorker();
    await seedOrders(checkout.stores, rushed, waiting, 'due');
    await checkout.startWorker();
    await delay(FOLLOW_MS);
    await buyers.buy(warmUp, WARM_UP_BUYERS);
    const [ofA, ofB] = await Promise.all([rush.run(seconds), rush.during(() => buyers.buy(beside, seconds))]);
    report(
      `B beside ${RATE} purchases a second of A, ${await countWaiting(checkout, rushed)} orders wait`,
      ofB,
    );
    reportRush(ofA);

    await sellOut(checkout, rushed);
    const [soldOut, last] = await Promise.all([
      lateRush.run(seconds),
      lateRush.during(() => buyers.buy(after, seconds)),
    ]);
    report(`B beside A sold out, ${await countWaiting(checkout, rushed)} orders wait`, last);
    reportRush(soldOut);
    assert(!soldOut.outcomes.some(({ name }) => name === 'accepted'), 'no unit is sold twice');
  } finally {
    buyers.close();
    await rush.stop();
    await lateRush.stop();
  }
}

async function createRush({ apiUrl }: BenchCheckout, saleId: string, who: string) {
  const { hostname: host, port } = new URL(apiUrl);
  const names = Array.from({ length: USERS }, (_, i) => `${who}-${i}`);
  const tokens = await Promise.all(names.map((name) => signToken(demoSecrets.jwt, name, '1h')));
  const generator = startLoadGenerator();
  return {
    run: (seconds: number): Promise<LoadReport> =>
      generator.run({
        host,
        port: Number(port),
        saleId,
        tokens,
        seconds: AHEAD_SECONDS + seconds + BEYOND_SECONDS,
        connections: CONNECTIONS,
        connectionsMax: CONNECTIONS,
        rate: RATE,
      }),
    async during<T>(work: () => Promise<T>): Promise<T> {
      await delay(AHEAD_SECONDS * 1_000);
      return work();
    },
    stop: () => generator.stop(),
  };
}

interface Bought {
  /** All answers to purchases, event streams and notices, by call, status and code. */
  answers: Map<string, number>;
  purchaseMs: number[];
  /** From the sending of the purchase until the event stream says so. */
  payableMs: number[];
  /** From the sending of the notice until the event stream says so. */
  paidMs: number[];
  /** From the reservation until the workflow has begun. */
  startMs: number[];
  notBegun: number;
}

/** One buyer a second. */
async function createBuyers({ apiUrl, stores: { pool } }: BenchCheckout) {
  const shoppers = await createShoppers(apiUrl, USERS, USERS);
  const tokens = await signTokens(USERS);
  const streams = createOrderStreams(apiUrl, STREAM_TIMEOUT_MS);
  const notifier = createPaymentNotifier(apiUrl, USERS);

  async function buyOne(saleId: string, user: number, { answers, ...times }: Bought): Promise<void> {
    const count = (answer: string): void => void answers.set(answer, (answers.get(answer) ?? 0) + 1);
    const sentMs = performance.now();
    const { status, body, latencyMs } = await shoppers.placeOrder(user, saleId);
    const code = /"code":"(\w+)"/.exec(body)?.[1];
    count(`purchase ${status}${code === undefined ? '' : ` ${code}`}`);
    times.purchaseMs.push(latencyMs);
    const orderNo = /"orderNo":"([\w-]+)"/.exec(body)?.[1];
    if (orderNo === undefined) return;

    const stream = await untilDone(() => streams.open(orderNo, tokens[user] ?? ''), count);
    times.payableMs.push((await stream.until('awaiting_payment')) - sentMs);
    await delay(PAY_AFTER_MS);
    const noticedMs = performance.now();
    await untilDone(() => notifier.sendPaid(orderNo), count);
    times.paidMs.push((await stream.until('paid')) - noticedMs);
    stream.close();
  }

  return {
    async buy(saleId: string, seconds: number): Promise<Bought> {
      const bought: Bought = {
        answers: new Map(),
        purchaseMs: [],
        payableMs: [],
        paidMs: [],
        startMs: [],
        notBegun: 0,
      };
      const sinceMs = performance.now();
      await Promise.all(
        Array.from({ length: seconds }, async (_, i) => {
          await delay(Math.max(0, sinceMs + i * 1_000 - performance.now()));
          await buyOne(saleId, i % USERS, bought);
        }),
      );
      const rows = await selectRows(
        pool,
        z.object({ ms: z.coerce.number().nullable() }),
        `SELECT TIMESTAMPDIFF(MICROSECOND, reserved_at, workflow_started_at) / 1000 AS ms FROM orders WHERE sale_id = ?`,
        [saleId],
      );
      bought.startMs = rows.flatMap(({ ms }) => (ms === null ? [] : [ms]));
      bought.notBegun = rows.length - bought.startMs.length;
      return bought;
    },
    close(): void {
      shoppers.close();
      streams.close();
      notifier.close();
    },
  };
}

/** Again, as long as it is refused; each refusal counts. */
async function untilDone<T>(call: () => Promise<T>, count: (answer: string) => void): Promise<T> {
  const untilMs = performance.now() + STREAM_TIMEOUT_MS;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof Error) || performance.now() > untilMs) throw error;
      count(error.message.replace(/^[\w-]+: /, ''));
      await delay(AGAIN_AFTER_MS);
    }
  }
}

async function countWaiting({ stores: { pool } }: BenchCheckout, saleId: string): Promise<number> {
  const [row] = await selectRows(
    pool,
    z.object({ waiting: z.int() }),
    'SELECT COUNT(*) AS waiting FROM orders WHERE sale_id = ? AND workflow_started_at IS NULL AND engine_due_at IS NOT NULL',
    [saleId],
  );
  return row?.waiting ?? 0;
}

/** What is left is sold without the API, and stored. */
async function sellOut({ stores: { redis } }: BenchCheckout, saleId: string): Promise<void> {
  const { stock, outbox } = saleKeys({ saleId, shard: 0 });
  await seedOutbox(redis, { saleId, count: Number(await redis.hget(stock, 'unit:available')), users: USERS });
  await waitUntil({
    what: 'the orders of A to be stored',
    timeoutMs: STORE_TIMEOUT_MS,
    check: async () => (await redis.xlen(outbox)) === 0,
  });
}

function report(what: string, { answers, notBegun, ...times }: Bought): void {
  const line = (name: string, values: readonly number[], more = ''): string => {
    const [p50, p99] = [0.5, 0.99].map((share) => percentile(values, share).toFixed(0).padStart(7));
    return `  ${name.padEnd(10)} p50 ${p50} ms   p99 ${p99} ms   of ${values.length}${more}`;
  };
  console.log(
    [
      what,
      line('purchase', times.purchaseMs),
      line('payable', times.payableMs),
      line('paid', times.paidMs),
      line('start', times.startMs, `, ${notBegun} not begun`),
      `  answers    ${[...answers].map(([name, count]) => `${count} ${name}`).join(', ')}`,
    ].join('\n'),
  );
}

function reportRush({ outcomes, seconds, unanswered }: LoadReport): void {
  console.log(
    [
      `  A, for ${seconds.toFixed(0)} s`,
      ...outcomes.map(
        ({ name, count, sentP99Ms }) =>
          `    ${name.padEnd(20)} ${(count / seconds).toFixed(1).padStart(7)} a second   p99 ${sentP99Ms.toFixed(0)} ms`,
      ),
      ...(unanswered > 0 ? [`    ${unanswered} unanswered`] : []),
    ].join('\n'),
  );
}
