/** What operators decide about money and stock, and what the refund workflow reads and records. */

import { beforeAll, describe, expect, test } from 'vitest';
import { readParked } from '../../src/audit/reads.sql.ts';
import { buildPayment, buildReversal, pay, reverse } from '../support/payment-notices.ts';
import { everything, expectBooksToBalance, select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld, type Paid } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

const NO_PAYMENT = 4_000_000_000;

async function requestFor({ payment }: Paid, actor = 'ops') {
  return stores.refunds.request(await world.idOf(payment), actor);
}

/** Paid, and then refunded because an operator requested it. */
async function refundedOrder(): Promise<Paid> {
  const paid = await world.paidOrder();
  await requestFor(paid);
  await stores.refunds.recordReversals('sandbox', [buildReversal(paid.payment)]);
  return paid;
}

async function soldLamps(saleId: string) {
  await expectBooksToBalance(stores, saleId);
  return (await stores.sales.readStock(saleId))[0]?.sold;
}

describe('request', () => {
  test('sends the money of a paid order back: the order stays paid, and says refunded when it is', async () => {
    const { order, payment } = await world.paidOrder();
    const id = await world.idOf(payment);
    expect(await stores.refunds.request(id, 'ops')).toBe('requested');
    expect(await world.rowOf(payment)).toMatchObject({
      status: 'refund_due',
      refund_reason: 'operator_request',
      due: 1,
    });
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'applied', version: 2 });
    await stores.refunds.recordReversals('sandbox', [buildReversal(payment)]);
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'refunded', version: 3 });
    expect(await world.returnedOf(order)).toEqual({ limit_returned: 1, stock_returned: 0 });
    expect(await world.parkedReason(payment)).toBeUndefined();
    expect(await soldLamps(order.saleId)).toBe(1);
  });

  test('is recorded once, however often and by however many operators it is made, before and after the refund', async () => {
    const paid = await world.paidOrder();
    await Promise.all([requestFor(paid), requestFor(paid, 'another')]);
    expect(await requestFor(paid)).toBe('requested');
    await stores.refunds.recordReversals('sandbox', [buildReversal(paid.payment)]);
    expect(await requestFor(paid)).toBe('requested');
    expect(await world.statusOf(paid.payment)).toBe('refunded');
    const audit = await world.auditOf(`payment ${await world.idOf(paid.payment)}`);
    expect(audit.map(({ action }) => action)).toEqual(['refund_requested']);
  });

  test('wakes a refund that is due and that no relay has claimed, and leaves a claim alone', async () => {
    const paid = await world.paidOrder();
    await requestFor(paid);
    await stores.refundClaims.take(1_000);
    expect(await requestFor(paid)).toBe('requested');
    expect(await world.rowOf(paid.payment)).toMatchObject({ status: 'refund_due', due: 0 });
    await world.settleDue();
    expect(await requestFor(paid)).toBe('requested');
    expect(await world.rowOf(paid.payment)).toMatchObject({ status: 'refund_due', due: 1 });
    expect(await world.auditOf(`payment ${await world.idOf(paid.payment)}`)).toHaveLength(1);
  });

  test('sends parked money back, which then waits for no operator any more', async () => {
    const parked = await world.withMoney(await world.storedOrder(), { amount: 1 });
    expect(await requestFor(parked)).toBe('requested');
    expect(await world.statusOf(parked.payment)).toBe('refund_due');
    expect(await world.parkedReason(parked.payment)).toBeUndefined();
    await stores.refunds.recordReversals('sandbox', [buildReversal(parked.payment)]);
    expect(await world.statusOf(parked.payment)).toBe('refunded');
    expect(await world.stateOf(parked.order)).toMatchObject({ payment: 'none', version: 1 });
  });

  test('keeps money that names no order from being parked anew by a late notice of it', async () => {
    const stray = await world.withMoney(await world.newOrder(), { orderNo: 'rent' });
    await requestFor(stray);
    await world.receive(stray.payment);
    expect(await world.parkedReason(stray.payment)).toBeUndefined();
  });

  test('is refused for money that went back by itself, and for money that is unknown', async () => {
    const back = await world.paidOrder();
    await reverse(stores, buildReversal(back.payment));
    expect(await requestFor(back)).toBe('not-refundable');
    expect(await stores.refunds.request(NO_PAYMENT, 'ops')).toBe('unknown');
  });

  test('also takes money that is held for an unknown order; an order stored later awaits payment', async () => {
    const held = await world.withMoney(await world.newOrder());
    expect(await requestFor(held)).toBe('requested');
    await stores.orders.storeOrder(held.order, 'due');
    expect(await world.stateOf(held.order)).toMatchObject({ status: 'awaiting_payment', payment: 'none' });
    expect(await world.statusOf(held.payment)).toBe('refund_due');
  });

  test('for what is left of a payment that went back in part settles what was shown', async () => {
    const paid = await world.paidOrder();
    await reverse(stores, buildReversal(paid.payment, { amount: 900 }));
    await requestFor(paid);
    expect(await world.parkedReason(paid.payment)).toBeUndefined();
    await stores.refunds.recordReversals('sandbox', [buildReversal(paid.payment, { amount: 4_000 })]);
    expect(await world.stateOf(paid.order)).toMatchObject({ payment: 'refunded' });
  });
});

