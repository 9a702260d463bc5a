/** Held money that is about to go back while its order is being stored: exactly one of both happens. */

import { beforeAll, expect, test } from 'vitest';
import { mysqlStores } from '../../src/stores/bound.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildReversal } from '../support/payment-notices.ts';
import { waitForStatement } from '../support/rows.ts';
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
 * Another connection holds what `sql` locks while `act`
 * begins, and lets go when `act` has got where it must wait.
 */
async function whileHolding(
  [sql, value]: [string, string],
  act: (letGo: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const rival = await stores.pool.getConnection();
  try {
    await rival.beginTransaction();
    await rival.query(sql, [value]);
    await act(() => rival.commit());
  } finally {
    await rival.rollback();
    rival.release();
  }
}

/** After the order was looked for and not found, before the payment is locked. */
const LOCKING_THE_PAYMENT = /FROM payments WHERE payment_id = \? FOR UPDATE/;

test('an order that is stored just after it was not found keeps its money from going back', async () => {
  const { order, payment } = await world.withMoney(await world.newOrder());
  const id = await world.idOf(payment);
  const pool = pausingPool(stores.pool, LOCKING_THE_PAYMENT, () => stores.orders.storeOrders([order], 'due'));
  await mysqlStores(pool).unmatchedPayments.refund(id, 'order_unknown');
  expect(await world.statusOf(payment)).toBe('applied');
  expect(await world.stateOf(order)).toMatchObject({ status: 'paid' });
});

test('an order that is stored just after it was not found learns that its money went back', async () => {
  const { order, payment } = await world.withMoney(await world.newOrder());
  const pool = pausingPool(stores.pool, LOCKING_THE_PAYMENT, () => stores.orders.storeOrders([order], 'due'));
  await mysqlStores(pool).refunds.recordReversals('sandbox', [buildReversal(payment)]);
  expect(await world.statusOf(payment)).toBe('refunded');
  expect(await world.stateOf(order)).toMatchObject({
    status: 'paid',
    payment: 'refunded',
    version: 3,
  });
});

test('an order that is just being stored keeps its money from going back', async () => {
  const { order, payment } = await world.withMoney(await world.newOrder());
  const id = await world.idOf(payment);
  await whileHolding(['SELECT held FROM skus WHERE sale_id = ? FOR UPDATE', order.saleId], async (letGo) => {
    // Order and money are matched, and not committed: the counters, which come last, are not to be had.
    const storing = stores.orders.storeOrders([order], 'due');
    await waitForStatement(stores.pool, 'UPDATE skus SET held%');
    const refunding = stores.unmatchedPayments.refund(id, 'order_unknown');
    await waitForStatement(
      stores.pool,
      `SELECT%FROM orders WHERE order_no IN ('${order.orderNo}')%FOR UPDATE`,
    );
    await letGo();
    await Promise.all([storing, refunding]);
  });
  expect(await world.statusOf(payment)).toBe('applied');
  expect(await world.stateOf(order)).toMatchObject({ status: 'paid' });
});

test('money that is just going back is not matched by an order stored at that moment', async () => {
  const { order, payment } = await world.withMoney(await world.newOrder());
  const id = await world.idOf(payment);
  await stores.unmatchedPayments.park(payment.providerPaymentId, 'no such sale', 'no_order_named');
  await whileHolding(
    [
      `SELECT reason FROM parked WHERE kind = 'payment' AND reference = ? FOR UPDATE`,
      payment.providerPaymentId,
    ],
    async (letGo) => {
      // The money is to be refunded, and not committed.
      const refunding = stores.unmatchedPayments.refund(id, 'order_unknown');
      await waitForStatement(stores.pool, 'UPDATE parked%');
      const storing = stores.orders.storeOrders([order], 'due');
      await waitForStatement(stores.pool, 'SELECT%FROM payments FORCE INDEX%FOR UPDATE');
      await letGo();
      await Promise.all([storing, refunding]);
    },
  );
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refund_due', refund_reason: 'order_unknown' });
  expect(await world.stateOf(order)).toMatchObject({
    status: 'awaiting_payment',
    payment: 'none',
    version: 1,
  });
});

test('storing and refunding at once, many times: the money is on the order or goes back, never both', async () => {
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  for (let round = 0; round < 24; round += 1) {
    const { order, payment } = await world.withMoney(buildOrder({ saleId }));
    const id = await world.idOf(payment);
    await Promise.all([
      stores.orders.storeOrders([order], 'due'),
      stores.unmatchedPayments.refund(id, 'order_unknown'),
      stores.unmatchedPayments.park(payment.providerPaymentId, 'no such sale', 'no_order_named'),
    ]);
    const status = await world.statusOf(payment);
    const state = await world.stateOf(order);
    expect([status, state?.payment]).toEqual(
      status === 'applied' ? ['applied', 'applied'] : ['refund_due', 'none'],
    );
    expect(await world.parkedReason(payment)).toBeUndefined();
  }
});
