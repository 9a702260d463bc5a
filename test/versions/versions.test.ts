/** A new version of the worker is deployed while orders are open. */

import type { WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { refundWorkflowId } from '../../src/workflows/contract.ts';
import { endWindow } from '../support/ageing.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { buildOrder, buildRefund, buildSale } from '../support/factories.ts';
import { openHttpApp } from '../support/http-app.ts';
import { pressPay, sessionOf, type Shopper } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';
import { builtWorkflows } from '../support/workflows/built-workflows.ts';
import {
  buildsAtWork,
  buildVersion,
  codeOf,
  makeCurrent,
  pinnedBuildOf,
  statusOf,
} from '../support/workflows/deployment.ts';
import { openEngine } from '../support/workflows/engines.ts';
import { createOrderBook, type OrderBook } from '../support/workflows/order-book.ts';
import { createRefundBook } from '../support/workflows/refund-book.ts';
import { replayHistory } from '../support/workflows/replay.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { startWorker, type WorkerOptions } from '../support/workflows/worker.ts';
import { openBookWorker } from './book-worker.ts';
import { bundleVariant } from './variants.ts';

const v1 = buildVersion('v1');
const v2 = buildVersion('v2');
/** Bounds a hang. */
const QUERY_TIMEOUT_MS = 60_000;

let changedBundle: WorkflowBundleWithSourceMap;

beforeAll(async () => {
  changedBundle = await bundleVariant('changed-order.ts');
});

/** API, provider and stores; workers as the test wants them. */
async function openShop() {
  const namespace = await createNamespace();
  const stores = await openTestStores();
  const { engine, client, close } = await openEngine(namespace);
  onTestFinished(close);
  const app = await openHttpApp({ stores, engine });
  return {
    ...app,
    stores,
    engine,
    client,
    /** @returns what stops it; the test does so itself, or its end */
    async startWorker(options: Partial<WorkerOptions>): Promise<() => Promise<void>> {
      const worker = await startWorker({ stores, provider: app.provider, namespace, ...options });
      let stopped: Promise<void> | undefined;
      const stop = () => (stopped ??= worker.stop());
      onTestFinished(stop);
      return stop;
    },
  };
}

async function buyPayable(shopper: Shopper, saleId: string): Promise<string> {
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  return orderNo;
}

async function pay(shopper: Shopper, orderNo: string): Promise<void> {
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');
}

test('orders that are open when a version arrives end under the one before, and new orders begin under the new one', async () => {
  const { stores, client, ...shop } = await openShop();
  const { saleId } = await stores.openSale(buildSale());
  const stopV1 = await shop.startWorker({ version: v1 });
  await makeCurrent(client, v1);
  const ada = await shop.shopper();
  const carl = await shop.shopper();
  const late = await buyPayable(carl, saleId);
  const paid = await buyPayable(ada, saleId);
  const cancelled = await buyPayable(ada, saleId);
  const old = [paid, cancelled, late];
  for (const orderNo of old) expect(await pinnedBuildOf(client, orderNo)).toBe('v1');

  const stopV2 = await shop.startWorker({ version: v2, workflowBundle: changedBundle });
  await makeCurrent(client, v2);

  const bob = await shop.shopper();
  const young = [await buyPayable(bob, saleId), await buyPayable(bob, saleId)];
  for (const orderNo of young) {
    expect(await pinnedBuildOf(client, orderNo)).toBe('v2');
    expect(await codeOf(client, orderNo)).toBe('changed');
  }
  expect(await statusOf(client, v1)).toMatch(/DRAINING$/);
  expect(await statusOf(client, v2)).toMatch(/CURRENT$/);
  expect(await shop.engine.queryStatus(paid, QUERY_TIMEOUT_MS)).toMatchObject({ status: 'awaiting_payment' });

  await pay(ada, paid);
  await ada.cancel(cancelled);
  expect(await ada.awaitStatus(cancelled, 'cancelled')).toMatchObject({ reason: 'shopper_request' });
  await endWindow(client, late);
  expect(await carl.awaitStatus(late, 'cancelled')).toMatchObject({ reason: 'payment_timeout' });
  for (const orderNo of old) {
    const handle = client.workflow.getHandle(orderNo);
    await handle.result();
    expect(await buildsAtWork(client, orderNo)).toEqual(['v1']);
    expect(await codeOf(client, orderNo)).toBe('as it is');
    // So pinning was needed: under the new version's code none of them could have gone on.
    await expect(replayHistory(changedBundle, await handle.fetchHistory())).rejects.toBeInstanceOf(
      DeterminismViolationError,
    );
  }

  await stopV1();
  for (const orderNo of young) {
    await pay(bob, orderNo);
    await client.workflow.getHandle(orderNo).result();
    expect(await buildsAtWork(client, orderNo)).toEqual(['v2']);
  }
  await expectStock(stores, saleId, { sku: 'lamp', available: 7, held: 0, sold: 3 });
  await expectCleanAudit({ stores, client, provider: shop.provider });
  await stopV2();
});

test('whichever worker starts an order, it begins under the version that is current', async () => {
  const namespace = await createNamespace();
  const { client, close } = await openEngine(namespace);
  onTestFinished(close);
  const books = new Map<string, OrderBook>();
  const workflowBundle = builtWorkflows;
  const older = await openBookWorker({ namespace, books, workflowBundle, version: v1 });
  const newer = await openBookWorker({ namespace, books, workflowBundle, version: v2 });
  const startOn = async ({ engine }: typeof older): Promise<string> => {
    const order = buildOrder();
    books.set(order.orderNo, createOrderBook(order));
    await engine.start(order);
    return order.orderNo;
  };

  const beforeAnyIsCurrent = await startOn(older);
  await makeCurrent(client, v2);
  expect(await pinnedBuildOf(client, beforeAnyIsCurrent)).toBe('v2');
  expect(await pinnedBuildOf(client, await startOn(older))).toBe('v2');

  await makeCurrent(client, v1);
  expect(await pinnedBuildOf(client, await startOn(newer))).toBe('v1');
});

test('a refund that waits goes on under the version that is current, so that it keeps no old one alive', async () => {
  const namespace = await createNamespace();
  const { client, close } = await openEngine(namespace);
  onTestFinished(close);
  const workflowBundle = builtWorkflows;
  const refund = buildRefund();
  const book = createRefundBook();
  book.is('due-slow');
  const world = {
    namespace,
    books: new Map<string, OrderBook>(),
    refundBooks: new Map([[refund.paymentId, book]]),
    workflowBundle,
  };
  const older = await openBookWorker({ ...world, version: v1 });
  await makeCurrent(client, v1);
  await older.engine.startRefund(refund);
  const workflowId = refundWorkflowId(refund);
  const handle = client.workflow.getHandle(workflowId);
  await waitFor('the refund to wait', async () => {
    const { events } = await handle.fetchHistory();
    return events?.some(({ timerStartedEventAttributes }) => timerStartedEventAttributes);
  });
  expect(await buildsAtWork(client, workflowId)).toEqual(['v1']);

  const newer = await openBookWorker({ ...world, version: v2 });
  await makeCurrent(client, v2);
  await older.stop();
  book.is('refunded');
  await newer.engine.startRefund(refund);

  await handle.result();
  expect(await buildsAtWork(client, workflowId)).toEqual(['v1', 'v2']);
  expect(book.givenBackWhile()).toBe('refunded');
});