describe('returnStock', () => {
  test('gives the units of a refunded order back to the sale, once', async () => {
    const { order, payment } = await refundedOrder();
    await world.settleDue();
    expect(await stores.refunds.returnStock(order.orderNo, 'ops')).toBe('returned');
    expect(await soldLamps(order.saleId)).toBe(0);
    expect(await world.returnedOf(order)).toEqual({ limit_returned: 1, stock_returned: 1 });
    expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', due: 1 });
    const before = await everything(stores.pool, order.saleId);
    expect(await stores.refunds.returnStock(order.orderNo, 'another')).toBe('returned');
    expect(await everything(stores.pool, order.saleId)).toEqual(before);
    expect(await world.auditOf(order.orderNo)).toEqual([{ actor: 'ops', action: 'stock_returned' }]);
  });

  test('resolves what an operator was asked about the stock, and nothing else that is shown', async () => {
    const [asked, strange] = [await world.paidOrder(), await world.paidOrder()];
    for (const { payment } of [asked, strange]) await reverse(stores, buildReversal(payment));
    await reverse(stores, buildReversal(strange.payment, { kind: 'dispute', status: 'pending' }));
    expect(await world.parkedReason(asked.payment)).toContain('stock comes back only if you say so');
    for (const { order } of [asked, strange])
      expect(await stores.refunds.returnStock(order.orderNo, 'ops')).toBe('returned');
    expect(await world.parkedReason(asked.payment)).toBeUndefined();
    expect(await world.parkedReason(strange.payment)).toContain('more goes back than was paid');
  });

  test('of many at once is booked once', async () => {
    const { order } = await refundedOrder();
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => stores.refunds.returnStock(order.orderNo, 'ops')),
    );
    expect(new Set(answers)).toEqual(new Set(['returned']));
    expect(await soldLamps(order.saleId)).toBe(0);
    expect(await world.auditOf(order.orderNo)).toHaveLength(1);
  });

  test('is refused while the money is not back, and for what was never paid', async () => {
    const paid = await world.paidOrder();
    expect(await stores.refunds.returnStock(paid.order.orderNo, 'ops')).toBe('not-refunded');
    await requestFor(paid);
    expect(await stores.refunds.returnStock(paid.order.orderNo, 'ops')).toBe('not-refunded');
    const cancelled = await world.storedOrder();
    await stores.orders.cancel(cancelled.orderNo, 'payment_timeout', { force: false });
    expect(await stores.refunds.returnStock(cancelled.orderNo, 'ops')).toBe('not-refunded');
    expect(await stores.refunds.returnStock('no-order', 'ops')).toBe('unknown');
    expect(await soldLamps(paid.order.saleId)).toBe(1);
    expect(await world.auditOf(paid.order.orderNo)).toEqual([]);
  });
});

describe('readGiveBacks', () => {
  const readGiveBack = async ({ payment }: Paid) => {
    const given = await stores.refunds.readGiveBacks(await world.idOf(payment));
    return given.map(({ part, ...rest }) => ({ ...rest, hasPart: part !== '' }));
  };

  test('names the limit after the refund, and the stock as well once an operator returned it', async () => {
    const refunded = await refundedOrder();
    const { orderNo, userId, items } = refunded.order;
    const units = items.map(({ sku, quantity }) => ({ sku, quantity }));
    const limit = { orderNo, userId, items: units, limit: true, stock: false, hasPart: true };
    expect(await readGiveBack(refunded)).toEqual([limit]);
    await stores.refunds.returnStock(orderNo, 'ops');
    expect(await readGiveBack(refunded)).toEqual([limit, { ...limit, limit: false, stock: true }]);
  });

  test('names nothing where the sale keeps the limit used, and the stock alone once an operator returned it', async () => {
    const paid = await world.paidOrder({ refundRestoresLimit: false });
    await reverse(stores, buildReversal(paid.payment));
    expect(await readGiveBack(paid)).toEqual([]);
    await stores.refunds.returnStock(paid.order.orderNo, 'ops');
    expect(await readGiveBack(paid)).toMatchObject([{ limit: false, stock: true }]);
  });

  test('names nothing for money that never paid for the order', async () => {
    const refunded = await refundedOrder();
    const second = buildPayment(refunded.order);
    await world.receive(second);
    expect(await readGiveBack({ order: refunded.order, payment: second })).toEqual([]);
    expect(await readGiveBack(await world.paidOrder())).toEqual([]);
    expect(await stores.refunds.readGiveBacks(NO_PAYMENT)).toEqual([]);
  });
});

