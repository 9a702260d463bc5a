/** Claims of due refunds: relays take, complete and release them, and no two have the same. */

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { ProviderPayment } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import { buildReversal, reverse } from '../support/payment-notices.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});
afterAll(() => stores.close());
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

/** As if it had become due, or its claim had run out, so long ago. */
const ageDue = (payment: ProviderPayment | undefined, seconds: number) =>
  modify(
    stores.pool,
    `UPDATE payments SET engine_due_at = NOW(3) - INTERVAL ? SECOND
     WHERE provider_payment_id = ? AND engine_due_at IS NOT NULL`,
    [seconds, payment?.providerPaymentId],
  );

const idsOf = (payments: readonly ProviderPayment[]) => Promise.all(payments.map(world.idOf));
const claim = async (limit: number) =>
  (await stores.refundClaims.take(limit)).map(({ paymentId }) => paymentId);

test('a refund that is due is claimed once, with what its workflow needs', async () => {
  const payments = await lateMoney(1);
  const [payment] = payments;
  const [paymentId] = await idsOf(payments);
  const claimed = await stores.refundClaims.take(10);
  expect(claimed).toMatchObject([
    { paymentId, orderNo: payment?.orderNo, amount: 4_900, currency: 'EUR', reason: 'order_ended' },
  ]);
  expect(await stores.refundClaims.take(10)).toEqual([]);
});

test('the longest due come first, up to the limit', async () => {
  const payments = await lateMoney(3);
  const [young, old, middle] = payments;
  await ageDue(young, 10);
  await ageDue(old, 30);
  await ageDue(middle, 20);
  const [youngId, oldId, middleId] = await idsOf(payments);
  expect(await claim(2)).toEqual([oldId, middleId]);
  expect(await claim(2)).toEqual([youngId]);
});

test('relays that claim at once never get the same refund, and together get all', async () => {
  const payments = await lateMoney(12);
  const claims = await Promise.all(Array.from({ length: 4 }, () => claim(5)));
  const claimed = [...claims.flat(), ...(await claim(20))];
  expect(claimed).toHaveLength(12);
  expect(new Set(claimed)).toEqual(new Set(await idsOf(payments)));
});

test('a completed claim is due no more; a released one is due at once', async () => {
  const payments = await lateMoney(2);
  const [first, second] = await idsOf(payments);
  const claimed = await stores.refundClaims.take(2);
  await stores.refundClaims.complete(claimed.filter(({ paymentId }) => paymentId === first));
  await stores.refundClaims.release(claimed.filter(({ paymentId }) => paymentId === second));
  expect(await claim(2)).toEqual([second]);
  for (const payment of payments) await ageDue(payment, 0);
  expect(await claim(2)).toEqual([second]);
});

test('what was not tried, and what failed once or twice, keeps its place; a third failure in a row loses it', async () => {
  const payments = await lateMoney(3);
  const [poison, ...others] = await idsOf(payments);
  for (const [i, payment] of payments.entries()) await ageDue(payment, 40 - i);

  for (let tries = 0; tries < 3; tries += 1) {
    const claimed = await stores.refundClaims.take(2);
    expect(claimed[0]?.paymentId).toBe(poison);
    await stores.refundClaims.release(claimed, claimed.slice(0, 1));
  }

  expect(await claim(3)).toEqual([...others, poison]);
});

test('the claim of a relay that died runs out', async () => {
  const payments = await lateMoney(1);
  await claim(1);
  await ageDue(payments[0], 0);
  expect(await claim(1)).toEqual(await idsOf(payments));
});

test('news of a refund while it is claimed keeps it due', async () => {
  const [payment] = await lateMoney(1);
  if (!payment) throw new Error('no payment');
  const claimed = await stores.refundClaims.take(1);
  await reverse(stores, buildReversal(payment));
  await stores.refundClaims.complete(claimed);
  expect(await claim(1)).toEqual([await world.idOf(payment)]);
});

test('a relay that completes its claim late does not end the claim of the next', async () => {
  const payments = await lateMoney(1);
  // As if taken an hour ago: two claims within one millisecond run out at the same time.
  const late = (await stores.refundClaims.take(1)).map((taken) => ({
    ...taken,
    claimedUntilMs: taken.claimedUntilMs - 3_600_000,
  }));
  expect(late).toHaveLength(1);
  await ageDue(payments[0], 0);
  expect(await claim(1)).toEqual(await idsOf(payments));
  await stores.refundClaims.complete(late);
  await ageDue(payments[0], 0);
  expect(await claim(1)).toEqual(await idsOf(payments));
});

test('a claim that is released late makes nothing due that was completed', async () => {
  await lateMoney(1);
  const claimed = await stores.refundClaims.take(1);
  await stores.refundClaims.complete(claimed);
  await stores.refundClaims.release(claimed);
  expect(await claim(1)).toEqual([]);
});

test('completing and releasing no claims does nothing', async () => {
  const payments = await lateMoney(1);
  await stores.refundClaims.complete([]);
  await stores.refundClaims.release([]);
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
