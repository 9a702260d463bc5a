/** Every way a refund can go, run on a real server, to be recorded and replayed. */

import type { RefundRun } from '../../src/workflows/refund.ts';
import type { RefundBook } from '../support/workflows/refund-book.ts';

export interface RefundPlay {
  book: RefundBook;
  /** Starts the refund, or signals news to it. */
  start: () => Promise<unknown>;
  /** Starts it as if an earlier run had continued as new. */
  goOn: (pending: NonNullable<RefundRun['pending']>) => Promise<unknown>;
  untilPending: () => Promise<void>;
  /** An operator sees it. */
  untilRefused: () => Promise<void>;
  /** Brings news until a run has continued as new. */
  untilContinued: () => Promise<void>;
  cancelWorkflow: () => Promise<void>;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** Fewer tries than those before the refund is parked, and more. */
const SOME_FAILURES = 5;
const PARKING_FAILURES = 12;

const isPending = async ({ book, start, untilPending }: RefundPlay): Promise<void> => {
  book.is('due-slow');
  await start();
  await untilPending();
};

const continued = async (play: RefundPlay): Promise<void> => {
  await isPending(play);
  await play.untilContinued();
  play.book.is('refunded');
  await play.start();
};

export const refundBranches: Record<string, (play: RefundPlay) => Promise<unknown>> = {
  'refund-at-once': ({ start }) => start(),
  'refund-nothing-due': ({ book, start }) => {
    book.is('nothing');
    return start();
  },
  'refund-refused-at-first': ({ book, start }) => {
    book.fail('refundPayment', SOME_FAILURES);
    return start();
  },
  'refund-refused-for-good': async ({ book, start, untilRefused }) => {
    book.is('refused');
    await start();
    await untilRefused();
    book.is('due');
    await start();
  },
  'refund-parked': ({ book, start }) => {
    book.fail('refundPayment', PARKING_FAILURES);
    return start();
  },
  'refund-pending-until-news': async (play) => {
    await isPending(play);
    play.book.is('refunded');
    await play.start();
  },
  'refund-pending-until-look': async (play) => {
    await isPending(play);
    play.book.is('refunded');
  },
  'refund-pending-for-a-day': async ({ book, goOn, untilPending }) => {
    book.is('pending');
    await goOn({ sinceMs: Date.now() - DAY_MS, pauseMs: 2_000, isShown: false });
    await untilPending();
    book.is('refunded');
  },
  // The run that continues as new, and the one that goes on.
  'refund-continues-as-new': continued,
  'refund-continued': continued,
  'refund-give-back-fails': ({ book, start }) => {
    book.fail('giveBack', SOME_FAILURES);
    return start();
  },
  'refund-give-back-parked': ({ book, start }) => {
    book.fail('giveBack', PARKING_FAILURES + SOME_FAILURES);
    return start();
  },
  'refund-news-before-the-end': async ({ book, start }) => {
    // Long enough for a task of its own: the last step is a regular one by then.
    book.fail('giveBack', SOME_FAILURES);
    const givingBack = book.holdUp('giveBack');
    await start();
    await givingBack.entered;
    book.is('due');
    await start();
    givingBack.letGo();
  },
  'refund-cancelled-in-the-web-ui': async (play) => {
    await isPending(play);
    await play.cancelWorkflow();
    play.book.is('refunded');
    await play.start();
  },
};