describe('the refund workflow', () => {
  test('reads what is to be refunded, how often it was refused, and what chargebacks took already', async () => {
    const { order, payment } = await world.paidOrder();
    await pay(stores, order);
    const [due] = await select(
      stores.pool,
      `SELECT payment_id, provider_payment_id FROM payments WHERE order_no = ? AND status = 'refund_due'`,
      [order.orderNo],
    );
    const paymentId = Number(due?.['payment_id']);
    const providerPaymentId = String(due?.['provider_payment_id']);
    await stores.refunds.recordRefusal({ paymentId, providerPaymentId });
    await stores.refunds.recordRefusal({ paymentId, providerPaymentId });
    const dispute = { kind: 'dispute', providerPaymentId, status: 'pending' } as const;
    await reverse(stores, buildReversal(payment, { ...dispute, amount: 900 }));
    await reverse(stores, buildReversal(payment, { ...dispute, amount: 50, status: 'failed' }));
    await reverse(stores, buildReversal(payment, { providerPaymentId, amount: 7 }));
    expect(await stores.refunds.read({ paymentId })).toEqual({
      paymentId,
      provider: 'sandbox',
      providerPaymentId,
      orderNo: order.orderNo,
      amount: 4_900,
      currency: 'EUR',
      status: 'refund_due',
      refusals: 2,
      refusal: null,
      refundTarget: 4_900,
      targets: [],
      isGiveBackDue: false,
      reversals: expect.arrayContaining([
        expect.objectContaining({ kind: 'dispute', amount: 900, status: 'pending' }),
        expect.objectContaining({ kind: 'refund', amount: 7, status: 'succeeded' }),
      ]) as unknown,
      chargedBack: 900,
    });
    expect(await stores.refunds.read({ paymentId: NO_PAYMENT })).toBeUndefined();
  });

  test('shows a refund that keeps failing to an operator until it worked', async () => {
    const paid = await world.paidOrder();
    await requestFor(paid);
    const id = await world.idOf(paid.payment);
    await stores.refunds.park(id, 'the provider refuses', { cause: 'step_failing', step: null });
    expect(await world.parkedReason(paid.payment, 'refund')).toBe('the provider refuses');
    expect((await readParked(stores.pool)).parked).toContain(paid.payment.providerPaymentId);
    await stores.refunds.unpark(id);
    expect(await world.parkedReason(paid.payment, 'refund')).toBeUndefined();
    await stores.refunds.park(id, 'again', { cause: 'step_failing', step: null });
    await stores.refunds.recordReversals('sandbox', [buildReversal(paid.payment)]);
    expect(await world.parkedReason(paid.payment, 'refund')).toBeUndefined();
  });

  test('takes only its own trouble off the list, not what else is shown to an operator about the payment', async () => {
    const { payment } = await world.paidOrder();
    const id = await world.idOf(payment);
    const refund = buildReversal(payment);
    await reverse(stores, refund);
    await reverse(stores, { ...refund, status: 'failed' });
    await stores.refunds.park(id, 'the provider refuses', { cause: 'step_failing', step: null });
    await stores.refunds.unpark(id);
    expect(await world.parkedReason(payment, 'refund')).toBeUndefined();
    expect(await world.parkedReason(payment)).toContain('failed after it had succeeded');
  });

  test('records the refunds of several payments at once, in parts, and learns of none twice', async () => {
    const [one, other] = [await world.paidOrder(), await world.paidOrder()];
    await requestFor(one);
    await requestFor(other);
    const reversals = [
      buildReversal(one.payment, { amount: 4_000 }),
      buildReversal(other.payment, { status: 'pending' }),
      buildReversal(one.payment, { amount: 900 }),
    ];
    await stores.refunds.recordReversals('sandbox', reversals);
    await stores.refunds.recordReversals('sandbox', reversals);
    expect(await world.statusOf(one.payment)).toBe('refunded');
    expect(await world.statusOf(other.payment)).toBe('refund_due');
    expect(await world.stateOf(one.order)).toMatchObject({ payment: 'refunded', version: 3 });
  });
});
