/** The part `paid` of the comparison: how long a payment takes while other orders wait for the engine. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { signToken } from '../../../src/api/http/auth.ts';
import { selectRows } from '../../../src/mysql/connection.ts';
import { demoSecrets, startApi, startWorker } from '../../../stack/app.ts';
import { readBusySeconds, readCpuSeconds } from '../../http/cpu.ts';
import { createPaymentNotifier } from '../../notices.ts';
import { createOrderStreams } from '../../order-streams.ts';
import { percentile } from '../../shoppers.ts';
import { median } from '../judgement.ts';
import type { Figures, OpenPart, Part } from '../part.ts';
import { openCheckoutStack, type CheckoutStack } from './payable/checkout-stack.ts';
import { storeBacklog } from './payable/holdfast.ts';

/** Orders that wait for the engine and are not paid. */
const WAITING = 3_000;
/** About as many as wait at most by default settings. */
const MANY_WAITING = 26_000;
const SECONDS = 30;
/** Payments a second, each with the longest p99 in ms that is good enough. */
const GOALS = [
  [25, 150],
  [50, 150],
  [100, 250],
  [200, 500],
] as const;
/** A shopper looks at the order for so long before it is paid. */
const WATCHED_BEFORE_MS = 1_000;
/** When the worker is killed, where it is. */
const KILLED_AFTER_MS = 15_000;
const CONNECTIONS = 64;
const RESEND_AFTER_MS = 200;
const END_TIMEOUT_MS = 120_000;

interface Load {
  /** Payments a second. */
  rate: number;
  waiting: number;
  engine: 'at work' | 'frozen' | 'killed';
}

const nameOf = ({ rate, waiting, engine }: Load): string =>
  [
    `at ${rate}/s`,
    ...(engine === 'at work' ? [] : [engine === 'frozen' ? 'Temporal frozen' : 'the worker killed']),
    ...(waiting === WAITING ? [] : [`${waiting.toLocaleString('en')} waiting`]),
  ].join(', ');

const LOADS: readonly Load[] = [
  ...GOALS.map(([rate]): Load => ({ rate, waiting: WAITING, engine: 'at work' })),
  ...GOALS.map(([rate]): Load => ({ rate, waiting: WAITING, engine: 'frozen' })),
  { rate: 25, waiting: MANY_WAITING, engine: 'killed' },
];

export const paidPart: Part = {
  name: 'paid',
  title: 'Paid: payments in a rush',
  about:
    `${WAITING.toLocaleString('en')} orders of one SKU wait for the engine. A worker starts, and from its first second on ` +
    `others of the sale are paid at a steady pace for ${SECONDS} s: the time from the sending of the webhook until the ` +
    `event stream of the shopper says paid.`,
  columns: [
    { key: 'p50', label: 'paid, p50', unit: 'ms', digits: 0 },
    { key: 'p99', label: 'p99', unit: 'ms', digits: 0 },
    { key: 'maxMs', label: 'longest', unit: 'ms', digits: 0 },
    { key: 'refused', label: 'webhooks not taken at once', unit: '', digits: 0 },
    { key: 'without', label: 'paid without a workflow', unit: '%', digits: 0 },
    { key: 'begun', label: 'workflows begun', unit: '/s', digits: 1 },
  ],
  charted: 'p99',
  targets: [
    ...LOADS.flatMap((load) => {
      const atMost = GOALS.find(([rate]) => rate === load.rate)?.[1] ?? 0;
      const of = nameOf(load);
      return load.waiting === WAITING
        ? [{ text: `paid ${of} within ${atMost} ms (p99)`, figure: 'p99', of, atMost }]
        : [];
    }),
    ...LOADS.map((load) => {
      const of = nameOf(load);
      return { text: `every webhook is taken at once ${of}`, figure: 'refused', of, atMost: 0 };
    }),
  ],
  async open(progress): Promise<OpenPart> {
    const stack = await openCheckoutStack(progress);
    const shares = new Map<string, string>();
    try {
      await startApi(stack.processes, { name: 'api', env: stack.env });
      return {
        contestants: LOADS.map((load, i) => ({
          name: nameOf(load),
          role: i === 0 ? 'ours' : 'variant',
          measure: () => measure(stack, load, (line) => shares.set(nameOf(load), line)),
        })),
        notes: () => [...NOTES, ...[...shares].map(([name, line]) => `${name}: ${line}.`)],
        close: () => stack.close(),
      };
    } catch (error) {
      await stack.close();
      throw error;
    }
  },
};

const NOTES = [
  'A webhook that is not taken is sent again after 200 ms, and its time counts from the first sending. Where the worker is killed, by SIGKILL after 15 s, another starts at once.',
];

