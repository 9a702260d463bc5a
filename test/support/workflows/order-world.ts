/** Orders on Temporal's time-skipping server. A book in memory decides the outcome of each order's steps. */

import assert from 'node:assert/strict';
import type { Activities } from '../../../src/activities/index.ts';
import type { OrderEngine } from '../../../src/engine/order-engine.ts';
import type { Order } from '../../../src/orders/content.ts';
import type { OrderState } from '../../../src/orders/order.ts';
import { statusQuery } from '../../../src/workflows/contract.ts';
import type { OrderWorkflow } from '../../../src/workflows/index.ts';
import { buildOrder } from '../factories.ts';
import { waitFor } from '../wait.ts';
import { createOrderBook, type OrderBook } from './order-book.ts';
import type { RefundBook } from './refund-book.ts';
import { openTimeSkipping } from './time-skipping.ts';

export interface Stage {
  order: Order;
  book: OrderBook;
  /** As the relay and the API use it: starts and signals. */
  engine: OrderEngine;
  /** How the order ended. Only while this is awaited does the server skip time. */
  end: () => Promise<OrderState>;
  /** Waits for the end while the server's clock runs as ours: no timer of the workflow can have passed. */
  endAtOnce: () => Promise<OrderState>;
  query: () => Promise<OrderState>;
  /** Starts the order and waits until the shopper may pay. */
  untilPayable: () => Promise<void>;
  /** Tells the workflow that its order is paid, as the process does that has committed the payment. */
  signalPaid: () => Promise<unknown>;
  /** The provider's notice pays for the order, and the workflow is told. */
  pay: () => Promise<void>;
  /** Cancels the workflow itself, as an operator does in the Web UI. */
  cancelWorkflow: () => Promise<void>;
  /** Sends any signal, as an operator may. */
  signal: (name: string, ...args: unknown[]) => Promise<void>;
  /** The server's clock, in Unix ms. */
  nowMs: () => Promise<number>;
  searchAttribute: (name: string) => Promise<unknown>;
}

export type OrderWorld = Awaited<ReturnType<typeof openOrderWorld>>;

/** Call once a file: skipping concerns the whole server, so tests must not run at the same time. */
export async function openOrderWorld() {
  const books = new Map<string, OrderBook>();
  const { env, engine, close } = await openTimeSkipping(openBooks(books));

  return {
    /** An order that is not started yet, with its book; leaves no workflow behind. */
    async withOrder(
      use: (stage: Stage) => Promise<void>,
      options: { settlesStock?: boolean } = {},
    ): Promise<void> {
      const order = buildOrder({ reservedAtMs: await env.currentTimeMs() });
      const book = createOrderBook(order, options);
      books.set(order.orderNo, book);
      const handle = env.client.workflow.getHandle<typeof OrderWorkflow>(order.orderNo);
      const signalPaid = () => engine.signalEnded(order.orderNo, { status: 'paid' });
      const stage: Stage = {
        order,
        book,
        engine,
        end: () => handle.result(),
        async endAtOnce() {
          await waitFor('the end', async () => (await handle.describe()).status.name !== 'RUNNING');
          return handle.result();
        },
        query: () => handle.query(statusQuery),
        async untilPayable() {
          await engine.start(order);
          await waitFor('the order to be payable', () => book.state()?.status === 'awaiting_payment');
        },
        signalPaid,
        async pay() {
          book.receivePayment();
          await signalPaid();
        },
        async cancelWorkflow() {
          await handle.cancel();
        },
        signal: (name, ...args) => handle.signal(name, ...args),
        nowMs: () => env.currentTimeMs(),
        searchAttribute: async (name) => {
          const { searchAttributes } = await handle.describe();
          return searchAttributes[name];
        },
      };
      try {
        await use(stage);
      } finally {
        // One that has ended refuses; one that a failed test
        // left open would keep the server from skipping time.
        await handle.terminate().catch(() => undefined);
      }
    },
    close,
  };
}

/**
 * The activities of a worker: each step is for the book of its order, or of its refund by the payment's id.
 */
export function openBooks(
  books: ReadonlyMap<string, OrderBook>,
  refundBooks: ReadonlyMap<number, RefundBook> = new Map(),
): Activities {
  function refundStepsOf(paymentId: number): RefundBook['activities'] {
    const book = refundBooks.get(paymentId);
    assert(book, `there is no book of refund ${paymentId}`);
    return book.activities;
  }
  function stepsOf(orderNo: string): OrderBook['activities'] {
    const book = books.get(orderNo);
    assert(book, `there is no book of order ${orderNo}`);
    return book.activities;
  }
  return {
    persistOrder: (input) => stepsOf(input.order.orderNo).persistOrder(input),
    abandonOrder: (input) => stepsOf(input.order.orderNo).abandonOrder(input),
    markPaid: (input) => stepsOf(input.orderNo).markPaid(input),
    cancelOrder: (input) => stepsOf(input.orderNo).cancelOrder(input),
    confirmStock: (input) => stepsOf(input.orderNo).confirmStock(input),
    releaseStock: (input) => stepsOf(input.orderNo).releaseStock(input),
    voidPaymentSessions: (input) => stepsOf(input.orderNo).voidPaymentSessions(input),
    parkOrder: (input) => stepsOf(input.orderNo).parkOrder(input),
    unparkOrder: (input) => stepsOf(input.orderNo).unparkOrder(input),
    refundPayment: (input) => refundStepsOf(input.paymentId).refundPayment(input),
    giveBack: (input) => refundStepsOf(input.paymentId).giveBack(input),
    parkRefund: (input) => refundStepsOf(input.paymentId).parkRefund(input),
    unparkRefund: (input) => refundStepsOf(input.paymentId).unparkRefund(input),
  };
}
