/**
 * A peak that Temporal cannot follow: 300,000 orders with three minutes to pay, under the default bounds.
 * Few are paid, some in their last second, and some shoppers open the payment page and leave. All the others
 * end at their deadline without a workflow. It looks every second for units that are held too long.
 * `peak frozen` freezes Temporal until the unpaid have ended; `peak emptied` empties Redis at the height.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { runAudit } from '../src/audit/run-audit.ts';
import { selectRows } from '../src/mysql/connection.ts';
import { saleKeys, wholeSale } from '../src/redis/keys.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import type { BenchCheckout } from './checkout.ts';
import { startLoadGenerator, type LoadReport } from './load.ts';
import { readMemory } from './memory.ts';
import { createShoppers, percentile, signTokens } from './shoppers.ts';

const ORDERS = 300_000;
/** So many that nothing sells out. */
const UNITS = 2 * ORDERS;
const WINDOW_MS = 3 * 60_000;
const USERS = 500;
const CONNECTIONS = 128;
/** With the load generator and 15 payments a second beside it, as much as two cores keep up with. */
const RATE = 1_000;
const STRETCH_SECONDS = 5;
/** Of a hundred accepted orders; one payer of twenty pays in the last second. */
const PAID_OF_HUNDRED = 2;
const LEFT_OF_HUNDRED = 1;
const LAST_SECOND_EVERY = 20;
/** A shopper reads the page for so long at most. */
const READING_MS = 5_000;
const PAGES_AT_ONCE = 32;
const LOOK_EVERY_MS = 1_000;
const REPORT_EVERY_LOOKS = 15;
/** Held orders past their deadline that a look reads, the earliest first. */
const LATE_MAX = 20_000;
const STORE_TIMEOUT_MS = 2 * 60_000;
const END_TIMEOUT_MS = 20 * 60_000;

const VARIANTS = ['plain', 'frozen', 'emptied'] as const;
type Variant = (typeof VARIANTS)[number];

const storedRow = z.object({ order_no: z.string(), user_id: z.string(), deadline: z.date() });
type Stored = z.infer<typeof storedRow>;
const countRow = z.object({
  status: z.string(),
  payment: z.string(),
  begun: z.coerce.boolean(),
  orders: z.int(),
});
const sessionRow = z.object({ order_no: z.string() });