async function measure(
  stack: CheckoutStack,
  { rate, waiting, engine }: Load,
  note: (line: string) => void,
): Promise<Figures> {
  const { processes, env } = stack;
  const saleId = await storeBacklog(stack, waiting + rate * SECONDS);
  const orders = await pickOrders(stack, saleId, rate * SECONDS);
  const notifier = createPaymentNotifier(stack.apiUrl, CONNECTIONS);
  const streams = createOrderStreams(stack.apiUrl, END_TIMEOUT_MS);
  const waitsMs: number[] = [];
  let refused = 0;
  await startWorker(processes, { name: 'worker', env });
  if (engine === 'frozen') processes.freeze('temporal');
  const cpu = watchCpu(stack);
  const startedMs = performance.now() + WATCHED_BEFORE_MS;

  async function pay({ orderNo, token }: PickedOrder, atMs: number): Promise<void> {
    // Whatever the answers take, the next comes at its time.
    await delay(Math.max(0, atMs - WATCHED_BEFORE_MS - performance.now()));
    const stream = await streams.open(orderNo, token);
    await delay(Math.max(0, atMs - performance.now()));
    const sentMs = performance.now();
    for (;;) {
      const status = await notifier.trySendPaid(orderNo);
      if (status < 300) break;
      assert.equal(status, 503);
      refused += 1;
      await delay(RESEND_AFTER_MS);
    }
    waitsMs.push((await stream.until('paid')) - sentMs);
  }
  async function replaceWorker(): Promise<void> {
    await delay(KILLED_AFTER_MS);
    await processes.kill('worker');
    await startWorker(processes, { name: 'worker', env });
  }
  await Promise.all([
    ...orders.map((order, i) => pay(order, startedMs + (i * 1_000) / rate)),
    engine === 'killed' && replaceWorker(),
  ]);
  note(cpu.read());
  const { without, begun } = await countWorkflows(stack, saleId);
  notifier.close();
  streams.close();
  if (engine === 'frozen') processes.thaw('temporal');
  await processes.kill('worker');
  await stack.clear();
  assert.equal(waitsMs.length, orders.length);
  return {
    p50: median(waitsMs),
    p99: percentile(waitsMs, 0.99),
    maxMs: percentile(waitsMs, 1),
    refused,
    without: (without * 100) / orders.length,
    begun: begun / SECONDS,
  };
}

interface PickedOrder {
  orderNo: string;
  /** Of the order's user. */
  token: string;
}

/** Some of the orders that wait, by chance. */
async function pickOrders({ pool }: CheckoutStack, saleId: string, count: number): Promise<PickedOrder[]> {
  const rows = await selectRows(
    pool,
    z.object({ order_no: z.string(), user_id: z.string() }),
    `SELECT order_no, user_id FROM orders WHERE sale_id = ? AND workflow_started_at IS NULL
     ORDER BY RAND() LIMIT ?`,
    [saleId, count],
  );
  assert.equal(rows.length, count);
  const users = [...new Set(rows.map((row) => row.user_id))];
  const signed = await Promise.all(users.map((user) => signToken(demoSecrets.jwt, user, '1h')));
  const tokens = new Map(users.map((user, i) => [user, signed[i] ?? '']));
  return rows.map((row) => ({ orderNo: row.order_no, token: tokens.get(row.user_id) ?? '' }));
}

async function countWorkflows({ pool }: CheckoutStack, saleId: string) {
  const [row] = await selectRows(
    pool,
    z.object({ without: z.coerce.number(), begun: z.coerce.number() }),
    `SELECT COALESCE(SUM(status = 'paid' AND workflow_started_at IS NULL), 0) AS without,
       COALESCE(SUM(workflow_started_at IS NOT NULL), 0) AS begun FROM orders WHERE sale_id = ?`,
    [saleId],
  );
  return row ?? { without: 0, begun: 0 };
}
/** Of one core; the worker's where it was not killed meanwhile. */
function watchCpu({ processes }: CheckoutStack) {
  const names = ['worker', 'temporal', 'mysql', 'redis', 'api'];
  const pids = new Map(names.map((name) => [name, processes.pid(name)]));
  const readAll = () => ({
    atMs: performance.now(),
    busy: readBusySeconds(),
    each: new Map(
      names.map((name) => [
        name,
        processes.pid(name) === pids.get(name) ? readCpuSeconds(processes.pid(name)) : undefined,
      ]),
    ),
  });
  const before = readAll();
  return {
    read(): string {
      const after = readAll();
      const percent = (seconds: number) =>
        `${((seconds * 100_000) / (after.atMs - before.atMs)).toFixed(0)} %`;
      const parts = names.flatMap((name) => {
        const [from, to] = [before.each.get(name), after.each.get(name)];
        return from === undefined || to === undefined ? [] : [`${name} ${percent(to - from)}`];
      });
      return `processor time, of one core: ${parts.join(', ')}; all of the machine ${percent(after.busy - before.busy)}`;
    },
  };
}
