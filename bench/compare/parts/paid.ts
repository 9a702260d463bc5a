/** The part `paid` of the comparison: how long money waits while a rush waits for the engine. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { selectRows } from '../../../src/mysql/connection.ts';
import { startApi, startWorker } from '../../../stack/app.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import { readBusySeconds, readCpuSeconds } from '../../http/cpu.ts';
import { createPaymentNotifier } from '../../notices.ts';
import { percentile } from '../../shoppers.ts';
import { median } from '../judgement.ts';
import type { Figures, OpenPart, Part } from '../part.ts';
import { openCheckoutStack, type CheckoutStack } from './payable/checkout-stack.ts';
import { storeBacklog } from './payable/holdfast.ts';

/** About as many as wait at most by default settings. */
const WAITING = 26_000;
const SECONDS = 30;
/** Of a worker's life: code is compiled, connections are opened, and what waited is found. */
const FIRST_MS = 10_000;
/** When the worker is killed, where it is: half of what is paid afterwards is paid to a new worker. */
const KILLED_AFTER_MS = 15_000;
const CONNECTIONS = 64;
const END_TIMEOUT_MS = 120_000;

const USUAL = 'at 25/s';
const KILLED = 'at 25/s, the worker killed';
const MORE = 'at 50/s';

export const paidPart: Part = {
  name: 'paid',
  title: 'Paid: money in a rush',
  about:
    `${WAITING.toLocaleString('en')} orders are stored and wait for the engine. A worker starts, and from its first second on ` +
    `orders among them are paid at a steady pace for ${SECONDS} s: the time from the sending of the webhook to the paid order in MySQL.`,
  columns: [
    { key: 'firstP50', label: 'first ten seconds, p50', unit: 'ms', digits: 0 },
    { key: 'firstP99', label: 'p99', unit: 'ms', digits: 0 },
    { key: 'laterP50', label: 'later, p50', unit: 'ms', digits: 0 },
    { key: 'laterP99', label: 'p99', unit: 'ms', digits: 0 },
    { key: 'maxMs', label: 'longest', unit: 'ms', digits: 0 },
    { key: 'begun', label: 'others begun', unit: '/s', digits: 1 },
  ],
  charted: 'firstP99',
  targets: [
    { text: 'first ten seconds of a worker < 300 ms (p99)', figure: 'firstP99', of: USUAL, atMost: 300 },
    { text: 'later < 300 ms (p99)', figure: 'laterP99', of: USUAL, atMost: 300 },
  ],
  async open(progress): Promise<OpenPart> {
    const stack = await openCheckoutStack(progress);
    const shares = new Map<string, string[]>();
    try {
      await startApi(stack.processes, { name: 'api', env: stack.env });
      const contestant = (name: string, role: 'ours' | 'variant', load: Load) => ({
        name,
        role,
        measure: () => measure(stack, load, (line) => shares.set(name, [...(shares.get(name) ?? []), line])),
      });
      return {
        contestants: [
          contestant(USUAL, 'ours', { rate: 25, isKilled: false }),
          contestant(KILLED, 'variant', { rate: 25, isKilled: true }),
          contestant(MORE, 'variant', { rate: 50, isKilled: false }),
        ],
        notes: () => [...NOTES, ...[...shares].map(([name, lines]) => `${name}: ${lines.at(-1)}.`)],
        close: () => stack.close(),
      };
    } catch (error) {
      await stack.close();
      throw error;
    }
  },
};

const NOTES = [
  'Where the worker is killed, by SIGKILL after 15 s, another starts at once, and the first ten seconds are those of the other. The longest is of a payment that came while there was no worker, or that the killed one was at.',
];

interface Load {
  /** Payments a second. */
  rate: number;
  isKilled: boolean;
}

