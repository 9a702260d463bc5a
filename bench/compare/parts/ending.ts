/** The part `ending`: how fast orders that nobody pays and no workflow has begun end after their deadline. */

import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { selectRows } from '../../../src/mysql/connection.ts';
import { saleKeys, wholeSale } from '../../../src/redis/keys.ts';
import { startWorker } from '../../../stack/app.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import { seedOutbox } from '../../seed-outbox.ts';
import type { Figures, OpenPart, Part } from '../part.ts';
import { openCheckoutStack, type CheckoutStack } from './payable/checkout-stack.ts';
import { COST_COLUMNS, countCosts } from './payable/costs.ts';
import { untilFollowed } from './payable/holdfast.ts';

const ORDERS = 20_000;
/** Long enough to accept and to store them. */
const WINDOW_MS = 20_000;
const TIMEOUT_MS = 2 * 60_000;
const LOOK_EVERY_MS = 20;

const leftRow = z.object({ orders: z.int() });

export const endingPart: Part = {
  name: 'ending',
  title: 'Ending: unpaid orders that no workflow has begun',
  about:
    `${ORDERS.toLocaleString('en')} orders are stored, and their deadlines have passed while the worker was stopped by ` +
    'the kernel. Then it is let loose: the rate at which they end in MySQL and their units are on sale again in Redis, ' +
    'until all are.',
  columns: [{ key: 'rate', label: 'ended', unit: 'orders/s', digits: 0 }, ...COST_COLUMNS],
  charted: 'rate',
  // A peak of 300,000 within two minutes ends as fast.
  targets: [{ text: 'orders a second', figure: 'rate', of: 'Holdfast', atLeast: 3_000 }],
  async open(progress): Promise<OpenPart> {
    const stack = await openCheckoutStack(progress);
    return {
      contestants: [{ name: 'Holdfast', role: 'ours', measure: () => endAll(stack) }],
      notes: () => [
        'Temporal is frozen, so that no workflow begins. The few orders whose start is claimed are left out.',
      ],
      close: () => stack.close(),
    };
  },
};

async function endAll(stack: CheckoutStack): Promise<Figures> {
  const { processes, redis, env } = stack;
  await startWorker(processes, { name: 'worker', env });
  processes.freeze('temporal');
  const saleId = await stack.openSale(ORDERS, WINDOW_MS);
  await untilFollowed(stack, saleId);
  await seedOutbox(redis, { saleId, count: ORDERS });
  const lastDeadlineMs = Date.now() + WINDOW_MS;
  await stack.untilHeld(saleId, ORDERS);
  processes.freeze('worker');
  await delay(lastDeadlineMs - Date.now());
  const costs = countCosts(stack);
  const startedMs = performance.now();
  processes.thaw('worker');
  const left = await untilEnded(stack, saleId);
  const seconds = (performance.now() - startedMs) / 1_000;
  const figures = { rate: (ORDERS - left) / seconds, ...costs.each(ORDERS - left) };
  processes.thaw('temporal');
  await processes.kill('worker');
  await stack.clear();
  return figures;
}

/** @returns how many orders are left to Temporal */
async function untilEnded({ pool, redis }: CheckoutStack, saleId: string): Promise<number> {
  let left = ORDERS;
  await waitUntil({
    what: 'all orders to end in MySQL and in Redis',
    timeoutMs: TIMEOUT_MS,
    check: async () => {
      await delay(LOOK_EVERY_MS);
      left = await count(pool, saleId, '');
      const due = await count(pool, saleId, 'AND (engine_due_at IS NULL OR engine_due_at <= NOW(3))');
      return due === 0 && (await redis.zcard(saleKeys(wholeSale(saleId)).deadlines)) === left;
    },
  });
  return left;
}

async function count(pool: CheckoutStack['pool'], saleId: string, which: string): Promise<number> {
  const sql = `SELECT COUNT(*) AS orders FROM orders WHERE sale_id = ? AND status = 'awaiting_payment' ${which}`;
  return (await selectRows(pool, leftRow, sql, [saleId]))[0]?.orders ?? 0;
}
