/** Orders that cost nothing: stored and paid in one transaction, and refunded without a provider. */

import * as fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import type { RefundWish } from '../../src/money/payment.ts';
import type { Order } from '../../src/orders/content.ts';
import { isFree } from '../../src/orders/order.ts';
import { readFeed } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildNotice, buildPayment } from '../support/payment-notices.ts';
import { assertProperty } from '../support/property.ts';
import { everything, expectBooksToBalance, readPaymentId, select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const SKUS = [
  { sku: 'gift', name: 'Gift', unitPrice: 0, total: 1_000, limitPerUser: null },
  { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null },
];
const openSale = async () => (await stores.openSale(buildSale({ skus: SKUS }))).saleId;

const GIFT = { sku: 'gift', quantity: 2, unitPrice: 0 };
const LAMP = { sku: 'lamp', quantity: 1, unitPrice: 4_900 };
const buildFree = (saleId: string, overrides: Partial<Order> = {}) =>
  buildOrder({ saleId, items: [GIFT], total: 0, ...overrides });
/** A voucher pays for all of it. */
const buildGiven = (saleId: string) =>
  buildFree(saleId, {
    items: [LAMP, GIFT],
    charges: [{ code: 'voucher', name: 'Voucher', amount: -4_900 }],
  });

const PAID = { status: 'paid', version: 2, payment: 'applied', reason: null };
const OLGA = { actor: 'olga', reason: 'called off' };

async function storeFree(make: (saleId: string) => Order = buildFree): Promise<Order> {
  const order = make(await openSale());
  await stores.orders.storeOrder(order, 'due');
  return order;
}

let keys = 0;
function refund({ orderNo }: Order, wish: RefundWish, key = `key-${(keys += 1)}`) {
  return stores.refunds.requestByOrder(orderNo, wish, OLGA, { idempotencyKey: key, fingerprint: 'f' });
}
const ALL: RefundWish = { kind: 'all', restock: true, restoresLimit: undefined };

const units = (sku: string, quantity: number, amount?: number): RefundWish => ({
  kind: 'units',
  items: [{ sku, quantity }],
  amount,
  charges: false,
  restock: true,
  restoresLimit: undefined,
});
const gifts = (quantity: number) => units('gift', quantity);

const paymentOf = ({ orderNo }: Order) =>
  selectOne(
    stores.pool,
    `SELECT provider, provider_payment_id AS id, amount, status, applied_at IS NOT NULL AS applied,
       engine_due_at IS NOT NULL AS due FROM payments WHERE order_no = ?`,
    [orderNo],
  );
const stateOf = async ({ orderNo }: Order) => (await stores.orders.read(orderNo))?.state;

test.each(['due', 'claimed', 'started'] as const)(
  'a free order that is stored as %s is paid by that, and no workflow is due',
  async (presence) => {
    const order = buildFree(await openSale());

    expect(await stores.orders.storeOrder(order, presence)).toEqual({ kind: 'stored', state: PAID });

    expect(await stores.orders.read(order.orderNo)).toMatchObject({ order, state: PAID });
    expect(await paymentOf(order)).toEqual({
      provider: 'none',
      id: order.orderNo,
      amount: 0,
      status: 'applied',
      applied: 1,
      due: 0,
    });
    expect(
      await selectOne(
        stores.pool,
        `SELECT workflow_started_at IS NOT NULL AS begun, engine_due_at, start_tried_at,
           expiring_due_at, end_due_at > NOW(3) AS to_follow FROM orders
         WHERE order_no = ?`,
        [order.orderNo],
      ),
    ).toEqual({
      begun: presence === 'started' ? 1 : 0,
      engine_due_at: null,
      start_tried_at: null,
      expiring_due_at: null,
      to_follow: 1,
    });
    expect(await stores.sales.readStock(order.saleId)).toMatchObject([{ held: 0, sold: 2 }, { sold: 0 }]);
    await expectBooksToBalance(stores, order.saleId);
  },
);

test('both versions of a free order are events', async () => {
  const order = await storeFree(buildGiven);
  const events = (await readFeed(stores)).filter((event) => event.saleId === order.saleId);
  expect(events.map(({ type }) => type)).toEqual(
    expect.arrayContaining(['order.awaiting_payment', 'order.paid']),
  );
  expect(events).toMatchObject([
    { type: 'order.awaiting_payment', version: 1 },
    { type: 'order.paid', version: 2 },
  ]);
});

test('storing a free order again answers the same and writes nothing', async () => {
  const order = await storeFree(buildGiven);
  const before = await everything(stores.pool, order.saleId);
  for (const presence of ['due', 'claimed', 'started'] as const)
    expect(await stores.orders.storeOrder(order, presence)).toEqual({ kind: 'stored', state: PAID });
  expect(await everything(stores.pool, order.saleId)).toEqual(before);
});

test('a free order that MySQL has lost comes back with the versions that it had', async () => {
  const saleId = await openSale();
  const shown = buildFree(saleId, { shown: { ...PAID, status: 'paid', payment: 'applied', reason: null } });
  expect((await stores.orders.storeOrder(shown, 'due')).kind).toBe('stored');
  expect(await stateOf(shown)).toEqual(PAID);
});

test('a free order can neither be cancelled nor be paid', async () => {
  const order = await storeFree();
  const before = await everything(stores.pool, order.saleId);
  expect(await stores.orders.requestCancel(order.orderNo)).toMatchObject({ state: PAID, isNews: false });
  expect(await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true })).toEqual({
    kind: 'ended',
    state: PAID,
  });
  expect(await stores.orders.markPaid(order.orderNo)).toEqual(PAID);
  const begun = await stores.paymentSessions.begin('sandbox', order.orderNo, () => Promise.resolve('signed'));
  expect(begun).toMatchObject({ kind: 'not-payable', stored: { state: PAID } });
  expect(await everything(stores.pool, order.saleId)).toEqual(before);
});

