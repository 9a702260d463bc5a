/** Every reply of `reserve`, on a real Redis, and what each leaves behind. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { IDEMPOTENCY_TTL_MS } from '../../src/limits.ts';
import type { ReserveOutcome, ReserveRequest } from '../../src/orders/reserve.redis.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { putIntoOutbox } from '../../src/redis/outbox.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { buildReserveCall, callReserve, newOrderNo, snapshot } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

const HOUR_MS = 60 * 60 * 1000;

async function openSale(overrides: Parameters<typeof buildSale>[0] = {}) {
  return stores.openSale(buildSale(overrides));
}

function reserve(saleId: string, overrides: Partial<ReserveRequest> = {}): Promise<ReserveOutcome> {
  return stores.reservations.reserve(buildReserveRequest({ saleId, ...overrides }));
}

/** The refusal, with the proof that it wrote nothing. */
async function refusal(saleId: string, overrides: Partial<ReserveRequest>): Promise<ReserveOutcome> {
  const before = await snapshot(stores.redis, saleId);
  const outcome = await reserve(saleId, overrides);
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
  return outcome;
}

test('a cart is reserved at the prices of the sale', async () => {
  const { saleId } = await openSale();
  const items = [
    { sku: 'lamp', quantity: 2 },
    { sku: 'mug', quantity: 1 },
  ];
  const outcome = await reserve(saleId, { items });
  expect(outcome).toMatchObject({
    kind: 'reserved',
    total: 11_250,
    currency: 'EUR',
    paymentWindowMs: 1_800_000,
    items: [
      { sku: 'lamp', quantity: 2, unitPrice: 4_900 },
      { sku: 'mug', quantity: 1, unitPrice: 1_450 },
    ],
  });
});

test('a reserved order is held, counted against its user, projected as queued and in the outbox', async () => {
  const { saleId } = await openSale();
  const outcome = await reserve(saleId, { userId: 'bo', items: [{ sku: 'lamp', quantity: 2 }] });
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  const { orderNo, reservedAtMs, paymentWindowMs } = outcome;
  const keys = saleKeys({ saleId, shard: 0 });
  const [lamp] = (await stores.saleStock.read(saleId))?.skus ?? [];
  expect(lamp).toMatchObject({ total: 10, available: 8, held: 2, sold: 0 });
  expect(await stores.redis.hgetall(keys.limits)).toEqual({ 'lamp:bo': '2' });
  expect(await stores.redis.zscore(keys.deadlines, orderNo)).toBe(String(reservedAtMs + paymentWindowMs));
  expect((await stores.redis.xrange(keys.outbox, '-', '+')).map(([, fields]) => fields)).toEqual([
    ['order_no', orderNo],
  ]);
  expect(await stores.reservations.readOrder(orderNo)).toMatchObject({
    order: { orderNo, saleId, userId: 'bo', items: [{ sku: 'lamp', quantity: 2, unitPrice: 4_900 }] },
    state: { status: 'queued', version: 0, payment: 'none', reason: null },
  });
});

test('no expiry ever ends a hold', async () => {
  const { saleId } = await openSale();
  const outcome = await reserve(saleId);
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  expect(await stores.redis.pttl(saleKeys({ saleId, shard: 0 }).order(outcome.orderNo))).toBe(-1);
});

test('the same key and request answers the order it made before', async () => {
  const { saleId } = await openSale();
  const first = await reserve(saleId, { idempotencyKey: 'k' });
  if (first.kind !== 'reserved') throw new Error(first.kind);
  expect(await refusal(saleId, { idempotencyKey: 'k' })).toEqual({
    kind: 'repeated',
    orderNo: first.orderNo,
  });
});

test('the same key with another request is refused and names the order it belongs to', async () => {
  const { saleId } = await openSale();
  const first = await reserve(saleId, { idempotencyKey: 'k' });
  if (first.kind !== 'reserved') throw new Error(first.kind);
  const outcome = await refusal(saleId, { idempotencyKey: 'k', fingerprint: 'another' });
  expect(outcome).toEqual({ kind: 'key-reused', orderNo: first.orderNo });
});

test('the same key of another user is a request of its own', async () => {
  const { saleId } = await openSale();
  await reserve(saleId, { idempotencyKey: 'k' });
  expect(await reserve(saleId, { idempotencyKey: 'k', userId: 'bo' })).toMatchObject({ kind: 'reserved' });
});

test('a repeat is answered although the sale has been paused since', async () => {
  const { saleId } = await openSale();
  await reserve(saleId, { idempotencyKey: 'k' });
  await stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'paused', '1');
  expect(await reserve(saleId, { idempotencyKey: 'k' })).toMatchObject({ kind: 'repeated' });
});

test('a sale that Redis does not know is absent, never sold out', async () => {
  const { saleId } = buildSale();
  expect(await refusal(saleId, {})).toEqual({ kind: 'sale-absent' });
  expect(await callReserve(stores.redis, buildReserveCall(saleId))).toEqual(['sale-absent']);
});

test('an order number of another epoch is refused with the epoch of now', async () => {
  const { saleId } = await openSale();
  const before = await snapshot(stores.redis, saleId);
  expect(await callReserve(stores.redis, buildReserveCall(saleId, { epoch: '7' }))).toEqual([
    'epoch-changed',
    '1',
  ]);
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
});

