/** Claims of due refunds: what claims of orders have not. `orders/claims.test.ts` has the rest. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import type { ProviderPayment } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import { ageClaim } from '../support/ageing.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});
// What is due is due of all orders: each test begins with nothing.
beforeEach(() => world.settleDue());

/** So many payments that came after their order was cancelled. */
async function lateMoney(count: number): Promise<ProviderPayment[]> {
  const order = await world.storedOrder();
  await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  const payments: ProviderPayment[] = [];
  for (let i = 0; i < count; i += 1) payments.push((await world.withMoney(order)).payment);
  return payments;
}

const nameOf = (payment: ProviderPayment | undefined) => ({
  provider: 'sandbox',
  providerPaymentId: payment?.providerPaymentId,
});

const idsOf = (payments: readonly ProviderPayment[]) => Promise.all(payments.map(world.idOf));
const claim = async (limit: number) =>
  (await stores.refundClaims.take(limit)).map(({ paymentId }) => paymentId);

test('a claim has what the workflow of its refund needs', async () => {
  const payments = await lateMoney(1);
  const [payment] = payments;
  const [paymentId] = await idsOf(payments);
  const claimed = await stores.refundClaims.take(10);
  expect(claimed).toMatchObject([
    { paymentId, orderNo: payment?.orderNo, amount: 4_900, currency: 'EUR', reason: 'order_ended' },
  ]);
});

test('a relay that completes its claim late does not end the claim of the next', async () => {
  const payments = await lateMoney(1);
  // As if taken an hour ago: two claims within one millisecond run out at the same time.
  const late = (await stores.refundClaims.take(1)).map((taken) => ({
    ...taken,
    claimedUntilMs: taken.claimedUntilMs - 3_600_000,
  }));
  expect(late).toHaveLength(1);
  await ageClaim(stores.pool, 'refund', 'all', 0);
  expect(await claim(1)).toEqual(await idsOf(payments));
  await stores.refundClaims.complete(late);
  await ageClaim(stores.pool, 'refund', 'all', 0);
  expect(await claim(1)).toEqual(await idsOf(payments));
});

test('open refunds are listed page by page, and those that are due or claimed are not waiting', async () => {
  const payments = await lateMoney(3);
  const [first = 0, second = 0, third = 0] = await idsOf(payments);
  await world.settleDue();
  await modify(stores.pool, 'UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id = ?', [second]);
  const { payment: applied } = await world.paidOrder();
  const after = { paymentId: first - 1 };

  expect(await stores.refundClaims.listOpen(after, 2)).toEqual([
    { ...nameOf(payments[0]), paymentId: first, isWaiting: true },
    { ...nameOf(payments[1]), paymentId: second, isWaiting: false },
  ]);

  const rest = await stores.refundClaims.listOpen({ paymentId: second }, 10);
  expect(rest).toEqual([{ ...nameOf(payments[2]), paymentId: third, isWaiting: true }]);
  expect(rest.map(({ paymentId }) => paymentId)).not.toContain(await world.idOf(applied));
});

test('lost refunds are due again, each by one of two at once, and no others', async () => {
  const payments = await lateMoney(3);
  const ids = await idsOf(payments);
  const [claimed = 0, ...lost] = ids;
  await world.settleDue();
  await modify(
    stores.pool,
    'UPDATE payments SET engine_due_at = NOW(3) + INTERVAL 20 SECOND WHERE payment_id = ?',
    [claimed],
  );
  const { payment: applied } = await world.paidOrder();
  const all = [...ids, await world.idOf(applied)];

  const requeued = await Promise.all([stores.refundClaims.requeue(all), stores.refundClaims.requeue(all)]);

  expect(new Set(requeued.flat())).toEqual(new Set(lost));
  expect(new Set(await claim(10))).toEqual(new Set(lost));
  expect(await stores.refundClaims.requeue([])).toEqual([]);
});
