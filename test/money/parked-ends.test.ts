/** How parked payments end: by what happens at the provider, or by an operator, and then for good. */

import { beforeAll, expect, test } from 'vitest';
import type { ProviderPayment } from '../../src/money/payment.ts';
import { buildReversal, reverse } from '../support/payment-notices.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

/** `ops parked resolve` */
async function resolve(payment: ProviderPayment): Promise<void> {
  const { providerPaymentId } = payment;
  const entries = await stores.parkedWork.list({ kind: 'payment', limit: 1_000 });
  const entry = entries.find(({ reference }) => reference === providerPaymentId);
  expect(entry).toBeDefined();
  await stores.parkedWork.resolve(entry?.parkedId ?? 0, { actor: 'ada', reason: 'settled by hand' });
  expect(await world.parkedReason(payment)).toBeUndefined();
}

test('a partial refund that an operator has settled stays settled when it succeeds, and a further one is shown', async () => {
  const { payment } = await world.paidOrder();
  const pending = buildReversal(payment, { amount: 900, status: 'pending' });
  await reverse(stores, pending);
  await resolve(payment);

  await reverse(stores, { ...pending, status: 'succeeded' });
  expect(await world.parkedReason(payment)).toBeUndefined();

  await reverse(stores, buildReversal(payment, { amount: 100 }));
  expect(await world.parkedReason(payment)).toContain('1000 went back');
});

test('the provider’s list does not bring back what an operator has settled', async () => {
  const { payment } = await world.paidOrder();
  const part = buildReversal(payment, { amount: 900 });
  await reverse(stores, part);
  await resolve(payment);

  await stores.refunds.recordReversals('sandbox', [part], 'provider');

  expect(await world.parkedReason(payment)).toBeUndefined();
});

test('more that goes back than was paid is shown no longer once it is as much as was paid', async () => {
  const { payment } = await world.paidOrder();
  const dispute = buildReversal(payment, { kind: 'dispute', status: 'pending' });
  await reverse(stores, buildReversal(payment));
  await reverse(stores, dispute);
  expect(await world.parkedReason(payment)).toContain('more goes back than was paid');

  await reverse(stores, { ...dispute, status: 'failed' });

  // Whether the units may be sold again is as open as before.
  expect(await world.parkedReason(payment)).toContain('stock comes back only if you say so');
});

test('more that goes back of a payment that paid for nothing ends the same way, and asks nothing', async () => {
  const { payment } = await world.withMoney(await world.storedOrder(), { amount: 1_000 });
  const dispute = buildReversal(payment, { kind: 'dispute', status: 'pending' });
  await reverse(stores, buildReversal(payment));
  await reverse(stores, dispute);
  expect(await world.parkedReason(payment)).toContain('more goes back than was paid');

  await reverse(stores, { ...dispute, status: 'failed' });

  expect(await world.parkedReason(payment)).toBeUndefined();
});

test('a payment that is parked for its amount, or for an unknown order, ends when staff refund all of it', async () => {
  const wrong = await world.withMoney(await world.storedOrder(), { amount: 1_000 });
  const unmatched = await world.withMoney(await world.newOrder());
  await stores.unmatchedPayments.park(unmatched.payment.providerPaymentId, 'no such sale', 'no_order_named');

  for (const { payment } of [wrong, unmatched]) {
    expect(await world.parkedReason(payment)).toBeDefined();
    await reverse(stores, buildReversal(payment));
    expect([await world.statusOf(payment), await world.parkedReason(payment)]).toEqual([
      'refunded',
      undefined,
    ]);
  }
});

test('a refund that keeps failing ends when staff refund what is left', async () => {
  const { payment } = await world.paidOrder();
  const paymentId = await world.idOf(payment);
  await stores.refunds.request(paymentId, 'ada');
  await stores.refunds.park(paymentId, 'refused', { cause: 'step_failing', step: null });
  expect(await world.parkedReason(payment, 'refund')).toBeDefined();

  await reverse(stores, buildReversal(payment, { amount: 900 }));
  expect(await world.parkedReason(payment, 'refund')).toBeDefined();
  await reverse(stores, buildReversal(payment, { amount: 4_000 }));

  expect(await world.parkedReason(payment, 'refund')).toBeUndefined();
});
