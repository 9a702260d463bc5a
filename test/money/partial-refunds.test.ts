/** Refunds that staff request by order: of some of the money, or of some of the units. */

import { beforeAll, describe, expect, test } from 'vitest';
import type { Reversal, RefundWish } from '../../src/money/payment.ts';
import { buildReversal, reverse } from '../support/payment-notices.ts';
import { everything, expectBooksToBalance, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld, type Paid } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

const OLGA = { actor: 'olga', reason: 'it arrived broken' };
let keys = 0;

const money = (amount: number): RefundWish => ({
  kind: 'money',
  amount,
  restock: false,
  restoresLimit: undefined,
});
interface UnitsWish {
  amount?: number;
  charges?: boolean;
  restock?: boolean;
  restoresLimit?: boolean;
}

const lamps = (quantity: number, wish: UnitsWish = {}): RefundWish => ({
  kind: 'units',
  items: [{ sku: 'lamp', quantity }],
  amount: wish.amount,
  charges: wish.charges ?? false,
  restock: wish.restock ?? true,
  restoresLimit: wish.restoresLimit,
});
const all = (restock = false): RefundWish => ({ kind: 'all', restock, restoresLimit: undefined });

function request({ order }: Paid, wish: RefundWish, key = `key-${(keys += 1)}`, fingerprint = 'f') {
  return stores.refunds.requestByOrder(order.orderNo, wish, OLGA, { idempotencyKey: key, fingerprint });
}

async function requested(paid: Paid, wish: RefundWish) {
  const outcome = await request(paid, wish);
  if (outcome.kind !== 'requested') throw new Error(JSON.stringify(outcome));
  return outcome.refund;
}

/** The provider reports this much as refunded. */
const makeRefund = ({ payment }: Paid, amount: number, change: Partial<Reversal> = {}) =>
  reverse(stores, buildReversal(payment, { amount, ...change }));

const targetOf = async ({ payment }: Paid) =>
  Number(
    (
      await selectOne(
        stores.pool,
        'SELECT COALESCE(refund_target, 0) AS target FROM payments WHERE provider_payment_id = ?',
        [payment.providerPaymentId],
      )
    )['target'],
  );

async function soldLamps({ order }: Paid) {
  await expectBooksToBalance(stores, order.saleId);
  return (await stores.sales.readStock(order.saleId))[0]?.sold;
}

const statusesOf = async ({ order }: Paid) =>
  (await stores.refunds.readRefundsOf(order.orderNo)).map(({ amount, status }) => `${amount} ${status}`);

