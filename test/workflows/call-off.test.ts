/** The workflow of a calling-off: its passes, its pauses, and how it is handed on. */

import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CallOffPage } from '../../src/activities/call-off.ts';
import { callOffWorkflowId } from '../../src/workflows/contract.ts';
import {
  createCallOffBook,
  LAST_PAGE,
  openCallOffBooks,
  pageUntil,
  type CallOffBook,
} from '../support/workflows/call-off-book.ts';
import { openBooks } from '../support/workflows/order-world.ts';
import { openTimeSkipping } from '../support/workflows/time-skipping.ts';

const books = new Map<string, CallOffBook>();
let world: Awaited<ReturnType<typeof openTimeSkipping>>;
beforeAll(async () => {
  world = await openTimeSkipping({ ...openBooks(new Map()), ...openCallOffBooks(books) });
});
afterAll(() => world.close());

const TERMS = { saleId: 'summer', sku: '', restock: false, actor: 'grace', reason: 'It rains' };

/** Until it has ended. @returns its book, and the runs that it took */
async function callOff(pages: readonly CallOffPage[], failures = 0) {
  const jobId = ulid();
  const book = createCallOffBook(pages, failures);
  books.set(jobId, book);
  await world.engine.startCallOff({ jobId, ...TERMS });
  const first = world.env.client.workflow.getHandle(callOffWorkflowId({ jobId }));
  const { runId } = await first.describe();
  await first.result();
  const { runId: lastRunId } = await first.describe();
  return { book, isContinued: runId !== lastRunId };
}

test('it refuses further orders first, and ends after a pass that has found nothing', async () => {
  const { book } = await callOff([pageUntil('', { left: 2 }), { ...LAST_PAGE, left: 1 }, pageUntil('')]);
  expect(book.refused()).toBe(1);
  expect(book.passes).toEqual([3, 0]);
  const open = { phase: 'open', after: '' };
  expect(book.cursors).toEqual([open, { phase: 'paid', after: '' }, open, { phase: 'paid', after: '' }]);
});

test('while as many refunds are under way as may be it waits, and goes on where it was', async () => {
  const { book } = await callOff([
    pageUntil(''),
    pageUntil('order-7', { isFull: true }),
    pageUntil('order-9', { isFull: true }),
  ]);
  expect(book.cursors.map(({ after }) => after)).toEqual(['', '', 'order-7', 'order-9']);
  expect(book.passes).toEqual([0]);
});

test('a step that fails is tried until it works', async () => {
  const { book } = await callOff([pageUntil('')], 5);
  expect(book.passes).toEqual([0]);
});

test('after many pages it continues as new, in the middle of a pass, with what that has found', async () => {
  const pages = Array.from({ length: 150 }, (_, i) => pageUntil(`order-${i}`, { left: 1 }));
  const { book, isContinued } = await callOff(pages);
  expect(isContinued).toBe(true);
  expect(book.refused()).toBe(1);
  expect(book.passes).toEqual([150, 0]);
  expect(book.cursors.slice(99, 102).map(({ after }) => after)).toEqual([
    'order-98',
    'order-99',
    'order-100',
  ]);
});
