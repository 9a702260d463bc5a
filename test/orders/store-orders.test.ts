/** Orders stored in batches: each is stored and counted once, however often it is given. */

import { beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { everything, expectBooksToBalance, kindsOf, select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const openSale = async (): Promise<string> => (await stores.openSale(buildSale())).saleId;

const buildOrders = (saleId: string, count: number): Order[] =>
  Array.from({ length: count }, () => buildOrder({ saleId }));

test('a stored order is read back as it was accepted, and awaits payment', async () => {
  const saleId = await openSale();
  const items = [
    { sku: 'mug', quantity: 2, unitPrice: 1_450 },
    { sku: 'lamp', quantity: 1, unitPrice: 4_900 },
  ];
  const order = buildOrder({ saleId, items, userAgent: 'Füchse 🦊' });
  const outcome = await stores.orders.storeOrder(order, 'started');
  const state = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
  expect(outcome).toEqual({ kind: 'stored', state });
  expect(await stores.orders.read(order.orderNo)).toMatchObject({ order, state });
});

test('storing writes one event of version 1, one movement a line, and counts the stock as held', async () => {
  const saleId = await openSale();
  const orders = buildOrders(saleId, 3);
  await stores.orders.storeOrders(orders, 'started');
  const { events, ledger, items } = await everything(stores.pool, saleId);
  expect(events).toHaveLength(3);
  for (const event of events ?? []) expect(event).toMatchObject({ version: 1, status: 'awaiting_payment' });
  expect(items).toHaveLength(3);
  expect(ledger?.map(({ sku, movement, quantity }) => [sku, movement, quantity])).toEqual([
    ['lamp', 'hold', 1],
    ['lamp', 'hold', 1],
    ['lamp', 'hold', 1],
  ]);
  expect(await stores.sales.readStock(saleId)).toEqual([
    { sku: 'lamp', total: 10, available: 7, held: 3, sold: 0 },
    { sku: 'mug', total: 5, available: 5, held: 0, sold: 0 },
  ]);
});

test('storing the same batch again returns the same and writes nothing', async () => {
  const saleId = await openSale();
  const orders = buildOrders(saleId, 4);
  const first = await stores.orders.storeOrders(orders, 'started');
  const before = await everything(stores.pool, saleId);
  expect(await stores.orders.storeOrders(orders.toReversed(), 'started')).toEqual(first);
  expect(await everything(stores.pool, saleId)).toEqual(before);
});

test.each([
  { shown: undefined, version: 1 },
  { shown: { status: 'awaiting_payment', version: 3, payment: 'none', reason: null }, version: 3 },
  {
    shown: { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'shopper_request' },
    version: 3,
  },
  { shown: { status: 'paid', version: 4, payment: 'applied', reason: null }, version: 3 },
  { shown: { status: 'cancelled', version: 2, payment: 'none', reason: 'payment_timeout' }, version: 1 },
] as const)(
  'an order that was shown as $shown.status, version $shown.version, is stored with version $version, and whole',
  async ({ shown, version }) => {
    const order: Order = { ...buildOrder({ saleId: await openSale() }), ...(shown && { shown }) };
    const { orderNo } = order;
    const outcome = await stores.orders.storeOrder(order, 'started');
    expect(outcome).toMatchObject({ kind: 'stored', state: { status: 'awaiting_payment', version } });
    expect(await stores.orders.storeOrder(order, 'started')).toEqual(outcome);
    await stores.orders.requestCancel(orderNo);
    const broken = async () =>
      (await stores.orderBooks.checkAfter('', 10_000)).broken.filter((one) => one.orderNo === orderNo);
    expect(await broken()).toEqual([]);

    await stores.pool.query('DELETE FROM order_events WHERE order_no = ? ORDER BY version LIMIT 1', [
      orderNo,
    ]);

    expect(await broken()).toHaveLength(1);
  },
);

test('an order named twice in one batch is stored once', async () => {
  const saleId = await openSale();
  const order = buildOrder({ saleId });
  const outcomes = await stores.orders.storeOrders([order, { ...order }], 'due');
  expect(kindsOf(outcomes, [order])).toEqual(['stored']);
  await expectBooksToBalance(stores, saleId);
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(1);
});

test('a batch of known and new orders counts only the new', async () => {
  const saleId = await openSale();
  const orders = buildOrders(saleId, 6);
  await stores.orders.storeOrders(orders.slice(0, 3), 'due');
  const outcomes = await stores.orders.storeOrders(orders, 'due');
  expect(kindsOf(outcomes, orders)).toEqual(orders.map(() => 'stored'));
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(6);
  await expectBooksToBalance(stores, saleId);
});

test('an order stored again later returns the state it has reached', async () => {
  const saleId = await openSale();
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'started');
  await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  const outcome = await stores.orders.storeOrder(order, 'started');
  expect(outcome).toMatchObject({ kind: 'stored', state: { status: 'cancelled' } });
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(0);
});

test('more orders than one transaction takes are all stored', async () => {
  const { saleId } = await stores.openSale(
    buildSale({ skus: [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 500, limitPerUser: null }] }),
  );
  const orders = buildOrders(saleId, 230);
  const outcomes = await stores.orders.storeOrders(orders, 'due');
  expect(outcomes.size).toBe(230);
  expect(await selectOne(stores.pool, 'SELECT held FROM skus WHERE sale_id = ?', [saleId])).toEqual({
    held: 230,
  });
  await expectBooksToBalance(stores, saleId);
});

