/**
 * What `reserve-again`, which holds stock for an order that every store has lost, does otherwise than
 * `reserve`; `reserve-replies.test.ts` has what both do alike.
 */

import { beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { putIntoOutbox } from '../../src/redis/outbox.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { newOrderNo, expectUnchanged } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const HOUR_MS = 60 * 60 * 1000;

/**
 * Two lamps and a mug of long ago, as the payment session carried them: address and user agent are not among
 * it.
 */
function lostOrder(saleId: string, overrides: Partial<Order> = {}): Order {
  const items = [
    { sku: 'lamp', quantity: 2, unitPrice: 4_000 },
    { sku: 'mug', quantity: 1, unitPrice: 1_450 },
  ];
  const reservedAtMs = Date.now() - 3 * HOUR_MS;
  return buildOrder({ saleId, items, reservedAtMs, ip: '', userAgent: '', ...overrides });
}

/** The refusal, with the proof that it wrote nothing. */
function refusal(order: Order) {
  return expectUnchanged(stores.redis, order.saleId, () => stores.reservations.reserveAgain(order));
}

test('a lost order is there again as it was accepted', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = lostOrder(saleId);
  expect(await stores.reservations.reserveAgain(order)).toEqual({ kind: 'reserved', epoch: 1 });
  expect(await stores.reservations.readOrder(order.orderNo)).toEqual({
    order,
    state: { status: 'queued', version: 0, payment: 'none', reason: null },
  });
});

const SHOWN = { status: 'awaiting_payment', version: 3, payment: 'none', reason: 'shopper_request' } as const;

test('an order whose void hold showed a state that MySQL has lost shows it on, until a greater version comes', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = lostOrder(saleId);
  const { reservations } = stores;
  await reservations.reserveAgain(order);
  await reservations.project(order.orderNo, SHOWN);
  await stores.redis.hset(orderKeys(order.orderNo).sale, 'epoch', '2');
  await stores.redis.del(orderKeys(order.orderNo).restored);

  expect(await reservations.reserveAgain(order)).toEqual({ kind: 'reserved', epoch: 2 });

  expect(await reservations.readOrder(order.orderNo)).toEqual({
    order: { ...order, holdEpoch: 2 },
    state: SHOWN,
  });
  expect(await reservations.project(order.orderNo, { ...SHOWN, version: 1, reason: null })).toBe('stale');
  expect(await reservations.project(order.orderNo, { ...SHOWN, version: 4 })).toBe('projected');
});

test.each(['status', 'version', 'payment', 'reason'])(
  'a void hold whose shown state lacks its %s shows the order as queued',
  async (field) => {
    const { saleId } = await stores.openSale(buildSale());
    const order = lostOrder(saleId);
    const { reservations, redis } = stores;
    await reservations.reserveAgain(order);
    await reservations.project(order.orderNo, SHOWN);
    const keys = orderKeys(order.orderNo);
    await redis.hdel(keys.order, field);
    await redis.hset(keys.sale, 'epoch', '2');
    await redis.del(keys.restored);

    expect(await reservations.reserveAgain(order)).toEqual({ kind: 'reserved', epoch: 2 });

    expect((await reservations.readOrder(order.orderNo))?.state).toMatchObject({
      status: 'queued',
      version: 0,
    });
  },
);

test('neither a pause, nor the end of the sale, nor the limit, nor a full backlog stands in the way', async () => {
  const { saleId } = await stores.openSale(
    buildSale({
      paused: true,
      opensAtMs: Date.now() - 3 * HOUR_MS,
      closesAtMs: Date.now() - HOUR_MS,
      // A hundred orders a second: 33 may wait.
      paymentWindowMs: 1_000,
    }),
  );
  for (let i = 0; i < 33; i += 1) await putIntoOutbox(stores.redis, newOrderNo(saleId));
  const [first, second] = [lostOrder(saleId), lostOrder(saleId)];
  expect(await stores.reservations.reserveAgain(first)).toEqual({ kind: 'reserved', epoch: 1 });
  expect(await stores.reservations.reserveAgain(second)).toEqual({ kind: 'reserved', epoch: 1 });
  expect(await stores.redis.hgetall(orderKeys(first.orderNo).limits)).toEqual({
    'lamp:ada': '4',
    'mug:ada': '2',
  });
});

test('what was taken again counts against the limit of new orders', async () => {
  const { saleId } = await stores.openSale(buildSale());
  await stores.reservations.reserveAgain(lostOrder(saleId));
  expect(await stores.reservations.reserve(buildReserveRequest({ saleId }))).toMatchObject({
    kind: 'limit-reached',
    bought: 2,
  });
});

test('the shopper who repeats the request gets the restored order', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = lostOrder(saleId);
  await stores.reservations.reserveAgain(order);
  const { orderNo, userId, idempotencyKey } = order;
  const { idem } = orderKeys(orderNo);
  const entry = await stores.redis.hgetall(idem(userId, idempotencyKey));
  expect(entry['order_no']).toBe(orderNo);
  const again = buildReserveRequest({
    saleId,
    userId,
    idempotencyKey,
    fingerprint: String(entry['fingerprint']),
  });
  expect(await stores.reservations.reserve(again)).toEqual({ kind: 'repeated', orderNo });
});

test('a key under which the shopper got another order meanwhile stays with that', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = lostOrder(saleId);
  const request = buildReserveRequest({ saleId, idempotencyKey: order.idempotencyKey });
  const later = await stores.reservations.reserve(request);
  if (later.kind !== 'reserved') throw new Error(later.kind);
  expect(await stores.reservations.reserveAgain(order)).toEqual({ kind: 'reserved', epoch: 1 });
  expect(await stores.reservations.reserve(request)).toEqual({ kind: 'repeated', orderNo: later.orderNo });
});

test.each(['held', 'sold', 'released', 'returned'] as const)(
  'an order that is there and %s is answered as it is',
  async (hold) => {
    const { saleId } = await stores.openSale(buildSale());
    const order = lostOrder(saleId);
    await stores.reservations.reserveAgain(order);
    if (hold === 'released') await stores.reservations.release(order.orderNo);
    if (hold === 'sold' || hold === 'returned') await stores.reservations.confirm(order.orderNo);
    if (hold === 'returned')
      await stores.reservations.giveBack({ ...order, part: '', limit: false, stock: true });
    expect(await refusal(order)).toEqual({ kind: 'known', hold, epoch: 1 });
  },
);

test('an order restored before, ended and expired is not restored once more', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = lostOrder(saleId);
  await stores.reservations.reserveAgain(order);
  await stores.reservations.release(order.orderNo);
  await stores.redis.del(orderKeys(order.orderNo).order);
  expect(await refusal(order)).toEqual({ kind: 'known', hold: 'absent', epoch: 1 });
});

test('a restored order can be sold, and released, like any other', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [paid, unpaid] = [lostOrder(saleId), lostOrder(saleId, { userId: 'bo' })];
  await stores.reservations.reserveAgain(paid);
  await stores.reservations.reserveAgain(unpaid);
  expect(await stores.reservations.confirm(paid.orderNo)).toBe('sold');
  expect(await stores.reservations.release(unpaid.orderNo)).toBe('released');
  expect((await stores.saleStock.read(saleId))?.skus).toMatchObject([
    { available: 8, held: 0, sold: 2 },
    { available: 4, held: 0, sold: 1 },
  ]);
});
