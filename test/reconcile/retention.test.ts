/** What is kept no longer goes away, in batches; a sale without its data in Redis still settles its money. */

import { ulid } from 'ulidx';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { clearExpired } from '../../src/reconcile/retention.ts';
import { saleKeys, SALES_KEY } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildSale } from '../support/factories.ts';
import { keep } from '../support/keep.ts';
import { readPaymentId, select, selectOne } from '../support/rows.ts';
import { signer } from '../support/signer.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
/** A run looks at every sale that Redis has, so each test begins with none. */
beforeEach(() => stores.redis.flushall());

const run = () => clearExpired({ ...stores, keep, log: silent }, new AbortController().signal);

const openSale = async (): Promise<string> => (await stores.openSale(buildSale())).saleId;

/** The sale ended so long ago. */
async function endSale(saleId: string, agoMs: number): Promise<void> {
  await modify(stores.pool, 'UPDATE sales SET closes_at = ? WHERE sale_id = ?', [
    new Date(Date.now() - agoMs),
    saleId,
  ]);
}

/** Accepted and stored, and taken off the outbox. */
async function store(saleId: string): Promise<Order> {
  const order = await acceptOrder(stores, saleId, { userId: ulid() });
  await stores.orders.storeOrder(order, 'started');
  await stores.redis.xtrim(saleKeys({ saleId, shard: 0 }).outbox, 'MAXLEN', 0);
  return order;
}

async function cancel({ orderNo }: Order): Promise<void> {
  await stores.orders.cancel(orderNo, 'shopper_request', { force: true });
  await stores.reservations.release(orderNo);
}

/** Paid by a payment that carries the signed order. @returns the payment's id */
async function pay(order: Order): Promise<number> {
  const { orderNo, total: amount, currency } = order;
  await stores.paymentSessions.begin('sandbox', orderNo, signer.sign);
  const payment = {
    providerPaymentId: `pay_${orderNo}`,
    orderNo,
    amount,
    currency,
    signedOrder: await signer.sign(order),
  };
  await stores.payments.receive(
    'sandbox',
    { kind: 'payment_succeeded', eventId: `evt_${orderNo}`, payment },
    '{"a":1}',
  );
  await stores.reservations.confirm(orderNo);
  return readPaymentId(stores.pool, orderNo);
}

const keysLeft = async (saleId: string) => {
  const keys = await stores.redis.keys(`holdfast:{${saleId}.0}:*`);
  return keys.map((key) => key.split(':')[2]).filter((name) => name !== 'order' && name !== 'idem');
};

test("a sale's data in Redis go days after its end, and nothing makes them again", async () => {
  const saleId = await openSale();
  await cancel(await store(saleId));
  await pay(await store(saleId));
  await endSale(saleId, 4 * DAY_MS);
  expect(await run()).toMatchObject({ looked: 1, parked: 0 });
  expect(await keysLeft(saleId)).toEqual([]);
  expect(await stores.redis.smembers(SALES_KEY)).toEqual([]);
  expect(await stores.sales.isWatched(saleId)).toBe(false);
  expect(await stores.sales.isRedisCleaned(saleId)).toBe(true);
  expect(await run()).toMatchObject({ looked: 0 });
});

test("a sale's figures over time go with its data in Redis, and its totals stay", async () => {
  const saleId = await openSale();
  await pay(await store(saleId));
  await dispatchEvents(stores);
  const readPoints = () => stores.saleFigures.readPoints(saleId, 'hour', 0, 4_000_000_000);
  await endSale(saleId, 2 * DAY_MS);
  await run();
  expect(await readPoints()).not.toEqual([]);
  await endSale(saleId, 4 * DAY_MS);
  await run();
  expect(await readPoints()).toEqual([]);
  expect(await stores.saleFigures.readTotals([saleId])).toMatchObject([{ accepted: 1, paid: 1 }]);
});

test.each([
  ['is not over for long', async (saleId: string) => endSale(saleId, 2 * DAY_MS)],
  [
    'has an open order',
    async (saleId: string) => {
      await store(saleId);
      await endSale(saleId, 4 * DAY_MS);
    },
  ],
  [
    'has an accepted order that is not stored',
    async (saleId: string) => {
      await acceptOrder(stores, saleId);
      await endSale(saleId, 4 * DAY_MS);
    },
  ],
  [
    'has a refund that is due',
    async (saleId: string) => {
      await stores.refunds.request(await pay(await store(saleId)), 'op');
      await endSale(saleId, 4 * DAY_MS);
    },
  ],
  [
    'has a payment that waits for its order',
    async (saleId: string) => {
      const { orderNo, total: amount, currency } = await acceptOrder(stores, saleId);
      await stores.redis.flushall();
      await stores.redis.sadd(SALES_KEY, `${saleId}.0`);
      await stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'epoch', 1);
      const payment = { providerPaymentId: `pay_${orderNo}`, orderNo, amount, currency, signedOrder: null };
      await stores.payments.record('sandbox', payment);
      await endSale(saleId, 4 * DAY_MS);
    },
  ],
])('a sale that %s keeps its data in Redis', async (_, prepare) => {
  const saleId = await openSale();
  await prepare(saleId);
  await run();
  expect(await stores.redis.smembers(SALES_KEY)).toEqual([`${saleId}.0`]);
  expect(await stores.redis.exists(saleKeys({ saleId, shard: 0 }).sale)).toBe(1);
});