test('orders of several sales share a batch', async () => {
  const [one, other] = [await openSale(), await openSale()];
  const orders = [...buildOrders(one, 2), ...buildOrders(other, 3)];
  await stores.orders.storeOrders(orders, 'due');
  expect((await stores.sales.readStock(one))[0]?.held).toBe(2);
  expect((await stores.sales.readStock(other))[0]?.held).toBe(3);
});

test('storing no orders returns no outcomes', async () => {
  expect(await stores.orders.storeOrders([], 'due')).toEqual(new Map());
});

async function presenceOf(order: Order) {
  const [row] = await select(
    stores.pool,
    `SELECT workflow_started_at IS NOT NULL AS started, engine_due_at IS NOT NULL AS due FROM orders WHERE order_no = ?`,
    [order.orderNo],
  );
  return row;
}

test('an order stored by its workflow is not due for the relay', async () => {
  const order = buildOrder({ saleId: await openSale() });
  await stores.orders.storeOrder(order, 'started');
  expect(await presenceOf(order)).toEqual({ started: 1, due: 0 });
});

test('an order stored ahead is due, until its workflow stores it again', async () => {
  const order = buildOrder({ saleId: await openSale() });
  await stores.orders.storeOrder(order, 'due');
  expect(await presenceOf(order)).toEqual({ started: 0, due: 1 });
  await stores.orders.storeOrder(order, 'started');
  expect(await presenceOf(order)).toEqual({ started: 1, due: 0 });
});

test('an order whose workflow runs is not made due by storing it ahead late', async () => {
  const order = buildOrder({ saleId: await openSale() });
  await stores.orders.storeOrder(order, 'started');
  await stores.orders.storeOrder(order, 'due');
  expect(await presenceOf(order)).toEqual({ started: 1, due: 0 });
});

test.each([
  ['by its workflow, which needs no signal', 'started', { started: 1, due: 0 }],
  ['ahead, and needs no workflow', 'due', { started: 0, due: 0 }],
  // The process that stores it may have started it by the time that it hears of the payment.
  ['to be started at once, and is signalled', 'claimed', { started: 0, due: 1 }],
] as const)(
  'money that came before its order pays for it in the transaction that stores it: %s',
  async (_, presence, expected) => {
    const saleId = await openSale();
    const [paid, unpaid] = [buildOrder({ saleId }), buildOrder({ saleId })];
    expect(await pay(stores, paid)).toBeUndefined();
    const outcomes = await stores.orders.storeOrders([paid, unpaid], presence);
    expect(outcomes.get(paid.orderNo)).toMatchObject({ state: { status: 'paid', version: 2 } });
    expect(outcomes.get(unpaid.orderNo)).toMatchObject({ state: { payment: 'none', version: 1 } });
    expect(await presenceOf(paid)).toEqual(expected);
    expect((await stores.sales.readStock(saleId))[0]).toMatchObject({ held: 1, sold: 1 });
    await expectBooksToBalance(stores, saleId);
  },
);