test.each(['before', 'after'])('money that comes %s a free order is stored is parked', async (when) => {
  const order = buildFree(await openSale());
  const payment = buildPayment(order, { amount: 500 });
  const receive = () => stores.payments.receive('sandbox', buildNotice(payment), '{}');
  if (when === 'before') await receive();
  await stores.orders.storeOrder(order, 'due');
  if (when === 'after') await receive();
  expect(await stateOf(order)).toEqual(PAID);
  const [parked] = await select(stores.pool, 'SELECT cause FROM parked WHERE reference = ?', [
    payment.providerPaymentId,
  ]);
  expect(parked).toEqual({ cause: 'wrong_amount' });
});

test('what a sale has too few of is refused, and nothing of the payment is left', async () => {
  const saleId = await openSale();
  const order = buildFree(saleId, { items: [{ ...GIFT, quantity: 1_001 }] });
  const outcome = await stores.orders.storeOrder(order, 'due');
  expect(outcome).toEqual({ kind: 'refused', reason: 'stock_exhausted' });
  expect((await everything(stores.pool, saleId))['payments']).toEqual([]);
  expect(await select(stores.pool, 'SELECT 1 FROM payments WHERE order_no = ?', [order.orderNo])).toEqual([]);
  const { state } = await stores.orders.abandon(order, 'stock_exhausted');
  expect(state).toMatchObject({ status: 'failed', version: 1 });
});

