/** Pages of notices: payments of stored orders that are received in one transaction. */

import { beforeAll, expect, test } from 'vitest';
import type { ProviderPayment } from '../../src/money/payment.ts';
import { createMysqlPool, inTransaction, type Pool } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildNotice, buildPayment, buildReversal, reverse, sign } from '../support/payment-notices.ts';
import { everything, expectBooksToBalance, select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';
import { watchedPool } from './pausing-pool.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

async function storedOrders(count: number, saleId?: string): Promise<Order[]> {
  const sale = saleId ?? (await stores.openSale(buildSale())).saleId;
  const orders = Array.from({ length: count }, () => buildOrder({ saleId: sale }));
  await stores.orders.storeOrders(orders, 'started');
  return orders;
}

const noticesOf = (payments: readonly ProviderPayment[]) =>
  payments.map((payment) => ({ notice: buildNotice(payment), rawBody: JSON.stringify(payment) }));

const receive = (payments: readonly ProviderPayment[], pool: Pool = stores.pool) =>
  mysqlStores(pool).payments.receivePage('sandbox', noticesOf(payments));

const inboxOf = ({ orderNo }: Order) =>
  select(stores.pool, 'SELECT kind, raw_body FROM payment_events WHERE order_no = ? ORDER BY entry_id', [
    orderNo,
  ]);

test('each order of a page is paid, and each notice gets its own order', async () => {
  const orders = await storedOrders(4);
  // As they come, and not in the order of their numbers.
  const payments = orders.toReversed().map((order) => buildPayment(order));

  const received = await receive(payments);

  expect(received.size).toBe(4);
  for (const [place, { orderNo }] of payments.entries())
    expect(received.get(place)).toMatchObject({
      isEnd: true,
      order: { orderNo },
      state: { status: 'paid', version: 2, payment: 'applied', reason: null },
    });
  for (const [i, order] of orders.entries()) {
    const rawBody = Buffer.from(JSON.stringify(payments.toReversed()[i]));
    expect(await inboxOf(order)).toEqual([{ kind: 'payment_succeeded', raw_body: rawBody }]);
    expect(await world.historyOf(order)).toEqual(['1 awaiting_payment none', '2 paid applied']);
  }
  await expectBooksToBalance(stores, orders[0]?.saleId ?? '');
});

test('a page that comes again changes nothing, and each notice gets its order as it is', async () => {
  const orders = await storedOrders(3);
  const page = noticesOf(orders.map((order) => buildPayment(order)));
  await stores.payments.receivePage('sandbox', page);
  const saleId = orders[0]?.saleId ?? '';
  const before = await everything(stores.pool, saleId);

  const again = await stores.payments.receivePage('sandbox', page);

  expect([...again.values()].map(({ isEnd, state }) => [isEnd, state.status])).toEqual(
    orders.map(() => [undefined, 'paid']),
  );
  expect(await everything(stores.pool, saleId)).toEqual(before);
});

test('two notices of one order in a page are applied in the order of arrival', async () => {
  const [first, twice, last] = await storedOrders(3);
  if (!first || !twice || !last) throw new Error('three orders');
  const [own, second] = [buildPayment(twice), buildPayment(twice)];
  await receive([buildPayment(last), own, buildPayment(first), second]);
  expect(await world.rowOf(own)).toMatchObject({ status: 'applied' });
  expect(await world.rowOf(second)).toMatchObject({
    status: 'refund_due',
    refund_reason: 'duplicate_payment',
  });
});

test('a wrong amount in a page is parked, and the right one behind it pays the order', async () => {
  const [order] = await storedOrders(1);
  if (!order) throw new Error('an order');
  const [wrong, right] = [buildPayment(order, { amount: 1 }), buildPayment(order)];
  const received = await receive([wrong, right]);
  expect(await world.statusOf(wrong)).toBe('parked');
  expect(await world.parkedReason(wrong)).toContain('costs 4900 EUR');
  expect(await world.statusOf(right)).toBe('applied');
  expect(received.get(1)?.state).toMatchObject({ status: 'paid', version: 2 });
});

test('a page leaves out an order that is not stored, and one that another transaction has locked', async () => {
  const [held, free] = await storedOrders(2);
  if (!held || !free) throw new Error('two orders');
  const unknown = await world.newOrder();
  const payments = [held, unknown, free].map((order) => buildPayment(order));

  await inTransaction(stores.pool, async (connection) => {
    await connection.query('SELECT order_no FROM orders WHERE order_no = ? FOR UPDATE', [held.orderNo]);
    const received = await receive(payments);
    expect([...received.keys()]).toEqual([2]);
  });

  expect(await world.stateOf(free)).toMatchObject({ status: 'paid' });
  // Each is received alone.
  for (const order of [held, unknown]) {
    expect(await inboxOf(order)).toEqual([]);
    expect(
      await select(stores.pool, 'SELECT status FROM payments WHERE order_no = ?', [order.orderNo]),
    ).toEqual([]);
  }
  expect(await receive(payments.slice(0, 1))).toMatchObject(new Map([[0, { state: { status: 'paid' } }]]));
});

test('of a page without a stored order nothing is written', async () => {
  const order = await world.newOrder();
  expect(await receive([buildPayment(order)])).toEqual(new Map());
  expect(await inboxOf(order)).toEqual([]);
});

test('a payment of a page that went back before is never applied: its order awaits another, the others are paid', async () => {
  const [whole, part, plain] = await storedOrders(3);
  if (!whole || !part || !plain) throw new Error('three orders');
  const payments = [whole, part, plain].map((order) => buildPayment(order));
  const [back, inPart, good] = payments;
  if (!back || !inPart || !good) throw new Error('three payments');
  const session = await stores.paymentSessions.begin('sandbox', whole.orderNo, sign);
  await reverse(stores, buildReversal(back));
  await reverse(stores, buildReversal(inPart, { amount: 1 }));

  const received = await receive(payments);

  expect([0, 1, 2].map((place) => received.get(place)?.state.status)).toEqual([
    'awaiting_payment',
    'awaiting_payment',
    'paid',
  ]);
  expect(await world.rowOf(back)).toMatchObject({ status: 'refunded', applied: 0 });
  expect(await world.statusOf(inPart)).toBe('parked');
  expect(await world.parkedReason(inPart)).toContain('before it was applied');
  expect(await world.statusOf(good)).toBe('applied');
  // The page that was paid takes no other payment.
  expect(session.kind).toBe('begun');
  const sessions = 'SELECT status FROM payment_sessions WHERE order_no = ?';
  expect(await select(stores.pool, sessions, [whole.orderNo])).toEqual([{ status: 'paid' }]);
  await expectBooksToBalance(stores, plain.saleId);
});

test('a page updates the row of each SKU once, after all else', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const mug = { items: [{ sku: 'mug', quantity: 1, unitPrice: 1_450 }], total: 1_450 };
  const orders = [{}, mug, {}, mug, {}].map((overrides) => buildOrder({ saleId, ...overrides }));
  await stores.orders.storeOrders(orders, 'started');
  const statements: string[] = [];

  await receive(
    orders.map((order) => buildPayment(order)),
    watchedPool(stores.pool, (sql) => statements.push(sql)),
  );

  const counters = statements.flatMap((sql) =>
    sql.includes('SET SESSION') ? [] : sql.includes('UPDATE skus'),
  );
  expect(counters.slice(-3)).toEqual([false, true, true]);
  expect(counters.filter(Boolean)).toHaveLength(2);
  expect(await stores.sales.readStock(saleId)).toMatchObject([
    { sku: 'lamp', held: 0, sold: 3 },
    { sku: 'mug', held: 0, sold: 2 },
  ]);
});

test('a page that waits a second for a SKU is given up, and leaves nothing', async () => {
  const [order] = await storedOrders(1);
  if (!order) throw new Error('an order');
  const own = createMysqlPool(stores.config.MYSQL_URL);
  try {
    await inTransaction(stores.pool, async (connection) => {
      await connection.query('SELECT held FROM skus WHERE sale_id = ? FOR UPDATE', [order.saleId]);
      await expect(receive([buildPayment(order)], own)).rejects.toThrow('Lock wait timeout');
    });
    expect(await inboxOf(order)).toEqual([]);
    expect(await world.stateOf(order)).toMatchObject({ status: 'awaiting_payment', version: 1 });
    // Its connection waits for as long as before.
    expect(await selectOne(own, 'SELECT @@innodb_lock_wait_timeout AS seconds')).toEqual({ seconds: 3 });
  } finally {
    await own.end();
  }
});