describe('a part of the money', () => {
  test('goes back: the payment is due up to it, and applied again once it is with the payer', async () => {
    const paid = await world.paidOrder();
    const refund = await requested(paid, money(1_000));
    expect(refund).toMatchObject({ amount: 1_000, items: null, status: 'requested', ...OLGA });
    expect(await world.rowOf(paid.payment)).toMatchObject({ status: 'refund_due', due: 1 });
    expect(await world.stateOf(paid.order)).toMatchObject({ payment: 'applied', version: 2 });
    await makeRefund(paid, 1_000);
    expect(await world.statusOf(paid.payment)).toBe('applied');
    expect(await statusesOf(paid)).toEqual(['1000 succeeded']);
    expect(await world.stateOf(paid.order)).toEqual({
      status: 'paid',
      payment: 'partially_refunded',
      reason: null,
      refunded: 1_000,
      version: 3,
    });
    expect(await world.parkedReason(paid.payment)).toBeUndefined();
    expect(await world.returnedOf(paid.order)).toEqual({ limit_returned: 0, stock_returned: 0 });
    expect(await world.auditOf(paid.order.orderNo)).toEqual([{ actor: 'olga', action: 'refund_requested' }]);
    // What provider staff send back beside it is shown.
    await makeRefund(paid, 500);
    expect(await world.parkedReason(paid.payment)).toContain('stock comes back only if you say so');
  });

  test('is still pending while the provider works on it', async () => {
    const paid = await world.paidOrder();
    await requested(paid, money(1_000));
    await makeRefund(paid, 1_000, { status: 'pending' });
    expect(await world.statusOf(paid.payment)).toBe('refund_due');
    expect(await statusesOf(paid)).toEqual(['1000 requested']);
    expect((await world.stateOf(paid.order))?.refunded).toBeUndefined();
  });

  test('goes back one after the other until nothing is left, and the order is refunded', async () => {
    const paid = await world.paidOrder();
    for (const amount of [1_000, 1_000, 2_900]) {
      await requested(paid, money(amount));
      await makeRefund(paid, amount);
    }
    expect(await world.statusOf(paid.payment)).toBe('refunded');
    expect(await world.stateOf(paid.order)).toMatchObject({ payment: 'refunded', refunded: 4_900 });
    expect(await world.returnedOf(paid.order)).toMatchObject({ limit_returned: 1 });
    expect(await world.parkedReason(paid.payment)).toBeUndefined();
    expect(await request(paid, money(1))).toMatchObject({ kind: 'exceeds', refundable: 0 });
    expect(await request(paid, all())).toMatchObject({ kind: 'exceeds', refundable: 0 });
  });

  test('may be all that is left, with the units that are left', async () => {
    const paid = await world.paidOrder();
    await requested(paid, money(1_000));
    const rest = await requested(paid, all());
    expect(rest).toMatchObject({ amount: 3_900, items: [{ sku: 'lamp', quantity: 1 }] });
    expect(await targetOf(paid)).toBe(4_900);
    await makeRefund(paid, 1_000);
    expect(await statusesOf(paid)).toEqual(['1000 succeeded', '3900 requested']);
    await makeRefund(paid, 3_900);
    expect(await statusesOf(paid)).toEqual(['1000 succeeded', '3900 succeeded']);
  });

  test('of many requests at once is never more than was paid', async () => {
    const paid = await world.paidOrder();
    const outcomes = await Promise.all(Array.from({ length: 6 }, () => request(paid, money(1_500))));
    expect(outcomes.map(({ kind }) => kind).toSorted()).toEqual([
      ...Array.from({ length: 3 }, () => 'exceeds'),
      ...Array.from({ length: 3 }, () => 'requested'),
    ]);
    expect(await targetOf(paid)).toBe(4_500);
    expect(await request(paid, money(401))).toEqual({ kind: 'exceeds', refundable: 400, currency: 'EUR' });
  });

  test('is requested once a key, however often and however many at once', async () => {
    const paid = await world.paidOrder();
    const outcomes = await Promise.all(Array.from({ length: 5 }, () => request(paid, money(1_000), 'once')));
    expect(outcomes.map(({ kind }) => kind).toSorted()).toEqual([
      ...Array.from({ length: 4 }, () => 'repeated'),
      'requested',
    ]);
    const before = await everything(stores.pool, paid.order.saleId);
    expect(await request(paid, money(1_000), 'once')).toMatchObject({ kind: 'repeated' });
    expect(await request(paid, money(999), 'once', 'another')).toEqual({ kind: 'key-reused' });
    expect(await everything(stores.pool, paid.order.saleId)).toEqual(before);
    expect(await targetOf(paid)).toBe(1_000);
  });

  test('goes back in addition to what provider staff had sent back', async () => {
    const paid = await world.paidOrder();
    await makeRefund(paid, 900);
    expect(await world.parkedReason(paid.payment)).toContain('stock comes back only if you say so');
    await requested(paid, money(1_000));
    expect(await targetOf(paid)).toBe(1_900);
    // The caller has seen the order, and said what becomes of its stock.
    expect(await world.parkedReason(paid.payment)).toBeUndefined();
    await makeRefund(paid, 1_000);
    expect(await world.stateOf(paid.order)).toMatchObject({
      payment: 'partially_refunded',
      refunded: 1_900,
    });
    expect(await request(paid, money(3_001))).toMatchObject({ kind: 'exceeds', refundable: 3_000 });
  });

  test('is never more than an open or lost chargeback has left', async () => {
    const paid = await world.paidOrder();
    const dispute = buildReversal(paid.payment, { kind: 'dispute', amount: 4_000, status: 'pending' });
    await reverse(stores, dispute);
    expect(await request(paid, money(901))).toEqual({ kind: 'exceeds', refundable: 900, currency: 'EUR' });
    await requested(paid, money(900));
    await reverse(stores, { ...dispute, status: 'succeeded' });
    expect(await world.statusOf(paid.payment)).toBe('refund_due');
    await makeRefund(paid, 900);
    expect(await world.stateOf(paid.order)).toMatchObject({ payment: 'refunded', refunded: 4_900 });
    expect(await statusesOf(paid)).toEqual(['900 succeeded']);
  });

  test('that fails after it had succeeded is due again, and shown', async () => {
    const paid = await world.paidOrder();
    await requested(paid, money(1_000));
    const made = buildReversal(paid.payment, { amount: 1_000 });
    await reverse(stores, made);
    await reverse(stores, { ...made, status: 'failed' });
    expect(await world.statusOf(paid.payment)).toBe('refund_due');
    expect(await statusesOf(paid)).toEqual(['1000 requested']);
    expect((await world.stateOf(paid.order))?.refunded).toBe(undefined);
    expect(await world.parkedReason(paid.payment)).toContain('failed after it had succeeded');
    await makeRefund(paid, 1_000);
    expect(await world.statusOf(paid.payment)).toBe('applied');
    expect(await world.parkedReason(paid.payment)).toBeUndefined();
  });

  test('is refused of what was not paid, what is unknown, and what went back in another currency', async () => {
    const unpaid = { kind: 'not-refundable' };
    const wrong = await world.withMoney(await world.storedOrder(), { amount: 1 });
    expect(await request({ ...wrong, order: await world.storedOrder() }, money(1))).toEqual(unpaid);
    expect(await request(wrong, money(1))).toEqual(unpaid);
    expect(await request({ ...wrong, order: { ...wrong.order, orderNo: 'none' } }, all())).toEqual({
      kind: 'unknown',
    });
    const mixed = await world.paidOrder();
    await makeRefund(mixed, 100, { currency: 'USD' });
    expect(await request(mixed, money(1))).toEqual(unpaid);
  });

  test('and then all of the payment, by its own call, sends back what is left', async () => {
    const paid = await world.paidOrder();
    await requested(paid, money(1_000));
    await makeRefund(paid, 1_000);
    const id = await world.idOf(paid.payment);
    expect(await stores.refunds.request(id, 'olga')).toBe('requested');
    expect(await stores.refunds.request(id, 'olga')).toBe('requested');
    expect(await statusesOf(paid)).toEqual(['1000 succeeded', '3900 requested']);
    await makeRefund(paid, 3_900);
    expect(await world.stateOf(paid.order)).toMatchObject({ payment: 'refunded', refunded: 4_900 });
  });
});

