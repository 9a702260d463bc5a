/** Unmatched payments: money that is held for orders that are not stored. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { agePayment } from '../support/ageing.ts';
import { selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld, type Paid } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});
beforeEach(() => modify(stores.pool, 'DELETE FROM payments'));

const age = (seconds: number) => agePayment(stores.pool, 'all', seconds);

/** Money that has waited for its order long enough to be looked into. */
async function heldMoney(overrides: { signedOrder?: string; amount?: number } = {}): Promise<Paid> {
  const held = await world.withMoney(await world.newOrder(), overrides);
  await age(61);
  return held;
}

const listed = async (limit = 10) =>
  (await stores.unmatchedPayments.list(limit)).map(({ providerPaymentId }) => providerPaymentId);

test('money whose order was not stored for a minute is listed, with what may restore the order', async () => {
  const { order, payment } = await world.withMoney(await world.newOrder(), { signedOrder: 'signed' });
  expect(await listed()).toEqual([]);
  await age(61);
  const { ms } = await selectOne(
    stores.pool,
    'SELECT UNIX_TIMESTAMP(received_at) * 1000 AS ms FROM payments WHERE provider_payment_id = ?',
    [payment.providerPaymentId],
  );
  expect(await stores.unmatchedPayments.list(10)).toEqual([
    {
      paymentId: await world.idOf(payment),
      providerPaymentId: payment.providerPaymentId,
      orderNo: order.orderNo,
      receivedAtMs: Number(ms),
      signedOrder: 'signed',
    },
  ]);
});

test('what a second notice knows of the order is added, what the first knew stays', async () => {
  const { payment } = await heldMoney();
  await world.receive({ ...payment, signedOrder: 'late' });
  await world.receive({ ...payment, signedOrder: 'later' });
  await world.receive({ ...payment, signedOrder: null });
  expect(await stores.unmatchedPayments.list(10)).toMatchObject([{ signedOrder: 'late' }]);
});

test('a signed order that is longer than any of ours is cut, so that it is seen to be none of ours', async () => {
  await heldMoney({ signedOrder: 'x'.repeat(70_000) });
  expect(await stores.unmatchedPayments.list(10)).toMatchObject([{ signedOrder: 'x'.repeat(20_000) }]);
});

test('money of stored orders, of no order, and what is decided or shown already is not listed', async () => {
  await world.paidOrder();
  await world.withMoney(await world.newOrder(), { orderNo: 'rent' });
  const refunded = await heldMoney();
  await stores.unmatchedPayments.refund(await world.idOf(refunded.payment), 'order_unknown');
  const shown = await heldMoney();
  await stores.unmatchedPayments.park(shown.payment.providerPaymentId, 'no such sale', 'no_order_named');
  const open = await heldMoney();
  expect(await listed()).toEqual([open.payment.providerPaymentId]);
});

test('those that must wait do not keep the others from their turn for ever', async () => {
  const held = [await heldMoney(), await heldMoney(), await heldMoney()];
  const seen = new Set<string>();
  while (seen.size < held.length) for (const id of await listed(1)) seen.add(id);
  expect(seen).toEqual(new Set(held.map(({ payment }) => payment.providerPaymentId)));
});

test('held money goes back with the reason why, and an order stored later awaits payment', async () => {
  const { order, payment } = await heldMoney();
  await stores.unmatchedPayments.refund(await world.idOf(payment), 'sold_out');
  expect(await world.rowOf(payment)).toMatchObject({
    status: 'refund_due',
    refund_reason: 'sold_out',
    due: 1,
  });
  await stores.unmatchedPayments.refund(await world.idOf(payment), 'order_unknown');
  expect(await world.rowOf(payment)).toMatchObject({ refund_reason: 'sold_out' });
  await stores.orders.storeOrder(order, 'due');
  expect(await world.stateOf(order)).toMatchObject({ status: 'awaiting_payment', payment: 'none' });
});

test('money whose order is stored by now has paid for it, and nothing is shown', async () => {
  const { order, payment } = await heldMoney();
  await stores.orders.storeOrder(order, 'due');
  await stores.unmatchedPayments.refund(await world.idOf(payment), 'order_unknown');
  await stores.unmatchedPayments.park(payment.providerPaymentId, 'no such sale', 'no_order_named');
  expect(await world.statusOf(payment)).toBe('applied');
  expect(await world.stateOf(order)).toMatchObject({ status: 'paid', version: 2 });
  expect(await world.parkedReason(payment)).toBeUndefined();
});

test('money that is shown still finds an order stored late, and is shown no more', async () => {
  const { order, payment } = await heldMoney();
  await stores.unmatchedPayments.park(payment.providerPaymentId, 'no such sale', 'no_order_named');
  expect(await world.parkedReason(payment)).toBe('no such sale');
  await stores.orders.storeOrder(order, 'started');
  expect(await world.parkedReason(payment)).toBeUndefined();
  expect(await world.stateOf(order)).toMatchObject({ status: 'paid' });
});

test('money that is shown goes back when its order is abandoned, and is shown no more', async () => {
  const { order, payment } = await heldMoney();
  await stores.unmatchedPayments.park(payment.providerPaymentId, 'no such sale', 'no_order_named');
  await stores.orders.abandon(order, 'store_unavailable');
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refund_due', refund_reason: 'order_ended' });
  expect(await world.parkedReason(payment)).toBeUndefined();
});

test('a wrong amount that was shown because of its order is then shown because of the amount', async () => {
  const { order, payment } = await heldMoney({ amount: 1 });
  await stores.unmatchedPayments.park(payment.providerPaymentId, 'no such sale', 'no_order_named');
  await stores.orders.storeOrder(order, 'started');
  expect(await world.statusOf(payment)).toBe('parked');
  expect(await world.parkedReason(payment)).toContain('costs 4900 EUR');
});

test('money that is parked because nothing could be decided is looked at again after a while', async () => {
  const { payment } = await heldMoney();
  await stores.unmatchedPayments.park(payment.providerPaymentId, 'its sale is away', 'undecided');
  expect(await listed()).toEqual([]);

  await modify(stores.pool, 'UPDATE parked SET last_seen_at = last_seen_at - INTERVAL 11 MINUTE');
  expect(await listed()).toEqual([payment.providerPaymentId]);
});

test('money that an operator has settled by hand is not looked at again', async () => {
  const { payment } = await heldMoney();
  await stores.unmatchedPayments.park(payment.providerPaymentId, 'no such sale', 'undecided');
  const entries = await stores.parkedWork.list({ kind: 'payment', limit: 100 });
  const entry = entries.find(({ reference }) => reference === payment.providerPaymentId);
  await stores.parkedWork.resolve(entry?.parkedId ?? 0, { actor: 'ada', reason: 'rent' });

  await modify(stores.pool, 'UPDATE parked SET last_seen_at = last_seen_at - INTERVAL 11 MINUTE');
  expect(await listed()).toEqual([]);
});
