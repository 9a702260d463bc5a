/** Seeded orders against one that the product accepted and stored. */

import assert from 'node:assert/strict';
import { beforeAll, expect, test } from 'vitest';
import { seedOrders, type SeededOrder, type SeedStage } from '../../bench/compare/growth/seed-orders.ts';
import { fingerprintOf } from '../../src/orders/content.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { createOutbox } from '../../src/redis/outbox.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;

beforeAll(async () => {
  stores = await openTestStores();
});

test.for<SeedStage>(['waiting', 'due', 'open'])(
  'seeds orders that are %s as the product has them',
  async (stage) => {
    const sale = await stores.openSale(
      buildSale({ skus: [{ sku: 'unit', name: 'Unit', unitPrice: 1_000, total: 10, limitPerUser: null }] }),
    );
    const { saleId } = sale;
    const seeded = await seedOrders(stores, saleId, 3, stage);
    const real = await acceptOrder(saleId, stage);

    const expected = await readAll(real);
    for (const order of seeded) expect(await readAll(order)).toEqual(expected);

    const view = await stores.saleStock.read(saleId);
    expect(view?.skus[0]).toMatchObject({ total: 10, available: 6, held: 4, sold: 0 });
    const held = stage === 'waiting' ? 0 : 4;
    expect(await stores.sales.readStock(saleId)).toMatchObject([
      { total: 10, available: 10 - held, held, sold: 0 },
    ]);
    const { outbox } = orderKeys(real.orderNo);
    expect(await stores.redis.xlen(outbox)).toBe(stage === 'waiting' ? 4 : 0);
  },
);

/** As the API accepts an order, and the relay stores it. */
async function acceptOrder(saleId: string, stage: SeedStage): Promise<SeededOrder> {
  const items = [{ sku: 'unit', quantity: 1 }];
  const names = { userId: 'ada', idempotencyKey: 'as-the-shopper-sent-it' };
  const reserved = await stores.reservations.reserve({
    ...names,
    saleId,
    items,
    fingerprint: fingerprintOf({ saleId, items }),
    ip: '192.0.2.1',
    userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
  });
  assert(reserved.kind === 'reserved');
  const { orderNo } = reserved;
  if (stage !== 'waiting') await storeOrder(saleId, orderNo, stage);
  return { orderNo, ...names };
}

async function storeOrder(saleId: string, orderNo: string, stage: 'due' | 'open'): Promise<void> {
  const accepted = await stores.reservations.readOrder(orderNo);
  assert(accepted);
  const stored = await stores.orders.storeOrder(accepted.order, stage === 'open' ? 'started' : 'due');
  assert(stored.kind === 'stored');
  await stores.reservations.project(orderNo, stored.state);
  const blocking = await stores.connectBlocking();
  const outbox = createOutbox(stores.redis, blocking, { saleId, shard: 0 }, 'test');
  await outbox.readNew(1, 1);
  await outbox.acknowledge((await outbox.readNew(1, 1)).map(({ entryId }) => entryId));
  blocking.disconnect();
}

/** All that the stores have of an order, without what differs between any two: names, times, ids. */
async function readAll(order: SeededOrder): Promise<unknown> {
  const { redis, pool } = stores;
  const { orderNo, userId, idempotencyKey } = order;
  const keys = orderKeys(orderNo);
  const idem = keys.idem(userId, idempotencyKey);
  const inRedis = {
    order: await redis.hgetall(keys.order),
    orderEnds: (await redis.pttl(keys.order)) > 0,
    idem: await redis.hgetall(idem),
    idemEnds: (await redis.pttl(idem)) > 0,
    bought: await redis.hget(keys.limits, `unit:${userId}`),
    hasDeadline: (await redis.zscore(keys.deadlines, orderNo)) !== null,
    entries: (await redis.xrange(keys.outbox, '-', '+')).filter(([, fields]) => fields.includes(orderNo))
      .length,
  };
  const tables = ['orders', 'order_items', 'order_events', 'stock_ledger'];
  const inMysql = await Promise.all(
    tables.map(
      async (table) => (await pool.query(`SELECT * FROM ${table} WHERE order_no = ?`, [orderNo]))[0],
    ),
  );
  const named = JSON.stringify({ inRedis, inMysql })
    .replaceAll(orderNo, 'orderNo')
    .replaceAll(idempotencyKey, 'idempotencyKey')
    .replaceAll(new RegExp(`"${userId}"`, 'g'), '"userId"');
  return JSON.parse(named, (field, value: unknown) => (CHANGING.has(field) ? value !== null : value));
}

const CHANGING = new Set([
  'reserved_at',
  'deadline',
  'created_at',
  'occurred_at',
  'booked_at',
  'batch_id',
  'entry_id',
  'entry',
  'workflow_started_at',
  'engine_due_at',
]);