test('after a change of the epoch the next order number carries the new one', async () => {
  const { saleId } = await openSale();
  await reserve(saleId);
  await stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'epoch', '2');
  const outcome = await reserve(saleId);
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  expect(outcome.orderNo.startsWith(`${saleId}-0-2-`)).toBe(true);
});

test('a paused sale sells nothing', async () => {
  const { saleId } = await openSale({ paused: true });
  expect(await refusal(saleId, {})).toEqual({ kind: 'paused' });
});

test('a sale before its time answers when it opens', async () => {
  const { saleId, opensAtMs } = await openSale({
    opensAtMs: Date.now() + HOUR_MS,
    closesAtMs: Date.now() + 2 * HOUR_MS,
  });
  expect(await refusal(saleId, {})).toEqual({ kind: 'not-open-yet', opensAtMs });
});

test('a sale after its time answers when it closed', async () => {
  const { saleId, closesAtMs } = await openSale({
    opensAtMs: Date.now() - 2 * HOUR_MS,
    closesAtMs: Date.now() - HOUR_MS,
  });
  expect(await refusal(saleId, {})).toEqual({ kind: 'closed', closesAtMs });
});

test('a SKU that the sale does not have is named', async () => {
  const { saleId } = await openSale();
  const items = [
    { sku: 'mug', quantity: 1 },
    { sku: 'sofa', quantity: 1 },
  ];
  expect(await refusal(saleId, { items })).toEqual({ kind: 'unknown-sku', sku: 'sofa' });
});

test('a SKU that is called off is refused, also where none of it is left, and the others are not', async () => {
  const sale = buildSale();
  const skus = sale.skus.map((item) =>
    item.sku === 'mug' ? { ...item, total: 0, calledOff: true as const } : item,
  );
  const { saleId } = await openSale({ skus });

  const items = [
    { sku: 'lamp', quantity: 1 },
    { sku: 'mug', quantity: 1 },
  ];
  expect(await refusal(saleId, { items })).toEqual({ kind: 'called-off', sku: 'mug' });
  expect(await reserve(saleId)).toMatchObject({ kind: 'reserved' });
});

test('a cart of which one line is sold out is refused as a whole, with what is left', async () => {
  const { saleId } = await openSale();
  const items = [
    { sku: 'lamp', quantity: 1 },
    { sku: 'mug', quantity: 6 },
  ];
  expect(await refusal(saleId, { items })).toEqual({
    kind: 'sold-out',
    sku: 'mug',
    available: 5,
    held: 0,
    openOrders: [],
  });
});

test('the last unit is sold and the next shopper finds none', async () => {
  const { saleId } = await openSale();
  expect(await reserve(saleId, { items: [{ sku: 'mug', quantity: 5 }] })).toMatchObject({ kind: 'reserved' });
  const outcome = await refusal(saleId, { userId: 'bo', items: [{ sku: 'mug', quantity: 1 }] });
  expect(outcome).toEqual({ kind: 'sold-out', sku: 'mug', available: 0, held: 5, openOrders: [] });
});

test('a user over the limit is refused with the limit and the units that they have', async () => {
  const { saleId } = await openSale();
  await reserve(saleId);
  const outcome = await refusal(saleId, { items: [{ sku: 'lamp', quantity: 2 }] });
  expect(outcome).toEqual({
    kind: 'limit-reached',
    sku: 'lamp',
    limit: 2,
    bought: 1,
    openOrders: [expect.any(String)],
  });
});

test('orders that wait in the outbox and in those of other sales together fill the backlog', async () => {
  // One order a second and a window of nine seconds: three may wait.
  const { saleId } = await openSale({ paymentWindowMs: 9_000 });
  const slow = { storesPerSecond: 1, waitingElsewhere: 2 };
  expect((await callReserve(stores.redis, buildReserveCall(saleId, slow)))[0]).toBe('reserved');
  const before = await snapshot(stores.redis, saleId);
  expect(await callReserve(stores.redis, buildReserveCall(saleId, slow))).toEqual(['backlog-full', '3', '3']);
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
});

test('the store passes a full backlog on as numbers', async () => {
  // A hundred orders a second and a window of a second: 33 may wait.
  const { saleId } = await openSale({ paymentWindowMs: 1_000 });
  for (let i = 0; i < 34; i += 1) await putIntoOutbox(stores.redis, newOrderNo(saleId));
  const outcome = await refusal(saleId, {});
  expect(outcome).toEqual({ kind: 'backlog-full', waiting: expect.any(Number), bound: 33 });
});

test('a cart that names a SKU twice never reaches Redis', async () => {
  const { saleId } = await openSale();
  const items = [
    { sku: 'lamp', quantity: 2 },
    { sku: 'lamp', quantity: 2 },
  ];
  await expect(reserve(saleId, { items })).rejects.toThrow('each SKU once');
});

test('an idempotency entry expires after a day', async () => {
  const { saleId } = await openSale();
  const request = buildReserveRequest({ saleId });
  await stores.reservations.reserve(request);
  const { idem } = saleKeys({ saleId, shard: 0 });
  const leftMs = await stores.redis.pttl(idem(request.userId, request.idempotencyKey));
  expect(leftMs).toBeGreaterThan(IDEMPOTENCY_TTL_MS - HOUR_MS);
  expect(leftMs).toBeLessThanOrEqual(IDEMPOTENCY_TTL_MS);
});
