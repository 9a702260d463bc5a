/** Holdfast as a contestant: orders wait in the outbox, and the worker is let loose. */

import { saleKeys } from '../../../../src/redis/keys.ts';
import { startWorker } from '../../../../stack/app.ts';
import { waitUntil } from '../../../../stack/processes/wait.ts';
import { seedOutbox } from '../../../seed-outbox.ts';
import type { Figures } from '../../part.ts';
import type { CheckoutStack } from './checkout-stack.ts';
import { peakMemoryMb } from './consumer-process.ts';
import { countCosts } from './costs.ts';

/** The worker looks for new sales once a second. */
const FOLLOW_TIMEOUT_MS = 30_000;

/** @param temporal frozen: from before the worker's first look at the orders until all are stored */
export async function drainOutbox(
  stack: CheckoutStack,
  { orders, temporal }: { orders: number; temporal: 'at work' | 'frozen' },
): Promise<Figures> {
  const { processes, redis, env } = stack;
  await startWorker(processes, { name: 'worker', env });
  const saleId = await stack.openSale(orders);
  await untilFollowed(stack, saleId);
  processes.freeze('worker');
  await seedOutbox(redis, { saleId, count: orders });
  if (temporal === 'frozen') processes.freeze('temporal');
  const costs = countCosts(stack);
  const startedMs = performance.now();
  processes.thaw('worker');
  await stack.untilHeld(saleId, orders);
  const seconds = (performance.now() - startedMs) / 1_000;
  const cost = costs.each(orders);
  const memory = peakMemoryMb(processes.pid('worker'));
  if (temporal === 'frozen') processes.thaw('temporal');
  await checkOutboxEmpty(stack, saleId);
  await processes.kill('worker');
  await stack.clear();
  return { rate: orders / seconds, memory, ...cost };
}

/**
 * Stores so many orders of a sale, of which Temporal, frozen meanwhile, gets none. No worker runs afterwards.
 * @returns the sale's id
 */
export async function storeBacklog(stack: CheckoutStack, orders: number): Promise<string> {
  const { processes, redis, env } = stack;
  await startWorker(processes, { name: 'worker', env });
  const saleId = await stack.openSale(orders);
  processes.freeze('temporal');
  await seedOutbox(redis, { saleId, count: orders });
  await stack.untilHeld(saleId, orders);
  await checkOutboxEmpty(stack, saleId);
  await processes.kill('worker');
  processes.thaw('temporal');
  return saleId;
}

/** The worker creates the group of an outbox when it first reads it. */
export async function untilFollowed({ redis }: CheckoutStack, saleId: string): Promise<void> {
  const { outbox } = saleKeys({ saleId, shard: 0 });
  await waitUntil({
    what: 'the worker to follow the sale',
    timeoutMs: FOLLOW_TIMEOUT_MS,
    check: async () => (await redis.exists(outbox)) === 1,
  });
}

/** What is stored is also acknowledged, a moment later. */
async function checkOutboxEmpty({ redis }: CheckoutStack, saleId: string): Promise<void> {
  const { outbox } = saleKeys({ saleId, shard: 0 });
  await waitUntil({
    what: 'the outbox to be empty',
    timeoutMs: FOLLOW_TIMEOUT_MS,
    check: async () => (await redis.xlen(outbox)) === 0,
  });
}
