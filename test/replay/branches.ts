/**
 * Every way an order can go, run on a real server. Each is
 * recorded once, and replayed against the code as it is now.
 */

import type { OrderEngine } from '../../src/engine/order-engine.ts';
import type { Order } from '../../src/orders/content.ts';
import type { OrderBook } from '../support/workflows/order-book.ts';
import { createGate } from '../support/workflows/stepper.ts';

interface Play {
  order: Order;
  book: OrderBook;
  engine: OrderEngine;
  /** Tells the workflow that its order is paid. */
  signalPaid: () => Promise<unknown>;
  /** Starts the order and waits until the shopper may pay. */
  untilPayable: () => Promise<void>;
  cancelWorkflow: () => Promise<void>;
  /** Terminates the workflow, as an operator may; for the reconciliation it is lost. */
  loseWorkflow: () => Promise<void>;
}

interface Branch {
  /** Short where the order stays unpaid; otherwise the 30 minutes of a real order. */
  paymentWindowMs?: number;
  /** The step that ends the order settles its stock too; else it is of a version before, or Redis is away. */
  settlesStock?: boolean;
  play: (play: Play) => Promise<unknown>;
}

const SHORT_WINDOW_MS = 300;
/** What is left to an order whose workflow begins again. */
const WINDOW_MS = 10 * 60_000;
/** More than the quick tries, fewer than those before the order is parked. */
const SOME_FAILURES = 5;
const PARKING_FAILURES = 15;

const pay = async ({ book, untilPayable, signalPaid }: Play): Promise<void> => {
  await untilPayable();
  book.receivePayment();
  await signalPaid();
};
const start = ({ order, engine }: Play): Promise<unknown> => engine.start(order);
const cancelByShopper = async ({ order, engine, untilPayable }: Play): Promise<void> => {
  await untilPayable();
  await engine.signalCancelRequested(order);
};

/** As the relay begins an open order again, once the reconciliation has found that its workflow is lost. */
const beginAgain = async (play: Play, leftMs: number): Promise<void> => {
  const { order, book, engine, untilPayable, loseWorkflow } = play;
  await untilPayable();
  await loseWorkflow();
  await engine.start(order, book.state(), Date.now() + leftMs);
};

/** At its deadline, as the ender does for an order that no workflow has begun. */
const endFromMysql = async ({ order: { orderNo }, book }: Play): Promise<void> => {
  book.store();
  await book.activities.cancelOrder({ orderNo, reason: 'payment_timeout', force: true });
};

/** The relay has read it as open, and starts it so: its first look is long after its end. */
const startEnded = async (play: Play): Promise<void> => {
  play.book.store();
  const readBefore = play.book.state();
  await endFromMysql(play);
  await play.engine.start(play.order, readBefore);
};

/** Starts the order once the test has prepared it. */
const arranged =
  (arrange: (play: Play) => void, then: (play: Play) => Promise<unknown> = start) =>
  async (play: Play): Promise<void> => {
    arrange(play);
    await then(play);
  };

