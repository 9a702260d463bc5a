/** How often each step was tried, and what the reconciliation did. */

import { ApplicationFailure, Context } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { expect, test } from 'vitest';
import { createTryCounter } from '../../src/workers/order-worker.ts';
import { PROVIDER_BUSY } from '../../src/workflows/contract.ts';

/** Runs one try of a step under the interceptor. @returns what it counted */
async function countTry(activityType: string, input: unknown, run: () => Promise<unknown>) {
  const counted: unknown[][] = [];
  const create = createTryCounter({
    stepTried: (...tried) => void counted.push(tried),
    reconciled: (...report) => void counted.push(report),
  });
  // The SDK warns of the failure, which is meant.
  const environment = new MockActivityEnvironment({ activityType }, { logger: new DefaultLogger('ERROR') });
  await environment
    .run(async () => {
      const { inbound } = create(Context.current());
      return inbound?.execute?.({ args: [input], headers: {} }, run);
    })
    .catch(() => {});
  return counted;
}

const fail = () => Promise.reject(new Error('the store is away'));

test('a try counts under its step, by how it ended', async () => {
  expect(await countTry('markPaid', { orderNo: 'o-1' }, async () => 'paid')).toEqual([['markPaid', 'done']]);
  expect(await countTry('markPaid', { orderNo: 'o-1' }, fail)).toEqual([['markPaid', 'failed']]);
});

test('a try that waits for the pace of the provider is no failure', async () => {
  const busy = ApplicationFailure.create({ type: PROVIDER_BUSY, nextRetryDelay: 1_000 });
  const tried = countTry('refundPayment', { paymentId: 1 }, () => Promise.reject(busy));
  expect(await tried).toEqual([['refundPayment', 'busy']]);
});

test('a step of the reconciliation counts what it reports, or its failure', async () => {
  const report = { looked: 7, repaired: 2, parked: 1 };
  expect(await countTry('runReconcileStep', { name: 'holds' }, async () => report)).toEqual([
    ['runReconcileStep', 'done'],
    ['holds', 'looked', 7],
    ['holds', 'repaired', 2],
    ['holds', 'parked', 1],
  ]);
  expect(await countTry('runReconcileStep', { name: 'holds' }, fail)).toEqual([
    ['runReconcileStep', 'failed'],
    ['holds', 'failed', 1],
  ]);
});
