/**
 * Refunds on Temporal's time-skipping server. A book in memory decides the outcome of each refund's steps.
 */

import type { OrderEngine, RefundToStart } from '../../src/engine/order-engine.ts';
import { refundWorkflowId } from '../../src/workflows/contract.ts';
import type { RefundWorkflow } from '../../src/workflows/index.ts';
import { buildRefund } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';
import { openBooks } from '../support/workflows/order-world.ts';
import { createRefundBook, type RefundBook } from '../support/workflows/refund-book.ts';
import { openTimeSkipping } from '../support/workflows/time-skipping.ts';

interface Stage {
  refund: RefundToStart;
  book: RefundBook;
  engine: OrderEngine;
  /** Starts the refund, or signals news to it. */
  start: () => Promise<void>;
  /** Only while this is awaited does the server skip time. */
  end: () => Promise<void>;
  /** Waits for the end while the server's clock runs as ours: no timer of the workflow can have passed. */
  endAtOnce: () => Promise<void>;
  /** Skips time. */
  sleep: (ms: number) => Promise<void>;
  /** Waits until the provider has been asked so often. */
  untilLooked: (times: number) => Promise<void>;
  /** Cancels the workflow itself, as an operator does in the Web UI. */
  cancelWorkflow: () => Promise<void>;
  /** The server's clock, in Unix ms. */
  nowMs: () => Promise<number>;
  describe: () => Promise<{ status: string; runId: string }>;
}

export type RefundWorld = Awaited<ReturnType<typeof openRefundWorld>>;

/** Call once a file: skipping concerns the whole server, so tests must not run at the same time. */
export async function openRefundWorld() {
  const books = new Map<number, RefundBook>();
  const { env, engine, close } = await openTimeSkipping(openBooks(new Map(), books));
  return {
    /** A refund that is not started yet, with its book; leaves no workflow behind. */
    async withRefund(use: (stage: Stage) => Promise<void>): Promise<void> {
      const refund = buildRefund({ paymentId: books.size + 1 });
      const book = createRefundBook();
      books.set(refund.paymentId, book);
      const handle = env.client.workflow.getHandle<typeof RefundWorkflow>(refundWorkflowId(refund));
      try {
        await use({
          refund,
          book,
          engine,
          async start() {
            await engine.startRefund(refund);
          },
          end: () => handle.result(),
          async endAtOnce() {
            await waitFor('the end', async () => (await handle.describe()).status.name !== 'RUNNING');
            await handle.result();
          },
          sleep: (ms) => env.sleep(ms),
          untilLooked: async (times) => {
            await waitFor('the look', () => looks(book) >= times);
          },
          async cancelWorkflow() {
            await handle.cancel();
          },
          nowMs: () => env.currentTimeMs(),
          async describe() {
            const { status, runId } = await handle.describe();
            return { status: status.name, runId };
          },
        });
      } finally {
        // One that has ended refuses; one that a failed test
        // left open would keep the server from skipping time.
        await handle.terminate().catch(() => undefined);
      }
    },
    close,
  };
}

export function looks({ tries }: RefundBook): number {
  return tries.filter((step) => step === 'refundPayment').length;
}
