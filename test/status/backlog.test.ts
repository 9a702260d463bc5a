/** What waits is counted as it is, with the age of the oldest. */

import { beforeAll, expect, test } from 'vitest';
import { ENGINE_KEY, saleKeys } from '../../src/redis/keys.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

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
    refunds: 0,
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
  // A refund that a relay has claimed is due until it has its workflow.
  expect([notBegun.waiting, payments.waiting, refunds]).toEqual([2, 1, 2]);
  expect(notBegun.oldestMs).toBeGreaterThanOrEqual(60_000);
  expect(payments.oldestMs).toBeGreaterThanOrEqual(40_000);
  await stores.orderClaims.complete(await stores.orderClaims.take(10));
  expect((await stores.mysqlStatus.readBacklog()).notBegun).toEqual(nothing);
});

test('a payment that is parked, or that an operator has settled, is not on its way', async () => {
  const { payments } = await stores.mysqlStatus.readBacklog();
  for (const [id, settledBy] of [
    ['parked', null],
    ['by-hand', 'operator'],
    ['by-rules', 'rules'],
  ]) {
    await stores.pool.query(
      `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status)
       VALUES ('sandbox', ?, 'x', 1, 'EUR', 'received')`,
      [id],
    );
    await stores.pool.query(
      `INSERT INTO parked (kind, reference, reason, resolved_at, settled_by)
       VALUES ('payment', ?, 'why', IF(? IS NULL, NULL, NOW(3)), ?)`,
      [id, settledBy, settledBy],
    );
  }
  expect((await stores.mysqlStatus.readBacklog()).payments.waiting).toBe(payments.waiting + 1);
  await stores.pool.query(`DELETE FROM parked WHERE kind = 'payment'`);
});

test('an outbox that is damaged hides no other', async () => {
  const [well, damaged] = [buildSale(), buildSale()];
  for (const sale of [well, damaged]) await stores.openSale(sale);
  await stores.reservations.reserve(buildReserveRequest({ saleId: well.saleId }));
  const { outbox } = saleKeys({ saleId: damaged.saleId, shard: 0 });
  await stores.redis.del(outbox);
  await stores.redis.set(outbox, 'no stream');
  const outboxes = await stores.redisStatus.readOutboxes();
  expect(outboxes.map(({ saleId }) => saleId)).toContain(well.saleId);
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
