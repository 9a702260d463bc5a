/** Every reply of `give-back`, which returns the units and the allowance of a refunded order. */

import { beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { snapshot, expectUnchanged } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

type What = Partial<{ limit: boolean; stock: boolean }>;

const giveBack = (order: Order, { limit = false, stock = false }: What) =>
  stores.reservations.giveBack({ ...order, part: '', limit, stock });

/** Two lamps and a mug, held by ada. */
async function hold(): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  const items = [
    { sku: 'lamp', quantity: 2 },
    { sku: 'mug', quantity: 1 },
  ];
  return acceptOrder(stores, saleId, { items });
}

async function sell(): Promise<Order> {
  const order = await hold();
  await stores.reservations.confirm(order.orderNo);
  return order;
}

async function look({ saleId, orderNo }: Order) {
  const { limits, order } = orderKeys(orderNo);
  const [lamp] = (await stores.saleStock.read(saleId))?.skus ?? [];
  return {
    lamp: [lamp?.available, lamp?.held, lamp?.sold],
    limits: await stores.redis.hgetall(limits),
    hold: await stores.redis.hget(order, 'hold'),
  };
}

/** What is answered, with the proof that nothing was changed. */
function withoutChange(order: Order, what: What) {
  return expectUnchanged(stores.redis, order.saleId, () => giveBack(order, what));
}

test('units that come back are on sale again, and still count against the limit', async () => {
  const order = await sell();
  expect(await giveBack(order, { stock: true })).toEqual({ kind: 'returned' });
  expect(await look(order)).toEqual({
    lamp: [10, 0, 0],
    limits: { 'lamp:ada': '2', 'mug:ada': '1' },
    hold: 'returned',
  });
});

test('an allowance that comes back leaves the units sold', async () => {
  const order = await sell();
  expect(await giveBack(order, { limit: true })).toEqual({ kind: 'returned' });
  expect(await look(order)).toEqual({ lamp: [8, 0, 2], limits: {}, hold: 'sold' });
});

test('first the allowance, later the units: each comes back once', async () => {
  const order = await sell();
  await giveBack(order, { limit: true });
  expect(await giveBack(order, { limit: true, stock: true })).toEqual({ kind: 'returned' });
  expect(await look(order)).toEqual({ lamp: [10, 0, 0], limits: {}, hold: 'returned' });
  expect(await withoutChange(order, { limit: true, stock: true })).toEqual({ kind: 'returned' });
});

test('what the user bought by another order still counts', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [first] = [await acceptOrder(stores, saleId), await acceptOrder(stores, saleId)];
  await stores.reservations.confirm(first.orderNo);
  await giveBack(first, { limit: true });
  expect((await look(first)).limits).toEqual({ 'lamp:ada': '1' });
});

test('who has the allowance back may buy as much again, and it is not given back once more', async () => {
  const order = await sell();
  const again = buildReserveRequest({ saleId: order.saleId, items: [{ sku: 'lamp', quantity: 2 }] });
  expect(await stores.reservations.reserve(again)).toMatchObject({ kind: 'limit-reached' });
  await giveBack(order, { limit: true });
  expect(await stores.reservations.reserve(again)).toMatchObject({ kind: 'reserved' });
  await withoutChange(order, { limit: true });
});

test('after the hold has expired, units and allowance come back by what MySQL knows, once', async () => {
  const order = await sell();
  await stores.redis.del(orderKeys(order.orderNo).order);
  expect(await giveBack(order, { limit: true, stock: true })).toEqual({ kind: 'returned' });
  expect(await look(order)).toEqual({ lamp: [10, 0, 0], limits: {}, hold: null });
  expect(await withoutChange(order, { limit: true, stock: true })).toEqual({ kind: 'returned' });
});

test('what came back before the hold expired does not come back after', async () => {
  const order = await sell();
  await giveBack(order, { limit: true, stock: true });
  const other = await acceptOrder(stores, order.saleId, { items: [{ sku: 'lamp', quantity: 2 }] });
  await stores.reservations.confirm(other.orderNo);
  await stores.redis.del(orderKeys(order.orderNo).order);
  expect(await withoutChange(order, { limit: true, stock: true })).toEqual({ kind: 'returned' });
});

test('giving back leaves the time at which the projection expires', async () => {
  const order = await sell();
  const { order: key, returns } = orderKeys(order.orderNo);
  const expiresAtMs = await stores.redis.pexpiretime(key);
  await giveBack(order, { limit: true, stock: true });
  expect(await stores.redis.pexpiretime(key)).toBe(expiresAtMs);
  expect(await stores.redis.pttl(returns)).toBe(-1);
});

test('the user comes from the hold where it is there', async () => {
  const order = await sell();
  const mistaken = { ...order, userId: 'bo' };
  expect(await giveBack(mistaken, { limit: true, stock: true })).toEqual({ kind: 'returned' });
  expect(await look(order)).toEqual({ lamp: [10, 0, 0], limits: {}, hold: 'returned' });
});

test('parts of an order come back one by one, each once, and then what they have left', async () => {
  const order = await sell();
  const one = { ...order, items: [{ sku: 'lamp', quantity: 1 }] };
  const give = (part: string, what: What) =>
    stores.reservations.giveBack({ ...one, part, limit: false, stock: false, ...what });
  expect(await give('7', { stock: true })).toEqual({ kind: 'returned' });
  expect(await give('7', { stock: true, limit: true })).toEqual({ kind: 'returned' });
  expect(await look(order)).toEqual({
    lamp: [9, 0, 1],
    limits: { 'lamp:ada': '1', 'mug:ada': '1' },
    hold: 'sold',
  });
  const before = await snapshot(stores.redis, order.saleId);
  await give('7', { stock: true, limit: true });
  expect(await snapshot(stores.redis, order.saleId)).toEqual(before);
  await give('8', { limit: true });
  const rest = { ...one, items: [...one.items, { sku: 'mug', quantity: 1 }], part: '' };
  expect(await stores.reservations.giveBack({ ...rest, limit: false, stock: true })).toEqual({
    kind: 'returned',
  });
  expect(await look(order)).toEqual({ lamp: [10, 0, 0], limits: { 'mug:ada': '1' }, hold: 'returned' });
});

test('nothing comes back of what is held, until it is sold', async () => {
  const order = await hold();
  expect(await withoutChange(order, { limit: true, stock: true })).toEqual({ kind: 'held' });
  await stores.reservations.confirm(order.orderNo);
  expect(await giveBack(order, { limit: true, stock: true })).toEqual({ kind: 'returned' });
});

test('nothing comes back of what was released', async () => {
  const order = await hold();
  await stores.reservations.release(order.orderNo);
  expect(await withoutChange(order, { limit: true, stock: true })).toEqual({ kind: 'released' });
});

test('into a sale that Redis has lost nothing comes back', async () => {
  const order = await sell();
  await stores.redis.del(orderKeys(order.orderNo).stock, orderKeys(order.orderNo).order);
  expect(await withoutChange(order, { limit: true, stock: true })).toEqual({ kind: 'sale-absent' });
});

test('more than is sold never comes back', async () => {
  const order = await hold();
  // Released, and forgotten: that it was ever sold is a mistake.
  await stores.reservations.release(order.orderNo);
  await stores.redis.del(orderKeys(order.orderNo).order);
  expect(await withoutChange(order, { stock: true })).toEqual({ kind: 'not-sold', sku: 'lamp' });
});
