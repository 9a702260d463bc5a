/** Free orders that MySQL has lost with its last commits: they come back, and no unit is sold twice. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { PROJECTION_TTL_MS } from '../../src/limits.ts';
import type { Order } from '../../src/orders/content.ts';
import { createStoring } from '../../src/orders/storing.ts';
import { mendDrift } from '../../src/reconcile/drift.ts';
import { mendFreeOrders } from '../../src/reconcile/free-orders.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { createTestClock } from '../support/clock.ts';
import { buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { expectBooksToBalance, select } from '../support/rows.ts';
import { copyMysql } from '../support/set-back-mysql.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** A run looks at every sale that Redis has. */
beforeEach(() => stores.redis.flushall());

const SKUS = [
  { sku: 'gift', name: 'Gift', unitPrice: 0, total: 10, limitPerUser: null },
  { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 10, limitPerUser: null },
];
const PAID = { status: 'paid', version: 2, payment: 'applied', reason: null };

const signal = new AbortController().signal;
const run = (pagesMax?: number) => mendFreeOrders({ ...stores, log: silent }, signal, pagesMax);
const compare = () => mendDrift({ ...stores, log: silent }, signal);
const openSale = async () => (await stores.openSale(buildSale({ skus: SKUS }))).saleId;
const waiting = ({ orderNo }: Order) => stores.redis.xlen(orderKeys(orderNo).outbox);
const listed = ({ orderNo }: Order) => stores.redis.zscore(orderKeys(orderNo).free, orderNo);
const parked = ({ orderNo }: Order) =>
  select(stores.pool, 'SELECT cause FROM parked WHERE reference = ?', [orderNo]);

/** Until nothing of it is under way. */
async function store({ orderNo }: Order) {
  const storing = createStoring(stores, createTestClock());
  const end = await storing.store(orderNo, Infinity);
  await storing.stop();
  return end;
}

/** Stored, sold and taken off the outbox. */
async function take(saleId: string, sku = 'gift'): Promise<Order> {
  const order = await acceptOrder(stores, saleId, { items: [{ sku, quantity: 1 }] });
  await store(order);
  return order;
}

/** @returns an order that only Redis knows */
async function lose(saleId: string): Promise<Order> {
  const putBack = await copyMysql(stores.config.MYSQL_URL);
  const order = await take(saleId);
  await putBack();
  return order;
}

test('a free order that MySQL has lost is stored again as paid, and its units stay sold', async () => {
  const saleId = await openSale();
  const kept = await take(saleId);
  const order = await lose(saleId);

  expect(await run()).toEqual({ looked: 2, repaired: 1, parked: 0 });
  expect(await store(order)).toMatchObject({ kind: 'stored', state: PAID });

  expect((await stores.orders.read(order.orderNo))?.state).toEqual(PAID);
  expect(await waiting(order)).toBe(0);
  await expectStock(stores, saleId, { sku: 'gift', available: 8, held: 0, sold: 2 });
  await expectBooksToBalance(stores, saleId);
  expect(await run()).toEqual({ looked: 2, repaired: 0, parked: 0 });
  expect(await compare()).toMatchObject({ repaired: 0, parked: 0 });
  expect(await stores.orders.read(kept.orderNo)).toMatchObject({ state: PAID });
});

test('until it is stored again none of its units are put on sale', async () => {
  const saleId = await openSale();
  const order = await lose(saleId);

  expect(await compare()).toMatchObject({ repaired: 0, parked: 0 });
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, sold: 1 });

  await run();
  expect(await compare()).toMatchObject({ repaired: 0, parked: 0 });
  await store(order);
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, sold: 1 });
});

test('one that MySQL refuses by now is for an operator, and is not stored again and again', async () => {
  const saleId = await openSale();
  const order = await lose(saleId);
  const refusal = { reference: 'entry', cause: 'paid_order_refused', reason: 'no stock' } as const;
  await stores.orders.parkOutboxEntry({ ...refusal, orderNo: order.orderNo });

  expect(await run()).toEqual({ looked: 1, repaired: 0, parked: 0 });
  expect(await compare()).toMatchObject({ repaired: 2 });
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 10, sold: 0 });
});

test('one that Redis has not whole any more, or that was given back, is shown to an operator', async () => {
  const saleId = await openSale();
  const putBack = await copyMysql(stores.config.MYSQL_URL);
  const [gone, returned] = [await take(saleId), await take(saleId)];
  await putBack();
  await stores.redis.del(orderKeys(gone.orderNo).order);
  await stores.redis.hset(orderKeys(returned.orderNo).order, 'hold', 'returned');

  expect(await run()).toEqual({ looked: 2, repaired: 0, parked: 2 });
  expect([await parked(gone), await parked(returned)]).toEqual([
    [{ cause: 'order_lost' }],
    [{ cause: 'order_lost' }],
  ]);
});

test('a rebuild that comes first hides no free order that MySQL has lost', async () => {
  const saleId = await openSale();
  const order = await lose(saleId);
  await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'unfinished' });
  expect(await run()).toEqual({ looked: 1, repaired: 1, parked: 0 });
  expect(await waiting(order)).toBe(1);
});

test('an order that costs something is not listed, and a free one for a day', async () => {
  const saleId = await openSale();
  const lamp = await take(saleId, 'lamp');
  await pay(stores, lamp);
  await stores.reservations.confirm(lamp.orderNo);
  const [old, young] = [await take(saleId), await take(saleId)];
  await stores.redis.zincrby(orderKeys(old.orderNo).free, -PROJECTION_TTL_MS - 1, old.orderNo);

  expect(await run()).toMatchObject({ looked: 1 });
  expect(await Promise.all([lamp, old].map(listed))).toEqual([null, null]);
  expect(await listed(young)).not.toBeNull();
});

test('what a hand put in the place of the list stops neither an order nor the walk over other sales', async () => {
  const [damaged, whole] = [await openSale(), await openSale()];
  const first = await take(damaged);
  await stores.redis.set(orderKeys(first.orderNo).free, 'text');
  expect(
    (await store(await acceptOrder(stores, damaged, { items: [{ sku: 'gift', quantity: 1 }] }))).kind,
  ).toBe('stored');
  await lose(whole);
  expect(await run()).toMatchObject({ looked: 1, repaired: 1 });
  const next = await take(damaged);
  expect(await listed(next)).not.toBeNull();
});

test('an order in the place of which a hand put something else is shown, and stops no other', async () => {
  const saleId = await openSale();
  const putBack = await copyMysql(stores.config.MYSQL_URL);
  const [damaged] = [await take(saleId), await take(saleId)];
  await putBack();
  await stores.redis.set(orderKeys(damaged.orderNo).order, 'text');
  expect(await run()).toEqual({ looked: 2, repaired: 1, parked: 1 });
  expect(await parked(damaged)).toEqual([{ cause: 'order_damaged' }]);
});