export const branches: Record<string, Branch> = {
  paid: { play: pay },
  'paid-and-sold-in-one-step': { settlesStock: true, play: pay },
  'cancelled-and-released-in-one-step': { settlesStock: true, play: cancelByShopper },
  'timed-out-and-released-in-one-step': {
    settlesStock: true,
    paymentWindowMs: SHORT_WINDOW_MS,
    play: start,
  },
  'abandoned-and-released-in-one-step': {
    settlesStock: true,
    play: arranged(({ book }) => book.refuse('unknown_sku')),
  },
  'paid-after-a-start-with-its-state': {
    settlesStock: true,
    play: arranged(
      ({ book }) => book.store(),
      async ({ order, book, engine, signalPaid }) => {
        await engine.start(order, book.state());
        book.receivePayment();
        await signalPaid();
      },
    ),
  },
  'cancelled-after-a-start-with-its-state': {
    settlesStock: true,
    play: arranged(
      ({ book }) => {
        book.store();
        book.requestCancel();
      },
      ({ order, book, engine }) => engine.start(order, book.state()),
    ),
  },
  'begun-again-and-paid': {
    settlesStock: true,
    play: async (play) => {
      await beginAgain(play, WINDOW_MS);
      play.book.receivePayment();
      await play.signalPaid();
    },
  },
  'begun-again-and-timed-out': {
    settlesStock: true,
    play: (play) => beginAgain(play, SHORT_WINDOW_MS),
  },
  // As the relay begins an order that it has claimed open, and that is paid before it is started.
  'begun-again-with-money': {
    settlesStock: true,
    play: async ({ order, book, engine, untilPayable, loseWorkflow }) => {
      await untilPayable();
      await loseWorkflow();
      const claimed = book.state();
      book.receivePayment();
      await engine.start(order, claimed, Date.now() + WINDOW_MS);
    },
  },
  'paid-before-stored': { play: arranged(({ book }) => book.receivePayment()) },
  // The relay has claimed it open, and starts it so.
  'paid-while-it-was-started': {
    settlesStock: true,
    play: arranged(
      ({ book }) => book.store(),
      async ({ order, book, engine, signalPaid }) => {
        const claimed = book.state();
        book.receivePayment();
        await engine.start(order, claimed);
        await signalPaid();
      },
    ),
  },
  'wrong-amount-then-timeout': {
    paymentWindowMs: 2_000,
    play: async ({ order, book, untilPayable, signalPaid }) => {
      await untilPayable();
      book.receivePayment(order.total - 1);
      await signalPaid();
    },
  },
  'payment-timeout': { paymentWindowMs: SHORT_WINDOW_MS, play: start },
  'extended-and-timed-out': {
    settlesStock: true,
    paymentWindowMs: SHORT_WINDOW_MS,
    play: arranged(({ book }) => book.extend(SHORT_WINDOW_MS)),
  },
  'extended-and-paid': {
    settlesStock: true,
    paymentWindowMs: SHORT_WINDOW_MS,
    play: arranged(
      ({ book }) => book.extend(WINDOW_MS),
      async ({ order, book, engine, signalPaid }) => {
        const extended = createGate();
        book.after('cancelOrder', extended.open);
        await engine.start(order);
        await extended.opened;
        book.receivePayment();
        await signalPaid();
      },
    ),
  },
  'paid-in-the-last-moment': {
    paymentWindowMs: SHORT_WINDOW_MS,
    play: arranged(({ book }) => book.before('cancelOrder', () => book.receivePayment())),
  },
  'cancelled-by-shopper': { play: cancelByShopper },
  'cancelled-by-operator': {
    play: async ({ untilPayable, cancelWorkflow }) => {
      await untilPayable();
      await cancelWorkflow();
    },
  },
  'stored-ahead-with-wish-to-cancel': {
    play: arranged(({ book }) => {
      book.store();
      book.requestCancel();
    }),
  },
  'sessions-voided': { play: arranged(({ book }) => book.openSession('open'), cancelByShopper) },
  'sessions-not-voided': {
    play: arranged(({ book }) => {
      book.openSession('open');
      book.fail('voidPaymentSessions', Infinity);
    }, cancelByShopper),
  },
  'void-finds-payment': { play: arranged(({ book }) => book.openSession('paid-unnoticed'), cancelByShopper) },
  refused: { play: arranged(({ book }) => book.refuse('unknown_sku')) },
  'refused-after-outage': {
    play: arranged(({ book }) => {
      book.fail('persistOrder', SOME_FAILURES);
      book.refuse('stock_exhausted');
    }),
  },
  'store-unavailable': {
    paymentWindowMs: SHORT_WINDOW_MS,
    play: arranged(({ book }) => book.fail('persistOrder', Infinity)),
  },
  'slow-write-before-abandon': {
    paymentWindowMs: SHORT_WINDOW_MS,
    play: arranged(({ book }) => {
      book.refuse('unknown_sku');
      book.before('abandonOrder', () => book.store());
    }),
  },
  'stored-after-outage': {
    play: arranged(({ book }) => {
      book.fail('persistOrder', SOME_FAILURES);
      book.receivePayment();
    }),
  },
  'abandoned-after-outage': {
    play: arranged(({ book }) => {
      book.refuse('unknown_sku');
      book.fail('abandonOrder', SOME_FAILURES);
    }),
  },
  'patient-step': { play: arranged(({ book }) => book.fail('confirmStock', SOME_FAILURES), pay) },
  'parked-step': { play: arranged(({ book }) => book.fail('markPaid', PARKING_FAILURES), pay) },
  'parked-release': {
    play: arranged(({ book }) => book.fail('releaseStock', PARKING_FAILURES), cancelByShopper),
  },
  'ended-before-its-workflow': {
    play: async (play) => {
      await endFromMysql(play);
      await start(play);
    },
  },
  'ended-while-it-was-started': {
    settlesStock: true,
    play: async (play) => {
      await startEnded(play);
      await play.engine.signalEnded(play.order.orderNo, { status: 'cancelled' });
    },
  },
  'ended-at-its-deadline-unnoticed': {
    settlesStock: true,
    paymentWindowMs: SHORT_WINDOW_MS,
    play: (play) => startEnded(play),
  },
  'called-off-before-its-workflow': {
    settlesStock: true,
    play: arranged(
      ({ book }) => {
        book.store();
        book.requestCancel('called_off');
      },
      ({ order, book, engine }) => engine.start(order, book.state()),
    ),
  },
  // As a free order is that is paid as it is stored, and one whose workflow was lost after its payment.
  'paid-before-its-workflow': {
    settlesStock: true,
    play: async (play) => {
      play.book.store();
      play.book.receivePayment();
      await start(play);
    },
  },
};