test('batches in which free and paid orders are mixed store each as it would be stored alone', async () => {
  const kind = fc.constantFrom('free', 'given', 'priced', 'priced', 'too much', 'unknown');
  const batch = fc.record({
    kinds: fc.array(kind, { minLength: 1, maxLength: 12 }),
    presence: fc.constantFrom('due' as const, 'claimed' as const, 'started' as const),
    /** Where the batch is cut in two, which come in any order and overlap. */
    cut: fc.nat(12),
    twice: fc.boolean(),
  });
  const make = (saleId: string, what: string): Order => {
    if (what === 'free') return buildFree(saleId);
    if (what === 'given') return buildGiven(saleId);
    if (what === 'priced') return buildOrder({ saleId, items: [LAMP] });
    if (what === 'too much') return buildFree(saleId, { items: [{ ...GIFT, quantity: 1_001 }] });
    return buildFree(saleId, { items: [{ ...GIFT, sku: 'unknown' }] });
  };
  await assertProperty(
    fc.asyncProperty(batch, async ({ kinds, presence, cut, twice }) => {
      const saleId = await openSale();
      const orders = kinds.map((what) => make(saleId, what));
      const parts = [orders.slice(cut), orders.slice(0, cut + 1), ...(twice ? [orders] : [])];
      const outcomes = new Map<string, unknown>();
      for (const part of parts)
        for (const [orderNo, outcome] of await stores.orders.storeOrders(part, presence))
          outcomes.set(orderNo, outcome);

      const { payments, orders: rows } = await everything(stores.pool, saleId);
      const good = orders.filter((_, i) => !['too much', 'unknown'].includes(kinds[i] ?? ''));
      for (const [i, order] of orders.entries()) {
        const open = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
        const reason = kinds[i] === 'too much' ? 'stock_exhausted' : 'unknown_sku';
        const state = isFree(order) ? PAID : open;
        const stored = good.includes(order) ? { kind: 'stored', state } : { kind: 'refused', reason };
        expect(outcomes.get(order.orderNo)).toEqual(stored);
      }
      const free = good.filter(isFree).map(({ orderNo }) => orderNo);
      expect(payments?.map((row) => row['order_no']).toSorted()).toEqual(free.toSorted());
      const due = rows?.filter((row) => row['engine_due_at'] !== null).map((row) => row['order_no']);
      const open = good.filter((order) => !isFree(order)).map(({ orderNo }) => orderNo);
      expect(due?.toSorted()).toEqual(presence === 'started' ? [] : open.toSorted());
      await expectBooksToBalance(stores, saleId);
    }),
    { numRuns: 25 },
  );
});

// Refunds.

test('a refund of all of it ends at once: units and limit come back, and the order is refunded', async () => {
  const order = await storeFree(buildGiven);
  const outcome = await refund(order, ALL, 'once');
  expect(outcome).toMatchObject({ kind: 'requested', refund: { amount: 0, status: 'succeeded' } });
  expect(await refund(order, ALL, 'once')).toMatchObject({ kind: 'repeated' });
  expect(await stateOf(order)).toEqual({ ...PAID, version: 3, payment: 'refunded' });
  // Its workflow brings to Redis what is given back.
  expect(await paymentOf(order)).toMatchObject({ status: 'refunded', due: 1 });

  const id = await readPaymentId(stores.pool, order.orderNo);
  await stores.refunds.bookGiveBacks(id);
  expect(await stores.sales.readStock(order.saleId)).toMatchObject([{ sold: 0 }, { sold: 0 }]);
  expect(await stores.refunds.readGiveBacks(id)).toMatchObject([{ limit: true, stock: true }]);
  await expectBooksToBalance(stores, order.saleId);
  expect(await refund(order, ALL)).toMatchObject({ kind: 'exceeds', refundable: 0 });
});

test('lines of a free order go back one by one, and with the last of them it is refunded', async () => {
  const order = await storeFree();
  expect(await refund(order, gifts(1))).toMatchObject({ kind: 'requested', refund: { status: 'succeeded' } });
  expect(await stateOf(order)).toEqual(PAID);
  expect(await refund(order, gifts(2))).toEqual({ kind: 'no-units', sku: 'gift', refundable: 1 });
  expect(await refund(order, gifts(1))).toMatchObject({ kind: 'requested' });
  expect(await stateOf(order)).toEqual({ ...PAID, version: 3, payment: 'refunded' });
});

test('a line that a voucher has paid for goes back for nothing, and no money is sent for it', async () => {
  const order = await storeFree(buildGiven);
  expect(await refund(order, units('lamp', 1))).toMatchObject({ kind: 'requested', refund: { amount: 0 } });
  expect(await refund(order, units('gift', 1, 1))).toMatchObject({
    kind: 'exceeds',
    refundable: 0,
  });
});

test('a free order that is refunded by its payment is refunded once', async () => {
  const order = await storeFree();
  const id = await readPaymentId(stores.pool, order.orderNo);
  expect(await stores.refunds.request(id, 'olga')).toBe('requested');
  expect(await stateOf(order)).toEqual({ ...PAID, version: 3, payment: 'refunded' });
  const before = await everything(stores.pool, order.saleId);
  expect(await stores.refunds.request(id, 'olga')).toBe('requested');
  expect(await everything(stores.pool, order.saleId)).toEqual(before);
  // The rule of the sale gives the limit back, and an operator the units.
  expect(await stores.refunds.returnStock(order.orderNo, 'olga')).toBe('returned');
  expect(await stores.sales.readStock(order.saleId)).toMatchObject([{ sold: 0 }, { sold: 0 }]);
});