describe('all of the money, while a refund of provider staff is pending,', () => {
  async function staffSendBack(amount: number) {
    const paid = await world.paidOrder();
    const staffs = buildReversal(paid.payment, { amount, status: 'pending' });
    await reverse(stores, staffs);
    return { paid, staffs };
  }

  test.each([
    ['by its payment', async (paid: Paid) => stores.refunds.request(await world.idOf(paid.payment), 'olga')],
    ['by its order', (paid: Paid) => requested(paid, all())],
  ])('is requested %s, and not recorded as done before that one is', async (_, requestAll) => {
    const { paid, staffs } = await staffSendBack(4_900);
    await requestAll(paid);
    expect(await statusesOf(paid)).toEqual(['4900 requested']);
    expect(await world.statusOf(paid.payment)).toBe('refund_due');
    expect((await world.stateOf(paid.order))?.refunded).toBeUndefined();
    await reverse(stores, { ...staffs, status: 'succeeded' });
    expect(await statusesOf(paid)).toEqual(['4900 succeeded']);
    expect(await world.stateOf(paid.order)).toMatchObject({ payment: 'refunded', refunded: 4_900 });
  });

  test('is still to be sent where that one fails', async () => {
    const { paid, staffs } = await staffSendBack(4_900);
    await stores.refunds.request(await world.idOf(paid.payment), 'olga');
    await reverse(stores, { ...staffs, status: 'failed' });
    expect(await statusesOf(paid)).toEqual(['4900 requested']);
    expect(await world.rowOf(paid.payment)).toMatchObject({ status: 'refund_due', due: 1 });
    await makeRefund(paid, 4_900);
    expect(await statusesOf(paid)).toEqual(['4900 succeeded']);
    expect(await world.stateOf(paid.order)).toMatchObject({ payment: 'refunded', refunded: 4_900 });
  });

  test('says all that it sends back, where that one is of a part and fails', async () => {
    const { paid, staffs } = await staffSendBack(900);
    await stores.refunds.request(await world.idOf(paid.payment), 'olga');
    await reverse(stores, { ...staffs, status: 'failed' });
    expect(await statusesOf(paid)).toEqual(['4900 requested']);
    expect(await targetOf(paid)).toBe(4_900);
  });

  test('can be withdrawn where the provider refuses what is left beside that one', async () => {
    const { paid, staffs } = await staffSendBack(900);
    const { refundId } = await requested(paid, all());
    await reverse(stores, { ...staffs, status: 'succeeded' });
    const outcome = await stores.refunds.withdraw(paid.order.orderNo, refundId, OLGA);
    expect(outcome).toMatchObject({ kind: 'withdrawn', refund: { status: 'failed' } });
    expect(await targetOf(paid)).toBe(900);
    expect(await world.statusOf(paid.payment)).toBe('applied');
    expect(await world.stateOf(paid.order)).toMatchObject({ status: 'paid', refunded: 900 });
  });

  test('is requested once: more than all of it cannot go back', async () => {
    const { paid } = await staffSendBack(4_900);
    await requested(paid, all());
    expect(await request(paid, all())).toMatchObject({ kind: 'exceeds', refundable: 0 });
    expect(await request(paid, money(1))).toMatchObject({ kind: 'exceeds', refundable: 0 });
    expect(await stores.refunds.request(await world.idOf(paid.payment), 'olga')).toBe('requested');
    expect(await statusesOf(paid)).toEqual(['4900 requested']);
  });
});

