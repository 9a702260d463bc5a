/**
 * Timers for the book's debts: a late payment is taken, and a slow refund succeeds, when its time has come.
 */

import type { Logger } from 'pino';
import type { Book, Debt } from './book.ts';

export interface Alarms {
  set: (debt: Debt) => void;
  /** What is still owed stays in the book, for the next start. */
  stop: () => void;
}

export function createAlarms(book: Book, logger: Logger): Alarms {
  // As many as the book has debts, and it refuses new ones when it is full.
  const timers = new Set<NodeJS.Timeout>();
  let stopped = false;

  function settle(debt: Debt): void {
    try {
      if (debt.kind === 'payment') book.keepPromise(debt.sessionId);
      else book.reversals.endSlowRefund(debt.refundId);
    } catch (error) {
      logger.error(
        { err: error, debt },
        'the book refused a debt that was due; it is tried again at the next start',
      );
    }
  }

  return {
    set: (debt) => {
      if (stopped) return;
      const timer = setTimeout(
        () => {
          timers.delete(timer);
          settle(debt);
        },
        Math.max(0, debt.dueAtMs - Date.now()),
      );
      timers.add(timer);
    },
    stop: () => {
      stopped = true;
      for (const timer of timers) clearTimeout(timer);
    },
  };
}
