/** Refunds and chargebacks of money that has not been applied yet, or is not even known. */

import { beforeAll, describe, expect, test } from 'vitest';
import type { Reversal } from '../../src/money/payment.ts';
import type { Order } from '../../src/orders/content.ts';
import { buildNotice, buildPayment, buildReversal, pay, reverse, sign } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

async function begin({ orderNo }: Order) {
  const outcome = await stores.paymentSessions.begin('sandbox', orderNo, sign);
  if (outcome.kind !== 'begun') throw new Error(outcome.kind);
  return outcome.session;
}

const sessionStatuses = async ({ orderNo }: Order) =>
  (
    await select(stores.pool, 'SELECT status FROM payment_sessions WHERE order_no = ? ORDER BY status', [
      orderNo,
    ])
  ).map(({ status }) => status);

const reversalOf = ({ providerReversalId }: Reversal) =>
  selectOne(stores.pool, 'SELECT status, amount FROM reversals WHERE provider_reversal_id = ?', [
    providerReversalId,
  ]);

describe('a payment whose order is not stored yet', () => {
  const heldMoney = async () => world.withMoney(await world.newOrder());

  test('is never applied once all of it went back: the order awaits another', async () => {
    const { order, payment } = await heldMoney();
    expect(await reverse(stores, buildReversal(payment))).toBeUndefined();
    expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', applied: 0 });
    await stores.orders.storeOrder(order, 'due');
    const open = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
    expect(await world.stateOf(order)).toEqual(open);
    await pay(stores, order);
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'applied' });
    expect(await world.statusOf(payment)).toBe('refunded');
  });

  test.each([
    { amount: 1 },
    { status: 'pending' },
    { kind: 'dispute', status: 'pending' },
    { currency: 'USD' },
  ] as const)('waits for an operator when it is not all there (%o)', async (overrides) => {
    const { order, payment } = await heldMoney();
    await reverse(stores, buildReversal(payment, overrides));
    expect(await world.statusOf(payment)).toBe('parked');
    expect(await world.parkedReason(payment)).toContain('before it was applied');
    await stores.orders.storeOrder(order, 'due');
    expect(await world.statusOf(payment)).toBe('parked');
    expect(await world.stateOf(order)).toMatchObject({ status: 'awaiting_payment', payment: 'none' });
  });

  test('pays for its order when a refund of it failed', async () => {
    const { order, payment } = await heldMoney();
    await reverse(stores, buildReversal(payment, { status: 'failed' }));
    await stores.orders.storeOrder(order, 'due');
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', version: 2 });
    expect(await world.statusOf(payment)).toBe('applied');
  });
});

describe('a reversal that comes before its payment', () => {
  test('is kept; the payment is refunded when it comes, and the order awaits another', async () => {
    const order = await world.storedOrder();
    const payment = buildPayment(order);
    const reversal = buildReversal(payment);
    expect(await reverse(stores, reversal)).toBeUndefined();
    expect(await reversalOf(reversal)).toMatchObject({ status: 'succeeded' });
    expect(await world.receive(payment)).toMatchObject({ state: { payment: 'none', version: 1 } });
    expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', applied: 0 });
    expect(await world.parkedReason(payment)).toBeUndefined();
  });

  test('leaves no session that was paid, for the shopper to pay again', async () => {
    const order = await world.storedOrder();
    const first = await begin(order);
    const payment = buildPayment(order);
    await reverse(stores, buildReversal(payment));
    await world.receive(payment);
    expect((await begin(order)).sessionId).not.toBe(first.sessionId);
    expect(await sessionStatuses(order)).toEqual(['opening', 'paid']);
  });

  test('and is not the only one is shown when more goes back than was paid', async () => {
    const order = await world.storedOrder();
    const payment = buildPayment(order);
    await reverse(stores, buildReversal(payment));
    await reverse(stores, buildReversal(payment, { kind: 'dispute', status: 'pending' }));
    await world.receive(payment);
    expect(await world.statusOf(payment)).toBe('refunded');
    expect(await world.parkedReason(payment)).toContain('more goes back than was paid');
  });

  test('parks the payment when it is a part of it', async () => {
    const order = await world.storedOrder();
    const payment = buildPayment(order);
    await reverse(stores, buildReversal(payment, { amount: 1 }));
    expect(await world.receive(payment)).toMatchObject({ state: { payment: 'none' } });
    expect(await world.statusOf(payment)).toBe('parked');
  });

  test('says nothing about the order’s other payment', async () => {
    const { order, payment: own } = await world.paidOrder();
    const second = buildPayment(order);
    await reverse(stores, buildReversal(second));
    expect(await world.receive(second)).toMatchObject({ state: { payment: 'applied', version: 2 } });
    expect(await world.statusOf(own)).toBe('applied');
    expect(await world.statusOf(second)).toBe('refunded');
  });

  test('of another provider with the same id is another payment’s', async () => {
    const { order, payment } = await world.paidOrder();
    await reverse(stores, buildReversal(payment), 'another');
    expect(await world.statusOf(payment)).toBe('applied');
    expect(await world.stateOf(order)).toMatchObject({ payment: 'applied', version: 2 });
    await stores.payments.receive('sandbox', buildNotice(payment), '{}');
    expect(await world.statusOf(payment)).toBe('applied');
  });
});
