/**
 * What MySQL has recorded as gone back, by payment, as the reconciliation compares it with the provider's
 * list.
 */

import { beforeAll, expect, test } from 'vitest';
import { buildReversal, reverse } from '../support/payment-notices.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

const NOTHING = {
  succeeded: 0,
  pending: 0,
  isDisputed: false,
  isMixed: false,
  refunded: 0,
  wasDisputed: false,
  fee: null,
};

const totalsOf = async (...ids: string[]) =>
  Object.fromEntries(await stores.payments.readReversalTotals('sandbox', ids));

test('a reversal in another currency is flagged and not added', async () => {
  const { payment } = await world.paidOrder();
  const id = payment.providerPaymentId;
  await reverse(stores, buildReversal(payment, { amount: 900 }));
  await reverse(stores, buildReversal(payment, { amount: 4_000, currency: 'USD' }));
  expect(await totalsOf(id)).toEqual({ [id]: { ...NOTHING, succeeded: 900, refunded: 900, isMixed: true } });
});

test('each payment has its own totals, and one without reversals has none', async () => {
  const [untouched, refunded, disputed] = await Promise.all([
    world.paidOrder(),
    world.paidOrder(),
    world.paidOrder(),
  ]);
  await reverse(stores, buildReversal(refunded.payment));
  await reverse(stores, buildReversal(refunded.payment, { amount: 1, status: 'failed' }));
  await reverse(stores, buildReversal(disputed.payment, { kind: 'dispute', amount: 500, status: 'pending' }));
  const ids = [untouched, refunded, disputed].map(({ payment }) => payment.providerPaymentId);
  expect(await totalsOf(...ids)).toEqual({
    [untouched.payment.providerPaymentId]: NOTHING,
    [refunded.payment.providerPaymentId]: {
      ...NOTHING,
      succeeded: refunded.payment.amount,
      refunded: refunded.payment.amount,
    },
    [disputed.payment.providerPaymentId]: {
      ...NOTHING,
      pending: 500,
      isDisputed: true,
      wasDisputed: true,
    },
  });
});

test('refunds that are pending and disputes that are over are counted too, as a provider may list them', async () => {
  const { payment } = await world.paidOrder();
  await reverse(stores, buildReversal(payment, { amount: 900, status: 'pending' }));
  await reverse(stores, buildReversal(payment, { kind: 'dispute', amount: 500, status: 'failed' }));
  const id = payment.providerPaymentId;
  const counted = { ...NOTHING, pending: 900, refunded: 900, wasDisputed: true };
  expect(await totalsOf(id)).toEqual({ [id]: counted });
});

test('a payment that is not recorded, or is of another provider, has no totals', async () => {
  const { payment } = await world.paidOrder();
  await reverse(stores, buildReversal(payment, { providerPaymentId: 'pay_unknown' }));
  expect(await totalsOf('pay_unknown')).toEqual({});
  const others = await stores.payments.readReversalTotals('another', [payment.providerPaymentId]);
  expect(others.size).toBe(0);
});

test('no payments have no totals', async () => {
  expect(await totalsOf()).toEqual({});
});
