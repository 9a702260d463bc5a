/** Every reply of `reserve` and what it leaves behind; and what `reserve-again` does alike. */

import { beforeAll, describe, expect, test } from 'vitest';
import { IDEMPOTENCY_TTL_MS } from '../../src/limits.ts';
import type { ReserveOutcome, ReserveRequest } from '../../src/orders/reserve.redis.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { putIntoOutbox } from '../../src/redis/outbox.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callReserve,
  callReserveTogether,
  newOrderNo,
  snapshot,
  expectUnchanged,
} from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const HOUR_MS = 60 * 60 * 1000;

async function openSale(overrides: Parameters<typeof buildSale>[0] = {}) {
  return stores.openSale(buildSale(overrides));
}

function reserve(saleId: string, overrides: Partial<ReserveRequest> = {}): Promise<ReserveOutcome> {
  return stores.reservations.reserve(buildReserveRequest({ saleId, ...overrides }));
}

/** The refusal, with the proof that it wrote nothing. */
function refusal(saleId: string, overrides: Partial<ReserveRequest>): Promise<ReserveOutcome> {
  return expectUnchanged(stores.redis, saleId, () => reserve(saleId, overrides));
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

test('the script answers that it does not know the sale', async () => {
  const { saleId } = buildSale();
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

test('a sold-out SKU is refused with what is free and what unpaid orders hold', async () => {
  const { saleId } = await openSale();
  const tooMany = await refusal(saleId, { items: [{ sku: 'mug', quantity: 6 }] });
  expect(tooMany).toEqual({ kind: 'sold-out', sku: 'mug', available: 5, held: 0, openOrders: [] });
  await reserve(saleId, { items: [{ sku: 'mug', quantity: 5 }] });
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
  // One order a second and a window of nine seconds: three may wait, and half of them are this sale's part.
  const { saleId } = await openSale({ paymentWindowMs: 9_000 });
  const slow = { storesPerSecond: 1, waitingElsewhere: 2, outboxesElsewhere: 1 };
  for (const userId of ['bo', 'cy'])
    expect((await callReserve(stores.redis, buildReserveCall(saleId, { ...slow, userId })))[0]).toBe(
      'reserved',
    );
  const before = await snapshot(stores.redis, saleId);
  expect(await callReserve(stores.redis, buildReserveCall(saleId, slow))).toEqual(['backlog-full', '4', '3']);
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
});

test('however many orders of two other sales wait, a sale fills its third of the backlog', async () => {
  const { saleId } = await openSale({ paymentWindowMs: 18_000 });
  const slow = { storesPerSecond: 1, waitingElsewhere: 300, outboxesElsewhere: 2 };
  const call = (userId: string) => buildReserveCall(saleId, { ...slow, userId });

  const replies = await callReserveTogether(stores.redis, [call('ada'), call('bo'), call('cy')]);

  expect(replies.map(([kind]) => kind)).toEqual(['reserved', 'reserved', 'backlog-full']);
  expect(replies[2]).toEqual(['backlog-full', '302', '6']);
});

test('a sale beside others with few orders takes what they leave of the backlog', async () => {
  const { saleId } = await openSale({ paymentWindowMs: 18_000 });
  const slow = { storesPerSecond: 1, waitingElsewhere: 2, outboxesElsewhere: 2 };
  const call = (userId: string) => buildReserveCall(saleId, { ...slow, userId });

  const replies = await callReserveTogether(stores.redis, [
    call('ada'),
    ...['bo', 'cy', 'dee', 'eve'].map(call),
  ]);

  expect(replies.map(([kind]) => kind)).toEqual([...Array(4).fill('reserved'), 'backlog-full']);
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

type Items = ReserveRequest['items'];

/** Both hold stock: one for a new order, the other for an order that every store has lost. */
const SCRIPTS: [name: string, hold: (saleId: string, items: Items) => Promise<{ kind: string }>][] = [
  ['reserve', (saleId, items) => reserve(saleId, { items, idempotencyKey: 'k' })],
  [
    'reserve-again',
    (saleId, items) => {
      const lines = items.map((item) => ({ ...item, unitPrice: 4_900 }));
      return stores.reservations.reserveAgain(buildOrder({ saleId, items: lines, idempotencyKey: 'k' }));
    },
  ],
];

describe.each(SCRIPTS)('%s', (_, hold) => {
  /** The refusal of these lines beside a lamp, with the proof that it wrote nothing. */
  function refusalOf(saleId: string, ...others: Items) {
    return expectUnchanged(stores.redis, saleId, () =>
      hold(saleId, [{ sku: 'lamp', quantity: 1 }, ...others]),
    );
  }

  test('holds an order, counts it against its user, shows it as queued and puts it into the outbox', async () => {
    const { saleId } = await openSale();
    const items = [
      { sku: 'lamp', quantity: 2 },
      { sku: 'mug', quantity: 1 },
    ];

    expect(await hold(saleId, items)).toMatchObject({ kind: 'reserved' });

    const keys = saleKeys({ saleId, shard: 0 });
    const entries = (await stores.redis.xrange(keys.outbox, '-', '+')).map(([, fields]) => fields);
    const orderNo = entries[0]?.[1] ?? '';
    expect(entries).toEqual([['order_no', orderNo]]);
    const { order, state } = (await stores.reservations.readOrder(orderNo)) ?? {};
    expect(order).toMatchObject({ orderNo, saleId, userId: 'ada', items });
    expect(state).toEqual({ status: 'queued', version: 0, payment: 'none', reason: null });
    expect((await stores.saleStock.read(saleId))?.skus).toMatchObject([
      { sku: 'lamp', total: 10, available: 8, held: 2, sold: 0 },
      { sku: 'mug', total: 5, available: 4, held: 1, sold: 0 },
    ]);
    expect(await stores.redis.hgetall(keys.limits)).toEqual({ 'lamp:ada': '2', 'mug:ada': '1' });
    const deadlineMs = (order?.reservedAtMs ?? 0) + (order?.paymentWindowMs ?? 0);
    expect(await stores.redis.zscore(keys.deadlines, orderNo)).toBe(String(deadlineMs));
  });

  test('makes a hold that no expiry ends, and an idempotency entry that expires after a day', async () => {
    const { saleId } = await openSale();
    await hold(saleId, [{ sku: 'lamp', quantity: 1 }]);
    const keys = saleKeys({ saleId, shard: 0 });
    const [orderNo = ''] = await stores.redis.zrange(keys.deadlines, '0', '-1');
    expect(await stores.redis.pttl(keys.order(orderNo))).toBe(-1);
    const remainingMs = await stores.redis.pttl(keys.idem('ada', 'k'));
    expect(remainingMs).toBeGreaterThan(IDEMPOTENCY_TTL_MS - HOUR_MS);
    expect(remainingMs).toBeLessThanOrEqual(IDEMPOTENCY_TTL_MS);
  });

  test('answers that Redis does not know the sale, never that it is sold out', async () => {
    expect(await refusalOf(buildSale().saleId)).toEqual({ kind: 'sale-absent' });
  });

  test('names a SKU that the sale does not have', async () => {
    const { saleId } = await openSale();
    const sofa = { sku: 'sofa', quantity: 1 };
    expect(await refusalOf(saleId, sofa)).toEqual({ kind: 'unknown-sku', sku: 'sofa' });
  });

  test('takes nothing of a cart of which one line is sold out', async () => {
    const { saleId } = await openSale();
    const outcome = await refusalOf(saleId, { sku: 'mug', quantity: 6 });
    expect(outcome).toMatchObject({ kind: 'sold-out', sku: 'mug' });
  });

  test('may take the last units', async () => {
    const { saleId } = await openSale();
    expect(await hold(saleId, [{ sku: 'mug', quantity: 5 }])).toMatchObject({ kind: 'reserved' });
  });
});
