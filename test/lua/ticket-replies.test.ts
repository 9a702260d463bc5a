/** What `reserve` makes of tickets, charges, the total that was expected and the limit across a sale. */

import { beforeAll, expect, test } from 'vitest';
import type { AcceptedTicket, ReserveOutcome, ReserveRequest } from '../../src/orders/reserve.redis.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { expectUnchanged } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const MINUTE_MS = 60_000;
const ONE_LAMP = [{ sku: 'lamp', quantity: 1 }];

/** An open sale; with `rules` of its hash beside those that it is warmed up with. */
async function openSale(rules: Record<string, string> = {}): Promise<string> {
  const { saleId } = await stores.openSale(buildSale());
  if (Object.keys(rules).length > 0) await stores.redis.hset(keysOf(saleId).sale, rules);
  return saleId;
}

const keysOf = (saleId: string) => saleKeys({ saleId, shard: 0 });

function ticket(overrides: Partial<AcceptedTicket> = {}): AcceptedTicket {
  const endsAtMs = Date.now() + MINUTE_MS;
  return { id: 'a-ticket', endsAtMs, isSingleUse: true, charges: [], ...overrides };
}

function charge(amount: number) {
  return { code: 'c', name: 'A charge', amount };
}

function reserve(saleId: string, overrides: Partial<ReserveRequest> = {}): Promise<ReserveOutcome> {
  return stores.reservations.reserve(buildReserveRequest({ saleId, ...overrides }));
}

async function reserved(saleId: string, overrides: Partial<ReserveRequest> = {}) {
  const outcome = await reserve(saleId, overrides);
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  return outcome;
}

/** The refusal, with the proof that it wrote nothing. */
function refusal(saleId: string, overrides: Partial<ReserveRequest>): Promise<ReserveOutcome> {
  return expectUnchanged(stores.redis, saleId, () => reserve(saleId, overrides));
}

test('a sale that asks for work takes a ticket that was worked for, and one of the shop', async () => {
  const rule = JSON.stringify({ kind: 'proof_of_work', costKib: 64, aheadMs: 0 });
  const saleId = await openSale({ verification: rule });
  expect(await refusal(saleId, {})).toEqual({ kind: 'ticket-required' });
  for (const worked of [ticket({ id: 'worked-for', isOfWork: true }), ticket({ id: 'of-the-shop' })])
    expect(await reserve(saleId, { ticket: worked })).toMatchObject({ kind: 'reserved' });
  expect(await refusal(saleId, { ticket: ticket({ id: 'worked-for', isOfWork: true }) })).toMatchObject({
    kind: 'ticket-used',
  });
});

test("where a ticket of the shop's is demanded, one that was worked for is none", async () => {
  const saleId = await openSale({ ticket: '1' });
  expect(await refusal(saleId, { ticket: ticket({ isOfWork: true }) })).toEqual({ kind: 'ticket-required' });
});

test('a sale that demands a ticket refuses an order without one', async () => {
  const saleId = await openSale({ ticket: '1' });
  expect(await refusal(saleId, {})).toEqual({ kind: 'ticket-required' });
  expect(await reserve(saleId, { ticket: ticket() })).toMatchObject({ kind: 'reserved' });
});

test('a ticket of single use is spent with the order, and remembered until it has ended', async () => {
  const saleId = await openSale();
  const spent = ticket();
  const { orderNo } = await reserved(saleId, { ticket: spent });
  expect(await refusal(saleId, { ticket: spent })).toEqual({ kind: 'ticket-used', orderNo });
  const key = keysOf(saleId).ticket(spent.id);
  expect(await stores.redis.hgetall(key)).toEqual({ order_no: orderNo });
  expect(await stores.redis.pexpiretime(key)).toBe(spent.endsAtMs);
  expect((await stores.reservations.readOrder(orderNo))?.order.ticket).toEqual({
    id: spent.id,
    endsAtMs: spent.endsAtMs,
  });
});

