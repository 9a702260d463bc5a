/** News of a refund on the real server: it refuses the end of a workflow that has not seen all its news. */

import { expect, onTestFinished, test } from 'vitest';
import { refundWorkflowId } from '../../src/workflows/contract.ts';
import { buildRefund } from '../support/factories.ts';
import { builtWorkflows } from '../support/workflows/built-workflows.ts';
import { openEngine } from '../support/workflows/engines.ts';
import { createRefundBook } from '../support/workflows/refund-book.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { openBookWorker } from '../versions/book-worker.ts';
import { looks } from './refund-world.ts';

test('news that comes in the last quick step is looked into before the end, in the same run', async () => {
  const namespace = await createNamespace();
  const { client, close } = await openEngine(namespace);
  onTestFinished(close);
  const refund = buildRefund({ paymentId: 1 });
  const book = createRefundBook();
  const refundBooks = new Map([[refund.paymentId, book]]);
  const workflowBundle = builtWorkflows;
  const { engine } = await openBookWorker({ namespace, books: new Map(), refundBooks, workflowBundle });
  const handle = client.workflow.getHandle(refundWorkflowId(refund));
  const givingBack = book.holdUp('giveBack');

  await engine.startRefund(refund);
  await givingBack.entered;
  const { runId } = await handle.describe();
  book.is('due');
  await engine.startRefund(refund);
  givingBack.letGo();
  await handle.result();

  expect((await handle.describe()).runId).toBe(runId);
  expect(looks(book)).toBe(2);
  expect(book.money()).toBe('refunded');
  expect(book.steps.at(-1)).toBe('giveBack');
});