describe('some of the units', () => {
  async function threeLamps(): Promise<Paid> {
    const order = { ...(await world.newOrder()), total: 14_700 };
    const three = { ...order, items: [{ sku: 'lamp', quantity: 3, unitPrice: 4_900 }] };
    await stores.orders.storeOrder(three, 'started');
    return world.withMoney(three);
  }
  const giveBack = async ({ payment }: Paid) => {
    const id = await world.idOf(payment);
    await stores.refunds.bookGiveBacks(id);
    await stores.refunds.bookGiveBacks(id);
    return stores.refunds.readGiveBacks(id);
  };

  test('come back for what they cost, once their money is back: sold to returned, and off the limit', async () => {
    const paid = await threeLamps();
    const { refundId, amount } = await requested(paid, lamps(2));
    expect(amount).toBe(9_800);
    expect(await giveBack(paid)).toEqual([]);
    await makeRefund(paid, 9_800);
    const { orderNo, userId } = paid.order;
    const items = [{ sku: 'lamp', quantity: 2 }];
    const part = { orderNo, userId, part: String(refundId), items, limit: true, stock: true };
    expect(await giveBack(paid)).toEqual([part]);
    expect(await soldLamps(paid)).toBe(1);
    expect(await world.auditOf(orderNo)).toEqual([
      { actor: 'olga', action: 'refund_requested' },
      { actor: 'olga', action: 'stock_returned' },
    ]);
  });

  test('stay sold, and on the limit, where the person says so', async () => {
    const paid = await threeLamps();
    await requested(paid, lamps(1, { restock: false, restoresLimit: false }));
    await makeRefund(paid, 4_900);
    expect(await giveBack(paid)).toEqual([]);
    expect(await soldLamps(paid)).toBe(3);
  });

  test('may cost another amount, or nothing where the money went back already', async () => {
    const paid = await threeLamps();
    expect(await requested(paid, lamps(1, { amount: 4_000 }))).toMatchObject({ amount: 4_000 });
    await makeRefund(paid, 4_000);
    await makeRefund(paid, 500);
    expect(await world.parkedReason(paid.payment)).toContain('stock comes back only if you say so');
    expect(await requested(paid, lamps(1, { amount: 0 }))).toMatchObject({ amount: 0, status: 'succeeded' });
    expect(await world.parkedReason(paid.payment)).toBeUndefined();
    expect(await giveBack(paid)).toHaveLength(2);
    expect(await soldLamps(paid)).toBe(1);
    expect(await world.statusOf(paid.payment)).toBe('applied');
  });

  test('may come with the charges of the order, once', async () => {
    const charges = [
      { code: 'shipping', name: 'Shipping', amount: 500 },
      { code: 'discount', name: 'Discount', amount: -100 },
    ];
    const order = { ...(await world.newOrder()), total: 5_300, charges };
    await stores.orders.storeOrder(order, 'started');
    const paid = await world.withMoney(order);
    const refund = await requested(paid, lamps(1, { charges: true }));
    expect(refund).toMatchObject({ amount: 5_300, charges: true });
    expect(await request(paid, lamps(1, { charges: true }))).toEqual({ kind: 'charges-refunded' });
  });

  test('are refunded once each: the order has no more of them', async () => {
    const paid = await threeLamps();
    await requested(paid, lamps(2));
    expect(await request(paid, lamps(2))).toEqual({ kind: 'no-units', sku: 'lamp', refundable: 1 });
    const mug: RefundWish = {
      ...all(),
      kind: 'units',
      items: [{ sku: 'mug', quantity: 1 }],
      amount: undefined,
      charges: false,
    };
    expect(await request(paid, mug)).toEqual({ kind: 'no-units', sku: 'mug', refundable: 0 });
    expect(await requested(paid, all(true))).toMatchObject({
      amount: 4_900,
      items: [{ sku: 'lamp', quantity: 1 }],
    });
    await makeRefund(paid, 14_700);
    expect(await giveBack(paid)).toHaveLength(2);
    expect(await soldLamps(paid)).toBe(0);
    // All units were decided about one by one, so the sale's rule gives nothing back beside.
    expect(await world.returnedOf(paid.order)).toEqual({ limit_returned: 0, stock_returned: 0 });
  });

  test('come back before the rest of the stock does, each once', async () => {
    const paid = await threeLamps();
    await requested(paid, lamps(1));
    await makeRefund(paid, 4_900);
    await giveBack(paid);
    await requested(paid, all());
    await makeRefund(paid, 9_800);
    expect(await stores.refunds.returnStock(paid.order.orderNo, 'olga')).toBe('returned');
    const given = await giveBack(paid);
    expect(given.filter(({ stock }) => stock).map(({ items }) => items)).toEqual([
      [{ sku: 'lamp', quantity: 1 }],
      [{ sku: 'lamp', quantity: 2 }],
    ]);
    expect(await soldLamps(paid)).toBe(0);
    expect(await stores.orderBooks.checkAfter('', 10_000)).toMatchObject({ broken: [] });
  });

  test('come back once, also where the refund fails after it gave them back and is withdrawn', async () => {
    const paid = await threeLamps();
    const { refundId } = await requested(paid, lamps(2, { restoresLimit: true }));
    const reported = { providerReversalId: `re-${paid.order.orderNo}` };
    await makeRefund(paid, 9_800, reported);
    await giveBack(paid);
    await makeRefund(paid, 9_800, { ...reported, status: 'failed' });
    await stores.refunds.withdraw(paid.order.orderNo, refundId, OLGA);

    expect(await request(paid, lamps(2))).toEqual({ kind: 'no-units', sku: 'lamp', refundable: 1 });
    // The sale's rule has the last one left.
    await makeRefund(paid, 14_700);
    const given = await giveBack(paid);
    expect(given.map(({ part, items, limit, stock }) => [part, items[0]?.quantity, limit, stock])).toEqual([
      [String(refundId), 2, true, true],
      ['rule', 1, true, false],
    ]);
    expect(await soldLamps(paid)).toBe(1);
    expect(await stores.refunds.returnStock(paid.order.orderNo, 'olga')).toBe('returned');
    expect((await giveBack(paid)).at(-1)).toMatchObject({ part: 'return', items: [{ quantity: 1 }] });
    expect(await soldLamps(paid)).toBe(0);
    expect(await stores.orderBooks.checkAfter('', 10_000)).toMatchObject({ broken: [] });
  });
});