async function measure(
  stack: CheckoutStack,
  { rate, isKilled }: Load,
  note: (line: string) => void,
): Promise<Figures> {
  const { processes, env } = stack;
  const saleId = await storeBacklog(stack, WAITING);
  const orderNos = await pickOrders(stack, saleId, rate * SECONDS);
  const notifier = createPaymentNotifier(stack.apiUrl, CONNECTIONS);
  const sentAtMs = new Map<string, number>();
  await startWorker(processes, { name: 'worker', env });
  const cpu = watchCpu(stack);
  const startedMs = Date.now();
  /** Unix ms; of the worker that is there at last. */
  let readyMs = startedMs;

  async function replaceWorker(): Promise<void> {
    await delay(KILLED_AFTER_MS);
    await processes.kill('worker');
    await startWorker(processes, { name: 'worker', env });
    readyMs = Date.now();
  }
  async function payAll(): Promise<void> {
    const running: Promise<void>[] = [];
    for (const [i, orderNo] of orderNos.entries()) {
      // Whatever the answers take, the next comes at its time.
      await delay(Math.max(0, startedMs + (i * 1_000) / rate - Date.now()));
      sentAtMs.set(orderNo, Date.now());
      running.push(notifier.sendPaid(orderNo));
    }
    await Promise.all(running);
  }
  await Promise.all([payAll(), isKilled && replaceWorker()]);
  note(cpu.read());
  const begun = await countBegun(stack, saleId);
  const paidAtMs = await untilPaid(stack, saleId, orderNos);
  notifier.close();
  await processes.kill('worker');
  await stack.clear();

  const waits = orderNos.map((orderNo) => {
    const sentMs = sentAtMs.get(orderNo) ?? 0;
    return { sentMs, waitMs: (paidAtMs.get(orderNo) ?? 0) - sentMs };
  });
  const between = (fromMs: number, toMs: number) =>
    waits.flatMap(({ sentMs, waitMs }) => (sentMs >= fromMs && sentMs < toMs ? [waitMs] : []));
  const first = between(readyMs, readyMs + FIRST_MS);
  const later = [
    ...between(readyMs + FIRST_MS, Infinity),
    ...(isKilled ? between(startedMs + FIRST_MS, startedMs + KILLED_AFTER_MS - 1_000) : []),
  ];
  return {
    firstP50: median(first),
    firstP99: percentile(first, 0.99),
    laterP50: median(later),
    laterP99: percentile(later, 0.99),
    maxMs: percentile(
      waits.map(({ waitMs }) => waitMs),
      1,
    ),
    begun: begun / SECONDS,
  };
}

/** Some of the orders that wait, by chance. */
async function pickOrders({ pool }: CheckoutStack, saleId: string, count: number): Promise<string[]> {
  const rows = await selectRows(
    pool,
    z.object({ order_no: z.string() }),
    `SELECT order_no FROM orders WHERE sale_id = ? AND workflow_started_at IS NULL ORDER BY RAND() LIMIT ?`,
    [saleId, count],
  );
  assert.equal(rows.length, count);
  return rows.map((row) => row.order_no);
}

async function countBegun({ pool }: CheckoutStack, saleId: string): Promise<number> {
  const [row] = await selectRows(
    pool,
    z.object({ begun: z.int() }),
    `SELECT COUNT(*) AS begun FROM orders
     WHERE sale_id = ? AND workflow_started_at IS NOT NULL AND payment = 'none'`,
    [saleId],
  );
  return row?.begun ?? 0;
}

/** @returns when each was paid (Unix ms) */
async function untilPaid(
  { pool }: CheckoutStack,
  saleId: string,
  orderNos: readonly string[],
): Promise<Map<string, number>> {
  const paidAtMs = new Map<string, number>();
  await waitUntil({
    what: 'all payments to be applied',
    timeoutMs: END_TIMEOUT_MS,
    check: async () => {
      const rows = await selectRows(
        pool,
        z.object({ order_no: z.string(), occurred_at: z.date() }),
        `SELECT e.order_no, e.occurred_at FROM orders o JOIN order_events e ON e.order_no = o.order_no
         WHERE o.sale_id = ? AND o.status = 'paid' AND e.status = 'paid'`,
        [saleId],
      );
      for (const row of rows) paidAtMs.set(row.order_no, row.occurred_at.getTime());
      return orderNos.every((orderNo) => paidAtMs.has(orderNo));
    },
  });
  return paidAtMs;
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