export async function peak(checkout: BenchCheckout): Promise<void> {
  const variant = VARIANTS.find((each) => each === (process.argv[3] ?? 'plain'));
  if (!variant) throw new Error(`Usage: npm run bench -- peak [${VARIANTS.slice(1).join('|')}]`);
  const { pool } = checkout.stores;
  const saleId = await checkout.openSale(UNITS, WINDOW_MS);
  const startedMs = performance.now();
  const report = (line: string): void =>
    console.log(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${line}`);
  const watch = watchHolds(checkout, saleId, report);
  const crowd = await createCrowd(checkout, report);

  const accepted = await rush(checkout, { saleId, variant, report, crowd });
  const lastDeadlineMs = Date.now() + WINDOW_MS;
  await crowd.end();
  report(`all shoppers are done: ${crowd.summary()}`);
  await delay(lastDeadlineMs - Date.now());
  report('the last deadline has passed');

  await waitUntil({
    what: 'what no workflow began to end',
    timeoutMs: END_TIMEOUT_MS,
    check: async () => (await count(pool, saleId)).every((row) => row.begun || isEnded(row)),
  });
  report('all that no workflow has begun have ended in MySQL');
  if (variant === 'frozen') {
    checkout.thawTemporal();
    report('Temporal is thawed');
  }
  await waitUntil({
    what: 'all orders to end',
    timeoutMs: END_TIMEOUT_MS,
    check: async () => (await count(pool, saleId)).every(isEnded) && (await watch.held()) === 0,
  });
  report('all orders have ended in MySQL and in Redis');
  await watch.end();
  for (const row of await count(pool, saleId))
    report(`  ${row.orders} ${row.status}, payment ${row.payment}, ${row.begun ? 'begun' : 'never begun'}`);
  report('audit');
  const { findings, lost } = await runAudit(checkout, saleId, accepted, 2 * 60_000);
  assert.deepEqual(findings, []);
  assert(variant === 'emptied' || lost.length === 0, `${lost.length} orders are lost`);
  report(`the audit is clean; ${lost.length} orders were lost with Redis before they were stored`);
}

interface Rush {
  saleId: string;
  variant: Variant;
  report: (line: string) => void;
  crowd: Awaited<ReturnType<typeof createCrowd>>;
}

/** @returns the orderNos of all that was accepted */
async function rush(checkout: BenchCheckout, { saleId, variant, report, crowd }: Rush): Promise<string[]> {
  const { hostname: host, port } = new URL(checkout.apiUrl);
  const tokens = await signTokens(USERS);
  const generator = startLoadGenerator();
  const accepted: string[] = [];
  const answers = new Map<string, number>();
  let isStruck = variant === 'plain';
  try {
    while (accepted.length < ORDERS) {
      const seconds = Math.min(STRETCH_SECONDS, Math.max(1, (ORDERS - accepted.length) / RATE));
      const load = {
        host,
        port: Number(port),
        saleId,
        tokens,
        connections: CONNECTIONS,
        rate: RATE,
        seconds,
      };
      const stretch: LoadReport = await generator.run(load);
      accepted.push(...stretch.accepted);
      for (const { name, count: times } of stretch.outcomes)
        answers.set(name, (answers.get(name) ?? 0) + times);
      if (stretch.unanswered > 0)
        answers.set('unanswered', (answers.get('unanswered') ?? 0) + stretch.unanswered);
      crowd.join(stretch.accepted);
      const outcome = stretch.outcomes.find(({ name }) => name === 'accepted');
      report(
        `${accepted.length} accepted, this stretch ${(stretch.accepted.length / stretch.seconds).toFixed(0)}/s, ` +
          `p50 ${outcome?.p50Ms.toFixed(0)} ms, p99 ${outcome?.p99Ms.toFixed(0)} ms`,
      );
      if (!isStruck && accepted.length >= ORDERS / 2) {
        isStruck = true;
        if (variant === 'frozen') checkout.freezeTemporal();
        else await checkout.stores.redis.flushall();
        report(variant === 'frozen' ? 'Temporal is frozen' : 'Redis is emptied');
      }
    }
  } finally {
    await generator.stop();
  }
  report(`answers: ${[...answers].map(([name, times]) => `${times} ${name}`).join(', ')}`);
  return accepted;
}

/** Those who pay, and those who open the page and leave. */
async function createCrowd(checkout: BenchCheckout, report: (line: string) => void) {
  const { pool } = checkout.stores;
  const shoppers = await createShoppers(checkout.apiUrl, USERS, PAGES_AT_ONCE);
  const underWay: Promise<void>[] = [];
  const outcomes = new Map<string, number>();
  const note = (outcome: string): void => void outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);

  async function join(orderNos: readonly string[]): Promise<void> {
    // At random: the load goes through its users in turn, so every hundredth order would be of the same few.
    const picked = orderNos.filter(() => Math.random() * 100 < PAID_OF_HUNDRED + LEFT_OF_HUNDRED);
    const stored = await waitForStored(picked);
    await Promise.all(
      stored.map((order, i) =>
        i % (PAID_OF_HUNDRED + LEFT_OF_HUNDRED) < PAID_OF_HUNDRED ? pay(order) : leave(order),
      ),
    );
  }

  /** Those that were lost with Redis are never stored. */
  async function waitForStored(orderNos: readonly string[]): Promise<Stored[]> {
    if (orderNos.length === 0) return [];
    const untilMs = Date.now() + STORE_TIMEOUT_MS;
    for (;;) {
      const sql = 'SELECT order_no, user_id, deadline FROM orders WHERE order_no IN (?)';
      const rows = await selectRows(pool, storedRow, sql, [orderNos]);
      if (rows.length === orderNos.length || Date.now() > untilMs) return rows;
      await delay(LOOK_EVERY_MS);
    }
  }

  async function pay(order: Stored): Promise<void> {
    const isLast = Math.random() < 1 / LAST_SECOND_EVERY;
    const latestMs = order.deadline.getTime();
    const payAtMs = isLast
      ? latestMs - Math.random() * 1_000
      : Date.now() + Math.random() * Math.max(0, latestMs - Date.now());
    const user = userOf(order);
    const kind = isLast ? 'in the last second' : 'at a random moment';
    await delay(Math.max(0, payAtMs - READING_MS * (0.2 + 0.8 * Math.random()) - Date.now()));
    const session = await shoppers.openSession(user, order.order_no);
    if (session.status !== 201) return note(`no page (${codeOf(session.body)})`);
    await delay(Math.max(0, payAtMs - Date.now()));
    const paid = await shoppers.pressPay(user, session);
    note(
      paid.status === 200 || paid.status === 202 ? `paid ${kind}` : `not paid ${kind} (${codeOf(paid.body)})`,
    );
  }

  async function leave(order: Stored): Promise<void> {
    await delay((Math.random() * WINDOW_MS) / 2);
    const session = await shoppers.openSession(userOf(order), order.order_no);
    note(session.status === 201 ? 'left the page' : `no page (${codeOf(session.body)})`);
  }

  return {
    /** Some of these go on to pay, or to open the page. */
    join(orderNos: readonly string[]): void {
      underWay.push(join(orderNos).catch((error: unknown) => report(`a shopper failed: ${String(error)}`)));
    },
    async end(): Promise<void> {
      await Promise.all(underWay);
      shoppers.close();
    },
    summary: () => [...outcomes].map(([outcome, times]) => `${times} ${outcome}`).join(', '),
  };
}

const userOf = ({ user_id: userId }: Stored): number => Number(userId.replace('bench-', ''));
const codeOf = (body: string): string => /"code":"(\w+)"/.exec(body)?.[1] ?? 'no code';

function count(pool: BenchCheckout['stores']['pool'], saleId: string) {
  return selectRows(
    pool,
    countRow,
    `SELECT status, payment, workflow_started_at IS NOT NULL AS begun, COUNT(*) AS orders
     FROM orders WHERE sale_id = ? GROUP BY status, payment, begun`,
    [saleId],
  );
}

type Count = z.infer<typeof countRow>;
const isEnded = ({ status }: Count): boolean => status !== 'awaiting_payment';

/** How long after its deadline each order still held its units in Redis, and the memory of all that. */
function watchHolds(checkout: BenchCheckout, saleId: string, report: (line: string) => void) {
  const { redis, pool } = checkout.stores;
  const { deadlines } = saleKeys(wholeSale(saleId));
  const lateMs = new Map<string, number>();
  const over = new AbortController();
  let [workerMb, apiMb, redisMb, mostHeld] = [0, 0, 0, 0];
  const held = (): Promise<number> => redis.zcard(deadlines);

  async function look(looks: number): Promise<void> {
    const nowMs = Date.now();
    const late = await redis.zrangebyscore(
      deadlines,
      0,
      nowMs - LOOK_EVERY_MS,
      'WITHSCORES',
      'LIMIT',
      0,
      LATE_MAX,
    );
    for (let i = 0; i < late.length; i += 2) lateMs.set(late[i] ?? '', nowMs - Number(late[i + 1]));
    workerMb = Math.max(workerMb, readMemory(checkout.pids.worker).peakMb);
    apiMb = Math.max(apiMb, readMemory(checkout.pids.api).peakMb);
    redisMb = Math.max(
      redisMb,
      Number(/used_memory_rss:(\d+)/.exec(await redis.info('memory'))?.[1]) / 2 ** 20,
    );
    const now = await held();
    mostHeld = Math.max(mostHeld, now);
    if (looks % REPORT_EVERY_LOOKS === 0)
      report(
        `  held ${now}, past their deadline ${late.length / 2}; worker ${workerMb} MB, Redis ${redisMb.toFixed(0)} MB`,
      );
  }

  async function watch(): Promise<void> {
    for (let looks = 0; !over.signal.aborted; looks += 1) {
      // The connection may break on a machine that is this busy; the next look sees what this one missed.
      await look(looks).catch((error: unknown) => report(`  a look failed: ${String(error)}`));
      await delay(LOOK_EVERY_MS);
    }
  }

  const watching = watch();
  return {
    held,
    async end(): Promise<void> {
      over.abort();
      await watching;
      report(
        `at most ${mostHeld} held; memory at most: worker ${workerMb} MB, API ${apiMb} MB, Redis ${redisMb.toFixed(0)} MB`,
      );
      const ways = new Map<string, number[]>();
      for (const { orderNo, way } of await readEnds(pool, [...lateMs.keys()])) {
        const ofWay = ways.get(way) ?? [];
        ofWay.push(lateMs.get(orderNo) ?? 0);
        ways.set(way, ofWay);
      }
      for (const [way, ms] of ways) {
        const [p50, p99, max] = [0.5, 0.99, 1].map((share) => (percentile(ms, share) / 1_000).toFixed(1));
        report(
          `  ${way}: ${ms.length} held past the deadline, for ${p50} s (p50), ${p99} s (p99), ${max} s at most`,
        );
      }
    },
  };
}

async function readEnds(pool: BenchCheckout['stores']['pool'], orderNos: readonly string[]) {
  const sessions = await selectRows(pool, sessionRow, 'SELECT DISTINCT order_no FROM payment_sessions');
  const withPage = new Set(sessions.map((row) => row.order_no));
  const engines = new Set<string>();
  for (let i = 0; i < orderNos.length; i += 1_000) {
    const rows = await selectRows(
      pool,
      sessionRow,
      `SELECT order_no FROM orders FORCE INDEX (PRIMARY) WHERE order_no IN (?)
         AND workflow_started_at IS NOT NULL`,
      [orderNos.slice(i, i + 1_000)],
    );
    for (const row of rows) engines.add(row.order_no);
  }
  return orderNos.map((orderNo) => ({
    orderNo,
    way: engines.has(orderNo)
      ? 'begun by the engine, or paid'
      : withPage.has(orderNo)
        ? 'with a page, never begun'
        : 'never begun',
  }));
}
