/**
 * A step is added without worker versions: `patched` separates
 * orders that began before it from those that began after.
 */

import type { Client } from '@temporalio/client';
import type { WorkflowBundleOption } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { buildOrder } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';
import { builtWorkflows } from '../support/workflows/built-workflows.ts';
import { codeOf } from '../support/workflows/deployment.ts';
import { openEngine } from '../support/workflows/engines.ts';
import { createOrderBook, type OrderBook } from '../support/workflows/order-book.ts';
import { replayHistory } from '../support/workflows/replay.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { openBookWorker, type BookWorker } from './book-worker.ts';
import { bundleVariant } from './variants.ts';

let changed: WorkflowBundleOption;
let patched: WorkflowBundleOption;
let deprecated: WorkflowBundleOption;

beforeAll(async () => {
  [changed, patched, deprecated] = await Promise.all([
    bundleVariant('changed-order.ts'),
    bundleVariant('patched-order.ts'),
    bundleVariant('deprecated-order.ts'),
  ]);
});

interface OpenOrder {
  order: Order;
  book: OrderBook;
}

/** A namespace of the test's own, with orders in it and workers that come and go. */
async function openWorld() {
  const namespace = await createNamespace();
  const { engine, client, close } = await openEngine(namespace);
  onTestFinished(close);
  const books = new Map<string, OrderBook>();
  return {
    client,
    startWorker: (workflowBundle: WorkflowBundleOption) =>
      openBookWorker({ namespace, books, workflowBundle }),
    async open(worker: BookWorker): Promise<OpenOrder> {
      const order = buildOrder();
      const book = createOrderBook(order);
      books.set(order.orderNo, book);
      await worker.engine.start(order);
      await waitFor('the order to be payable', () => book.state()?.status === 'awaiting_payment');
      return { order, book };
    },
    async pay({ order, book }: OpenOrder): Promise<void> {
      book.receivePayment();
      await engine.signalEnded(order.orderNo, { status: 'paid' });
      expect(await client.workflow.getHandle(order.orderNo).result()).toMatchObject({ status: 'paid' });
      expect(book.stock()).toBe('sold');
    },
  };
}

async function replay(client: Client, { order }: OpenOrder, workflowBundle: WorkflowBundleOption) {
  const history = await client.workflow.getHandle(order.orderNo).fetchHistory();
  await replayHistory(workflowBundle, history);
}

test('an order that began before the patch is finished by the worker that has it, and a new one takes the new path', async () => {
  const { client, startWorker, open, pay } = await openWorld();
  const before = await startWorker(builtWorkflows);
  const old = await open(before);
  await before.stop();

  const after = await startWorker(patched);
  const young = await open(after);
  await pay(old);
  await pay(young);

  expect(await codeOf(client, old.order.orderNo)).toBe('as it is');
  expect(await codeOf(client, young.order.orderNo)).toBe('changed');
});

test('refused are the change without a patch, a patch deprecated too early, and the code from before the patch', async () => {
  const { client, startWorker, open } = await openWorld();
  const before = await startWorker(builtWorkflows);
  const old = await open(before);
  await before.stop();
  const young = await open(await startWorker(patched));

  await replay(client, old, patched);
  await expect(replay(client, old, changed)).rejects.toBeInstanceOf(DeterminismViolationError);
  await expect(replay(client, old, deprecated)).rejects.toBeInstanceOf(DeterminismViolationError);
  await replay(client, young, deprecated);
  for (const unpatched of [builtWorkflows, changed]) {
    await expect(replay(client, young, unpatched)).rejects.toBeInstanceOf(DeterminismViolationError);
  }
});
