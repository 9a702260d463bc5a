/** What waits is counted as it is, with the age of the oldest. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { ENGINE_KEY, saleKeys } from '../../src/redis/keys.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

test('outboxes are listed with their oldest order, the longest first, and empty ones are left out', async () => {
  const [few, many, none] = [buildSale(), buildSale(), buildSale()];
  for (const sale of [few, many, none]) await stores.openSale(sale);
  expect(await stores.redisStatus.readOutboxes()).toEqual([]);
  for (const { saleId } of [few, many, many])
    await stores.reservations.reserve(buildReserveRequest({ saleId, userId: crypto.randomUUID() }));
  const { outbox } = saleKeys({ saleId: few.saleId, shard: 0 });
  const [seconds] = await stores.redis.time();
  await stores.redis.del(outbox);
  await stores.redis.xadd(outbox, `${(Number(seconds) - 60) * 1_000}-0`, 'order_no', 'x');

  const outboxes = await stores.redisStatus.readOutboxes();
  expect(outboxes.map(({ saleId, waiting }) => [saleId, waiting])).toEqual([
    [many.saleId, 2],
    [few.saleId, 1],
  ]);
  expect(outboxes[1]?.oldestMs).toBeGreaterThanOrEqual(60_000);
});

test('slots count while their lease lasts', async () => {
  const nowMs = Date.now();
  await stores.redis.zadd(ENGINE_KEY, nowMs + 60_000, 'a', nowMs + 60_000, 'b', nowMs - 60_000, 'c');
  expect(await stores.redisStatus.countSlots()).toBe(2);
});

test('orders that have not begun, payments on their way and refunds that are due are counted', async () => {
  const nothing = { waiting: 0, oldestMs: null };
  expect(await stores.mysqlStatus.readBacklog()).toEqual({
    notBegun: nothing,
    payments: nothing,
    refunds: nothing,
  });
  const { saleId } = await stores.openSale(buildSale());
  const orders = [buildOrder({ saleId, reservedAtMs: Date.now() - 60_000 }), buildOrder({ saleId })];
  await stores.orders.storeOrders(orders, 'due');
  await stores.pool.query(
    `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status, received_at, engine_due_at)
     VALUES ('sandbox', 'a', 'x', 1, 'EUR', 'received', NOW(3) - INTERVAL 40 SECOND, NULL),
            ('sandbox', 'b', 'x', 1, 'EUR', 'refund_due', NOW(3), NOW(3) - INTERVAL 20 SECOND),
            ('sandbox', 'c', 'x', 1, 'EUR', 'refund_due', NOW(3), NOW(3) + INTERVAL 20 SECOND)`,
  );
  const { notBegun, payments, refunds } = await stores.mysqlStatus.readBacklog();
  expect([notBegun.waiting, payments.waiting, refunds.waiting]).toEqual([2, 1, 1]);
  expect(notBegun.oldestMs).toBeGreaterThanOrEqual(60_000);
  expect(payments.oldestMs).toBeGreaterThanOrEqual(40_000);
  expect(refunds.oldestMs).toBeGreaterThanOrEqual(20_000);
  await stores.orderClaims.complete(await stores.orderClaims.take(10));
  expect((await stores.mysqlStatus.readBacklog()).notBegun).toEqual(nothing);
});

test('parked work is counted by kind until it is resolved', async () => {
  expect(await stores.mysqlStatus.readParked()).toEqual([]);
  await stores.pool.query(
    `INSERT INTO parked (kind, reference, reason, parked_at, resolved_at)
     VALUES ('order', 'a', 'why', NOW(3) - INTERVAL 90 SECOND, NULL), ('order', 'b', 'why', NOW(3), NULL),
            ('sale', 'c', 'why', NOW(3), NOW(3))`,
  );
  const [orders, ...others] = await stores.mysqlStatus.readParked();
  expect(others).toEqual([]);
  expect(orders).toMatchObject({ kind: 'order', waiting: 2 });
  expect(orders?.oldestMs).toBeGreaterThanOrEqual(90_000);
});
