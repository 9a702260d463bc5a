/** The steps of callings-off in memory: the pages that the passes of each job find. */

import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/activity';
import type { CallOffActivities, CallOffCursor, CallOffPage } from '../../../src/activities/call-off.ts';

/** By it the job has its book. */
export type CallOffBook = ReturnType<typeof createCallOffBook>;

/** The last page of a pass that finds nothing more. */
export const LAST_PAGE: CallOffPage = { next: undefined, left: 0, isFull: false };

export const pageUntil = (after: string, page: Partial<CallOffPage> = {}): CallOffPage => ({
  ...LAST_PAGE,
  next: { phase: 'paid', after },
  ...page,
});

/**
 * @param pages in their order; after these each page is the last one
 * @param failures of each step before it works
 */
export function createCallOffBook(pages: readonly CallOffPage[], failures = 0) {
  const left = [...pages];
  const tries = new Map<string, number>();
  const cursors: CallOffCursor[] = [];
  const passes: number[] = [];
  let refused = 0;

  function tryStep(step: string): void {
    const before = tries.get(step) ?? 0;
    tries.set(step, before + 1);
    if (before >= failures) return;
    throw ApplicationFailure.create({ message: 'the store is away', nextRetryDelay: '20 milliseconds' });
  }

  return {
    /** Where the pages began, and what each pass had found. */
    cursors,
    passes,
    refused: () => refused,
    activities: {
      async refuseCalledOff() {
        tryStep('refuse');
        refused += 1;
      },
      async callOffPage({ cursor }) {
        tryStep('page');
        cursors.push(cursor);
        return left.shift() ?? LAST_PAGE;
      },
      async endCallOffPass({ left: found }) {
        tryStep('end');
        passes.push(found);
        return found === 0;
      },
    } satisfies CallOffActivities,
  };
}

/** @param books by job */
export function openCallOffBooks(books: ReadonlyMap<string, CallOffBook>): CallOffActivities {
  function stepsOf(jobId: string): CallOffActivities {
    const book = books.get(jobId);
    assert(book, `there is no book of job ${jobId}`);
    return book.activities;
  }
  return {
    refuseCalledOff: (input) => stepsOf(input.jobId).refuseCalledOff(input),
    callOffPage: (input) => stepsOf(input.jobId).callOffPage(input),
    endCallOffPass: (input) => stepsOf(input.jobId).endCallOffPass(input),
  };
}