test('a ticket stays spent when its order is cancelled', async () => {
  const saleId = await openSale();
  const spent = ticket();
  const { orderNo } = await reserved(saleId, { ticket: spent });
  await stores.reservations.release(orderNo);
  expect(await refusal(saleId, { ticket: spent })).toEqual({ kind: 'ticket-used', orderNo });
});

test('the request that spent a ticket finds its order again', async () => {
  const saleId = await openSale();
  const request = { idempotencyKey: 'k', ticket: ticket() };
  const { orderNo } = await reserved(saleId, request);
  expect(await refusal(saleId, request)).toEqual({ kind: 'repeated', orderNo });
});

test('a ticket of many uses leaves no trace', async () => {
  const saleId = await openSale();
  const reusable = ticket({ isSingleUse: false });
  const { orderNo } = await reserved(saleId, { ticket: reusable });
  await reserved(saleId, { ticket: reusable });
  expect(await stores.redis.exists(keysOf(saleId).ticket(reusable.id))).toBe(0);
  expect((await stores.reservations.readOrder(orderNo))?.order.ticket).toBeUndefined();
});

test('a ticket that has ended by the clock of Redis is refused, though it was found good before', async () => {
  const saleId = await openSale();
  expect(await refusal(saleId, { ticket: ticket({ endsAtMs: Date.now() - 1 }) })).toEqual({
    kind: 'ticket-expired',
  });
});

test('a refused cart leaves its ticket good', async () => {
  const saleId = await openSale();
  const items = [{ sku: 'mug', quantity: 6 }];
  expect(await refusal(saleId, { items, ticket: ticket() })).toMatchObject({ kind: 'sold-out' });
  await reserved(saleId, { ticket: ticket() });
});

test('charges add to the total, and stay with the order', async () => {
  const saleId = await openSale();
  const charges = [charge(500), charge(-900)];
  const outcome = await reserved(saleId, { ticket: ticket({ charges }) });
  expect(outcome).toMatchObject({ total: 4_500, charges });
  expect((await stores.reservations.readOrder(outcome.orderNo))?.order).toMatchObject({
    total: 4_500,
    charges,
  });
});

test('charges that bring the total below 0 are refused, and those that bring it to 0 make the order free', async () => {
  const saleId = await openSale();
  const tooMuch = ticket({ charges: [charge(-4_901)] });
  expect(await refusal(saleId, { ticket: tooMuch })).toEqual({ kind: 'total-too-low', total: -1 });
  const { total, orderNo } = await reserved(saleId, { ticket: ticket({ charges: [charge(-4_900)] }) });
  expect(total).toBe(0);
  expect((await stores.reservations.readOrder(orderNo))?.order).toMatchObject({ total: 0 });
});

test('another total than the expected one is refused with the right one', async () => {
  const saleId = await openSale();
  const right = { kind: 'total-changed', total: 4_900, currency: 'EUR' };
  expect(await refusal(saleId, { expectedTotal: 4_800 })).toEqual(right);
  expect(await refusal(saleId, { expectedTotal: 5_000 })).toEqual(right);
  await reserved(saleId, { expectedTotal: 4_900 });
});

test('an expected total of 0 is one that is expected', async () => {
  const saleId = await openSale();
  const right = { kind: 'total-changed', total: 4_900, currency: 'EUR' };
  expect(await refusal(saleId, { expectedTotal: 0 })).toEqual(right);
  const free = ticket({ charges: [charge(-4_900)] });
  expect(await refusal(saleId, { ticket: free, expectedTotal: 1 })).toEqual({ ...right, total: 0 });
  await reserved(saleId, { ticket: free, expectedTotal: 0 });
});

test('the expected total is that of items and charges', async () => {
  const saleId = await openSale();
  await reserved(saleId, { ticket: ticket({ charges: [charge(100)] }), expectedTotal: 5_000 });
});

