/** Every way a calling-off can go, to be recorded and replayed: by name, the pages that it finds. */

import type { CallOffPage } from '../../src/activities/call-off.ts';
import { LAST_PAGE, pageUntil } from '../support/workflows/call-off-book.ts';

export interface CallOffBranch {
  pages: CallOffPage[];
  /** Of each step, before it works. */
  failures?: number;
}

/** As many as a run has, and some of the next run. */
const PAGES_OVER_RUNS = 103;
const overRuns = {
  pages: Array.from({ length: PAGES_OVER_RUNS }, (_, i) => pageUntil(`order-${i}`, { left: i % 2 })),
};

export const callOffBranches: Record<string, CallOffBranch> = {
  'call-off-at-once': { pages: [pageUntil('')] },
  'call-off-in-passes': {
    pages: [
      pageUntil('', { left: 2 }),
      pageUntil('order-1', { left: 50, isFull: true }),
      { ...LAST_PAGE, left: 3 },
      pageUntil(''),
    ],
  },
  'call-off-store-away': { pages: [pageUntil('')], failures: 2 },
  // Those recorded before it know their job by its id alone.
  'call-off-with-its-terms': { pages: [pageUntil('')] },
  // The run that continues as new, and the one that goes on.
  'call-off-continues-as-new': overRuns,
  'call-off-continued': overRuns,
};
