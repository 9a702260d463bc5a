/**
 * The part `life`: what whole lives of orders cost each process, at a steady pace that the machine keeps up
 * with.
 */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { selectRows } from '../../src/mysql/connection.ts';
import { ENGINE_KEY } from '../../src/redis/keys.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import type { Figures, OpenPart, Part } from '../compare/part.ts';
import type { CheckoutStack } from '../compare/parts/payable/checkout-stack.ts';
import { untilFollowed } from '../compare/parts/payable/holdfast.ts';
import { readCpuSeconds } from '../http/cpu.ts';
import { openRunning, type Shoppers } from './running.ts';

/** Less than two cores take, so that nothing waits. */
const A_SECOND = 16;
const SECONDS = 20;
const ORDERS = A_SECOND * SECONDS;
/** Not measured: code is compiled and connections are opened meanwhile. */
const WARM_UP_ORDERS = 320;
/** What the processes take without an order is taken off. */
const IDLE_SECONDS = 6;
const PAID_WINDOW_MS = 30 * 60_000;
/** Long enough for the engine to begin all. */
const UNPAID_WINDOW_MS = 6_000;
/** A shopper reads the page for so long, in which the engine begins the order. */
const READING_MS = 1_000;
const LOOK_EVERY_MS = 4;
const TIMEOUT_MS = 60_000;

const PROCESSES = ['api', 'worker', 'temporal', 'mysql', 'redis'] as const;
const LABELS = { api: 'API', worker: 'worker', temporal: 'Temporal', mysql: 'MySQL', redis: 'Redis' };

export const LIVES = { paid: 'begun, paid by its page', unpaid: 'begun, not paid' } as const;

export const lifePart: Part = {
  name: 'life',
  title: 'Whole lives: what each process takes',
  about:
    `${A_SECOND} orders a second for ${SECONDS} s, from the purchase over HTTP to the end: paid by a page and a webhook, or ended ` +
    'by their timer. The processor time of each process, without what it takes while idle, and how long an order held a slot ' +
    'of the engine budget.',
  columns: [
    ...PROCESSES.map((name) => ({ key: name, label: LABELS[name], unit: 'µs', digits: 0 })),
    { key: 'slotMs', label: 'engine slot', unit: 'ms', digits: 0 },
    { key: 'begun', label: 'begun', unit: '%', digits: 0 },
    { key: 'idle', label: 'worker, idle', unit: '% of a core', digits: 1 },
  ],
  charted: 'worker',
  targets: [],
  async open(progress): Promise<OpenPart> {
    const { stack, shoppers, close } = await openRunning(progress, { users: 500, connections: 64 });
    try {
      await live(stack, shoppers, { orders: WARM_UP_ORDERS, isPaid: true });
    } catch (error) {
      await close();
      throw error;
    }
    const contestant = (name: string, isPaid: boolean) => ({
      name,
      role: 'ours' as const,
      measure: () => measure(stack, shoppers, isPaid),
    });
    return {
      contestants: [contestant(LIVES.paid, true), contestant(LIVES.unpaid, false)],
      notes: () => [
        'With nothing in line processes wake up for each order, and each write is synced by itself: at full load a step costs less.',
      ],
      close,
    };
  },
};

async function measure(stack: CheckoutStack, shoppers: Shoppers, isPaid: boolean): Promise<Figures> {
  const read = (): number[] => PROCESSES.map((name) => readCpuSeconds(stack.processes.pid(name)));
  // It looks while nothing happens too, so that what its looks take of Redis is no order's.
  const slots = watchSlots(stack);
  const idleBefore = read();
  await delay(IDLE_SECONDS * 1_000);
  const before = read();
  const startedMs = performance.now();
  slots.begin();
  const begun = await live(stack, shoppers, { orders: ORDERS, isPaid });
  const seconds = (performance.now() - startedMs) / 1_000;
  const slotMs = (1_000 * slots.end() * seconds) / ORDERS;
  const now = read();
  const idle = before.map((cpu, i) => (cpu - (idleBefore[i] ?? 0)) / IDLE_SECONDS);
  const costs = PROCESSES.map((name, i) => [
    name,
    (1_000_000 * ((now[i] ?? 0) - (before[i] ?? 0) - (idle[i] ?? 0) * seconds)) / ORDERS,
  ]);
  const idleWorker = 100 * (idle[PROCESSES.indexOf('worker')] ?? NaN);
  return { ...Object.fromEntries(costs), slotMs, begun: (100 * begun) / ORDERS, idle: idleWorker };
}

/** Resolves when all have ended. @returns how many of them the engine had begun before it had to end them */
async function live(
  stack: CheckoutStack,
  shoppers: Shoppers,
  { orders, isPaid }: { orders: number; isPaid: boolean },
): Promise<number> {
  const saleId = await stack.openSale(orders, isPaid ? PAID_WINDOW_MS : UNPAID_WINDOW_MS);
  await untilFollowed(stack, saleId);
  const startMs = performance.now();
  const lives = Array.from({ length: orders }, async (_, i) => {
    await delay(Math.max(0, startMs + (i * 1_000) / A_SECOND - performance.now()));
    const { status, body } = await shoppers.placeOrder(i, saleId);
    assert.equal(status, 202, body);
    if (!isPaid) return;
    await delay(READING_MS);
    await shoppers.pay(i, z.object({ orderNo: z.string() }).parse(JSON.parse(body)).orderNo);
  });
  await Promise.all(lives);
  const row = z.object({ left: z.coerce.number(), begun: z.coerce.number() });
  const sql = `SELECT SUM(status = 'awaiting_payment') AS \`left\`, SUM(workflow_started_at IS NOT NULL) AS begun
    FROM orders WHERE sale_id = ?`;
  let begun = 0;
  await waitUntil({
    what: 'all orders to end',
    timeoutMs: TIMEOUT_MS,
    check: async () => {
      const [counts] = await selectRows(stack.pool, row, sql, [saleId]);
      begun = counts?.begun ?? 0;
      return counts?.left === 0;
    },
  });
  return begun;
}

/** `end` returns how many slots were taken on average since `begin`. */
function watchSlots({ redis }: CheckoutStack) {
  let [sum, looks] = [0, 0];
  const look = async (): Promise<void> => {
    sum += await redis.zcard(ENGINE_KEY);
    looks += 1;
  };
  const looking = setInterval(() => void look(), LOOK_EVERY_MS);
  return {
    begin() {
      [sum, looks] = [0, 0];
    },
    end(): number {
      clearInterval(looking);
      return sum / Math.max(1, looks);
    },
  };
}