test('a late return of stock to a sale that is gone from Redis is settled in MySQL alone', async () => {
  const saleId = await openSale();
  const order = await store(saleId);
  await pay(order);
  await endSale(saleId, 4 * DAY_MS);
  await run();
  const { orderNo, items } = order;
  const given = { orderNo, userId: 'ada', part: '', items, limit: true, stock: true };
  await stores.redis.del(saleKeys({ saleId, shard: 0 }).order(order.orderNo));
  expect(await stores.reservations.giveBack(given)).toEqual({ kind: 'sale-absent' });
  expect(await stores.sales.isWatched(saleId)).toBe(false);
});

test('ip, user agent and signed orders go some weeks after the order, and only of orders that have ended', async () => {
  const saleId = await openSale();
  const [paid, open, young] = [await store(saleId), await store(saleId), await store(saleId)];
  await pay(paid);
  await cancel(young);
  for (const { orderNo } of [paid, open]) {
    await modify(stores.pool, 'UPDATE orders SET reserved_at = ? WHERE order_no = ?', [
      new Date(Date.now() - 31 * DAY_MS),
      orderNo,
    ]);
  }
  expect(await run()).toMatchObject({ looked: 1 });
  const contact = async ({ orderNo }: Order) =>
    selectOne(stores.pool, 'SELECT carried FROM orders WHERE order_no = ?', [orderNo]);
  const kept = { carried: JSON.stringify({ ip: '192.0.2.1', userAgent: 'test' }) };
  expect(await contact(paid)).toEqual({ carried: '{}' });
  expect(await contact(open)).toEqual(kept);
  expect(await contact(young)).toEqual(kept);
  for (const table of ['payments', 'payment_sessions']) {
    expect(
      await select(stores.pool, `SELECT signed_order FROM ${table} WHERE order_no = ?`, [paid.orderNo]),
    ).toEqual([{ signed_order: null }]);
  }
  expect(await run()).toMatchObject({ looked: 0 });
});

test('an order whose text a hand has damaged keeps no other from being cleared', async () => {
  const saleId = await openSale();
  const [damaged, whole] = [await store(saleId), await store(saleId)];
  await pay(damaged);
  await pay(whole);
  const past = new Date(Date.now() - 31 * DAY_MS);
  await modify(stores.pool, 'UPDATE orders SET reserved_at = ? WHERE sale_id = ?', [past, saleId]);
  await modify(stores.pool, "UPDATE orders SET carried = '[' WHERE order_no = ?", [damaged.orderNo]);
  await run();
  expect(
    await select(stores.pool, 'SELECT carried, contact_kept FROM orders WHERE sale_id = ?', [saleId]),
  ).toEqual([
    { carried: '{}', contact_kept: 0 },
    { carried: '{}', contact_kept: 0 },
  ]);
});

test('raw notices go after some months, in batches, and the walk goes on where it was', async () => {
  await modify(stores.pool, 'DELETE FROM payment_events');
  const rows = Array.from({ length: 1_200 }, (_, i) => [
    'sandbox',
    `old-${i}`,
    'payment_failed',
    '{}',
    new Date(Date.now() - (i < 1_100 ? 91 : 89) * DAY_MS),
  ]);
  await modify(
    stores.pool,
    'INSERT INTO payment_events (provider, provider_event_id, kind, raw_body, received_at) VALUES ?',
    [rows],
  );
  expect(await run()).toMatchObject({ looked: 1_100 });
  const left = `SELECT COUNT(*) AS notices FROM payment_events WHERE raw_body <> ''`;
  expect(await selectOne(stores.pool, left)).toEqual({ notices: 100 });
  expect(await run()).toMatchObject({ looked: 0 });
});

test('deliveries to endpoints that ended long ago are deleted, and what waits stays', async () => {
  const long = new Date(Date.now() - 91 * DAY_MS);
  const rows = [
    [1, 'old', 'a', 'sale', 'delivered', long],
    [1, 'parked', 'b', 'sale', 'parked', long],
    [1, 'young', 'c', 'sale', 'delivered', new Date()],
    [1, 'waiting', 'd', 'sale', 'waiting', null],
  ];
  await modify(
    stores.pool,
    'INSERT INTO push_deliveries (endpoint_id, event_id, line, turn, status, ended_at) VALUES ?',
    [rows],
  );
  expect(await run()).toMatchObject({ looked: 2 });
  expect(await select(stores.pool, 'SELECT event_id FROM push_deliveries ORDER BY delivery_id')).toEqual([
    { event_id: 'young' },
    { event_id: 'waiting' },
  ]);
  expect(await run()).toMatchObject({ looked: 0 });
});

test('parked work that the rules settled long ago is deleted; decisions and payments stay', async () => {
  await modify(stores.pool, 'DELETE FROM parked');
  const long = new Date(Date.now() - 91 * DAY_MS);
  const rows = [
    ['order', 'settled', long, 'rules'],
    ['order', 'decided', long, 'operator'],
    ['order', 'young', new Date(), 'rules'],
    ['order', 'open', null, null],
    ['payment', 'settled', long, 'rules'],
  ].map(([kind, reference, resolvedAt, by]) => [kind, reference, 'why', resolvedAt, by]);
  await modify(
    stores.pool,
    'INSERT INTO parked (kind, reference, reason, resolved_at, settled_by) VALUES ?',
    [rows],
  );
  expect(await run()).toMatchObject({ looked: 1 });
  expect(await select(stores.pool, 'SELECT kind, reference FROM parked ORDER BY parked_id')).toEqual([
    { kind: 'order', reference: 'decided' },
    { kind: 'order', reference: 'young' },
    { kind: 'order', reference: 'open' },
    { kind: 'payment', reference: 'settled' },
  ]);
});