test('what an order carries is in its hash as one text, without what is empty', async () => {
  const saleId = await openSale();
  const shop = { reference: 'R-1', metadata: { channel: 'app' } };
  const { orderNo } = await reserved(saleId, shop);
  const plain = await reserved(saleId);
  expect((await stores.reservations.readOrder(orderNo))?.order).toMatchObject(shop);
  expect((await stores.reservations.readOrders([orderNo]))[0]?.order).toMatchObject(shop);
  expect(await stores.redis.hget(keysOf(saleId).order(plain.orderNo), 'carried')).toBe(
    '{"ip":"192.0.2.1","userAgent":"test"}',
  );
});

test('an order whose carried text is damaged is not whole, and those beside it are read', async () => {
  const saleId = await openSale();
  const [damaged, whole] = [await reserved(saleId), await reserved(saleId)];
  await stores.redis.hset(keysOf(saleId).order(damaged.orderNo), 'carried', '[');
  const found = await stores.reservations.readOrders([damaged.orderNo, whole.orderNo]);
  expect(found.map((it) => it?.order.orderNo)).toEqual([undefined, whole.orderNo]);
});

test('the limit across a sale counts the units of all its SKUs, also those from before it was set', async () => {
  const saleId = await openSale();
  await reserved(saleId, { items: [{ sku: 'mug', quantity: 2 }] });
  await reserved(saleId, { userId: 'bo', items: [{ sku: 'mug', quantity: 1 }] });
  await stores.redis.hset(keysOf(saleId).sale, 'limit_per_user', '3');
  const items = [...ONE_LAMP, { sku: 'mug', quantity: 1 }];
  expect(await refusal(saleId, { items })).toEqual({
    kind: 'sale-limit-reached',
    limit: 3,
    bought: 2,
    openOrders: [expect.any(String)],
  });
  await reserved(saleId, { items: ONE_LAMP });
  await reserved(saleId, { userId: 'bo', items });
});

test('units that are given back do not count against the limit across a sale', async () => {
  const saleId = await openSale({ limit_per_user: '1' });
  const { orderNo } = await reserved(saleId);
  expect(await refusal(saleId, { items: [{ sku: 'mug', quantity: 1 }] })).toMatchObject({
    kind: 'sale-limit-reached',
  });
  await stores.reservations.release(orderNo);
  await reserved(saleId, { items: [{ sku: 'mug', quantity: 1 }] });
});

test('an order that is reserved again spends its ticket again, and keeps what the shop added', async () => {
  const saleId = await openSale();
  const shop = { reference: 'R-2', metadata: { channel: 'app' }, charges: [charge(100)] };
  const spent = { id: 'lost-ticket', endsAtMs: Date.now() + MINUTE_MS };
  const order = buildOrder({ saleId, total: 5_000, ...shop, ticket: spent });
  expect(await stores.reservations.reserveAgain(order)).toEqual({ kind: 'reserved', epoch: 1 });
  expect((await stores.reservations.readOrder(order.orderNo))?.order).toEqual(order);
  expect(await refusal(saleId, { ticket: ticket({ id: spent.id }) })).toEqual({
    kind: 'ticket-used',
    orderNo: order.orderNo,
  });
});

test('an order that is reserved again after its ticket has ended leaves no trace of the ticket', async () => {
  const saleId = await openSale();
  const order = buildOrder({ saleId, ticket: { id: 'old-ticket', endsAtMs: Date.now() - 1 } });
  expect(await stores.reservations.reserveAgain(order)).toMatchObject({ kind: 'reserved' });
  expect(await stores.redis.exists(keysOf(saleId).ticket('old-ticket'))).toBe(0);
});

test("a ticket that another order has spent since stays that one's", async () => {
  const saleId = await openSale();
  const { orderNo } = await reserved(saleId, { ticket: ticket({ id: 'twice' }) });
  const late = buildOrder({ saleId, ticket: { id: 'twice', endsAtMs: Date.now() + 2 * MINUTE_MS } });
  expect(await stores.reservations.reserveAgain(late)).toMatchObject({ kind: 'reserved' });
  expect(await stores.redis.hgetall(keysOf(saleId).ticket('twice'))).toEqual({ order_no: orderNo });
});
