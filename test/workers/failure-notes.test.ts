/** The notes of failed steps: which tries are noted, for which work, and that no step waits for them. */

import { Context } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger, type ActivityExecuteInput } from '@temporalio/worker';
import { expect, test } from 'vitest';
import { createFailureNotes, type FailureNotes } from '../../src/workers/order-worker.ts';

const AWAY = new Error('the store is away');

function openNotes() {
  const noted: unknown[][] = [];
  const notes: FailureNotes = {
    noteFailure: async (...note) => void noted.push(note),
    noteRefundFailure: async (...note) => void noted.push(note),
  };
  return { noted, notes };
}

/** Runs one try of a step with this input, which fails, under the interceptor. */
async function tryStep(notes: FailureNotes, input: unknown, info: { isLocal?: boolean } = {}): Promise<void> {
  const create = createFailureNotes(notes);
  const environment = new MockActivityEnvironment(
    { activityType: 'markPaid', isLocal: false, ...info },
    // The SDK warns of the failure, which is meant.
    { logger: new DefaultLogger('ERROR') },
  );
  await expect(
    environment.run(async () => {
      const { inbound } = create(Context.current());
      const execute: ActivityExecuteInput = { args: [input], headers: {} };
      await inbound?.execute?.(execute, () => Promise.reject(AWAY));
    }),
  ).rejects.toThrow(AWAY);
}

test.each([
  [{ orderNo: 'o-1' }, ['order', 'o-1', 'markPaid: the store is away']],
  [{ order: { orderNo: 'o-2' }, reason: 'lost_hold' }, ['order', 'o-2', 'markPaid: the store is away']],
  [{ paymentId: 7 }, [{ paymentId: 7 }, 'markPaid: the store is away']],
  [
    { paymentId: 7, provider: 'sandbox', providerPaymentId: 'pay_7', reason: 'refused' },
    [{ paymentId: 7, provider: 'sandbox', providerPaymentId: 'pay_7' }, 'markPaid: the store is away'],
  ],
])('a failed try is noted for what it is about: %j', async (input, expected) => {
  const { noted, notes } = openNotes();
  await tryStep(notes, input);
  expect(noted).toEqual([expected]);
});

test.each([undefined, { name: 'holds' }])(
  'a step about nothing that is parked is not noted: %j',
  async (input) => {
    const { noted, notes } = openNotes();
    await tryStep(notes, input);
    expect(noted).toEqual([]);
  },
);

test('a quick try, before anything is parked, is not noted', async () => {
  const { noted, notes } = openNotes();
  await tryStep(notes, { orderNo: 'o-1' }, { isLocal: true });
  expect(noted).toEqual([]);
});

test('a note that fails or hangs changes nothing about the step', async () => {
  const { notes } = openNotes();
  await tryStep({ ...notes, noteFailure: () => Promise.reject(AWAY) }, { orderNo: 'o-1' });
  await tryStep({ ...notes, noteFailure: () => new Promise(() => {}) }, { orderNo: 'o-1' });
});
