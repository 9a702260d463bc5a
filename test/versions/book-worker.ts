/**
 * A worker on the real server whose steps are decided by
 * each order's book; it ends with the test that opened it.
 */

import type { WorkerDeploymentVersion } from '@temporalio/common';
import { NativeConnection, type WorkflowBundleOption } from '@temporalio/worker';
import { inject, onTestFinished } from 'vitest';
import type { OrderEngine } from '../../src/engine/order-engine.ts';
import { createWorkerMetrics } from '../../src/metrics.ts';
import { createOrderWorker } from '../../src/workers/order-worker.ts';
import { installQuietRuntime } from '../support/workflows/native-runtime.ts';
import type { OrderBook } from '../support/workflows/order-book.ts';
import { openBooks } from '../support/workflows/order-world.ts';
import type { RefundBook } from '../support/workflows/refund-book.ts';
import { runningWorkers } from '../support/workflows/running-workers.ts';

export interface BookWorkerOptions {
  namespace: string;
  books: ReadonlyMap<string, OrderBook>;
  refundBooks?: ReadonlyMap<number, RefundBook>;
  workflowBundle: WorkflowBundleOption;
  version?: WorkerDeploymentVersion;
}

export interface BookWorker {
  /** As the relay beside this worker has it. */
  engine: OrderEngine;
  stop(): Promise<void>;
}

export async function openBookWorker({
  namespace,
  books,
  refundBooks,
  workflowBundle,
  version,
}: BookWorkerOptions): Promise<BookWorker> {
  installQuietRuntime();
  const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
  const activities = openBooks(books, refundBooks);
  const { worker, engine } = await createOrderWorker({
    connection,
    namespace,
    workflowBundle,
    activities,
    budget: { release: async () => {} },
    parkedWork: { noteFailure: async () => {}, noteRefundFailure: async () => {} },
    metrics: createWorkerMetrics(),
    version,
  });
  runningWorkers.add(worker);
  const ended = worker.run();
  let stopped: Promise<void> | undefined;
  const stopOnce = async () => {
    worker.shutdown();
    await ended;
    runningWorkers.delete(worker);
    await connection.close();
  };
  const stop = () => (stopped ??= stopOnce());
  onTestFinished(stop);
  return { engine, stop };
}