describe('withdrawing', () => {
  const withdraw = ({ order }: Paid, refundId: number) =>
    stores.refunds.withdraw(order.orderNo, refundId, OLGA);

  test('takes back a request that the provider has not met; the payment is applied again', async () => {
    const paid = await world.paidOrder();
    const { refundId } = await requested(paid, money(1_000));
    await stores.refunds.park(await world.idOf(paid.payment), 'refused', {
      cause: 'step_failing',
      step: null,
    });
    expect(await withdraw(paid, refundId)).toMatchObject({ kind: 'withdrawn', refund: { status: 'failed' } });
    expect(await withdraw(paid, refundId)).toMatchObject({ kind: 'withdrawn' });
    expect(await world.statusOf(paid.payment)).toBe('applied');
    expect(await world.parkedReason(paid.payment, 'refund')).toBeUndefined();
    expect(await requested(paid, money(4_900))).toMatchObject({ amount: 4_900 });
  });

  test('leaves those before and after it as they are', async () => {
    const paid = await world.paidOrder();
    await requested(paid, money(1_000));
    const second = await requested(paid, money(500));
    await requested(paid, money(300));
    await makeRefund(paid, 1_000);
    await withdraw(paid, second.refundId);
    expect(await targetOf(paid)).toBe(1_300);
    await makeRefund(paid, 300);
    expect(await statusesOf(paid)).toEqual(['1000 succeeded', '500 failed', '300 succeeded']);
    expect(await world.statusOf(paid.payment)).toBe('applied');
  });

  test('is refused once the money is on its way, and of what is no refund of the order', async () => {
    const paid = await world.paidOrder();
    const { refundId } = await requested(paid, money(1_000));
    await makeRefund(paid, 1_000, { status: 'pending' });
    expect(await withdraw(paid, refundId)).toEqual({ kind: 'on-its-way' });
    expect(await withdraw(paid, refundId + 1_000)).toEqual({ kind: 'no-such-refund' });
    expect(await withdraw(await world.paidOrder(), refundId)).toEqual({ kind: 'no-such-refund' });
  });
});
