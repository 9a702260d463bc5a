/** Refunds and chargebacks that come while their payment, or its order, changes. */

import { beforeAll, expect, test } from 'vitest';
import type { ProviderPayment } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { buildNotice, buildPayment, buildReversal, reverse } from '../support/payment-notices.ts';
import { expectBooksToBalance, waitForStatement } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';
import { pausingPool } from './pausing-pool.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

/**
 * Begins `act`, which then waits for a row that another
 * connection holds; `meanwhile` happens before that is let go.
 */
async function holdUp(
  [lock, value]: [string, string],
  act: () => Promise<unknown>,
  waitsAt: string,
  meanwhile: () => Promise<unknown>,
): Promise<void> {
  const rival = await stores.pool.getConnection();
  let acting: Promise<unknown> = Promise.resolve();
  try {
    await rival.beginTransaction();
    await modify(rival, lock, [value]);
    acting = act();
    await waitForStatement(stores.pool, waitsAt);
    await meanwhile();
  } finally {
    await rival.rollback();
    rival.release();
    await acting;
  }
}

test('a reversal that did not find its payment, before the payment came, still meets it', async () => {
  const payment = buildPayment(await world.storedOrder());
  const pool = pausingPool(stores.pool, /INSERT INTO reversals/, () => world.receive(payment));
  await reverse({ ...stores, payments: mysqlStores(pool).payments }, buildReversal(payment));
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', applied: 1 });
  expect(await world.stateOf(await orderOf(payment))).toMatchObject({ status: 'paid', payment: 'refunded' });
});

test('a payment that is being written when its reversal comes meets it', async () => {
  const payment = buildPayment(await world.newOrder());
  let reversing: Promise<unknown> = Promise.resolve();
  // The payment of an order that is not stored: its notice
  // is written, the payment itself waits for the rival.
  await holdUp(
    [
      `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status)
       VALUES ('sandbox', ?, 'another', 1, 'EUR', 'parked')`,
      payment.providerPaymentId,
    ],
    () => stores.payments.receive('sandbox', buildNotice(payment), '{}'),
    `INSERT INTO payments%${payment.providerPaymentId}%`,
    async () => {
      reversing = reverse(stores, buildReversal(payment));
      await waitForStatement(stores.pool, `SELECT%FROM payments WHERE provider = %FOR UPDATE`);
    },
  );
  await reversing;
  expect(await world.statusOf(payment)).toBe('refunded');
});

test('payment and reversal at once, many times: no payment misses that it went back', async () => {
  for (let round = 0; round < 20; round += 1) {
    const payment = buildPayment(await world.storedOrder());
    await Promise.all([world.receive(payment), reverse(stores, buildReversal(payment))]);
    await expectSoldAndRefundedOrNeverApplied(payment);
  }
});

test('storing an order and reversing its early money at once, many times: no order misses that it went back', async () => {
  for (let round = 0; round < 12; round += 1) {
    const { order, payment } = await world.withMoney(await world.newOrder());
    await Promise.all([
      stores.orders.storeOrders([order], 'started'),
      reverse(stores, buildReversal(payment)),
    ]);
    await expectSoldAndRefundedOrNeverApplied(payment);
  }
});

test('two halves reported at once by notice and by workflow: the payment is refunded, and the order changes once a half', async () => {
  for (let round = 0; round < 8; round += 1) {
    const { order, payment } = await world.paidOrder();
    const halves = [1, 2].map(() => buildReversal(payment, { amount: 2_450 }));
    await Promise.all([
      ...halves.map((half) => reverse(stores, half)),
      ...halves.map((half) => stores.refunds.recordReversals('sandbox', [half])),
    ]);
    expect(await world.statusOf(payment)).toBe('refunded');
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'refunded', version: 4 });
  }
});

test('one reversal’s statuses reported at once end at the greatest rank', async () => {
  for (let round = 0; round < 8; round += 1) {
    const { order, payment } = await world.paidOrder();
    const dispute = buildReversal(payment, { kind: 'dispute' });
    const statuses = ['pending', 'failed', 'succeeded'] as const;
    await Promise.all(statuses.map((status) => reverse(stores, { ...dispute, status })));
    expect(await world.statusOf(payment)).toBe('applied');
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'applied' });
    expect(await world.parkedReason(payment)).toBeUndefined();
  }
});

async function expectSoldAndRefundedOrNeverApplied(payment: ProviderPayment): Promise<void> {
  const order = await orderOf(payment);
  const state = await world.stateOf(order);
  const isPaid = state?.status === 'paid';
  expect([state?.status, state?.payment]).toEqual(
    isPaid ? ['paid', 'refunded'] : ['awaiting_payment', 'none'],
  );
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', applied: isPaid ? 1 : 0 });
  await expectBooksToBalance(stores, order.saleId);
}

async function orderOf({ orderNo }: ProviderPayment) {
  const stored = await stores.orders.read(orderNo);
  if (!stored) throw new Error(`order ${orderNo} is not stored`);
  return stored.order;
}
