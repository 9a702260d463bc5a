/** The whole flow on a Redis Cluster: orders are accepted, paid and cancelled as on a single Redis. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startRedisCluster } from '../../stack/servers/redis-cluster.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { expectStock, expectStockEquation } from '../support/stock.ts';

const closers: (() => Promise<unknown>)[] = [];
let checkout: Checkout;

beforeAll(async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-cluster-'));
  closers.push(() => rm(dataDir, { recursive: true }));
  const cluster = await startRedisCluster({ dataDir });
  closers.push(() => cluster.stop());
  checkout = await openCheckout({ stores: { REDIS_URL: cluster.redisUrl.split(',') } });
  closers.push(() => checkout.close());
});
afterAll(async () => {
  await expectCleanAudit(checkout);
  for (const close of closers.toReversed()) await close();
});

test('on a Redis Cluster an order is accepted, stored, paid, and its unit sold', async () => {
  const { stores } = checkout;
  expect(stores.redis).toBeInstanceOf(Cluster);
  const { saleId } = await stores.openSale(buildSale());
  const shopper = await checkout.shopper();

  const orderNo = await shopper.buy(saleId);
  await expectStockEquation(stores, saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');

  await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
});

test('on a Redis Cluster a cancelled order gives its unit back', async () => {
  const { stores } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const shopper = await checkout.shopper();

  const orderNo = await shopper.buy(saleId);
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');

  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('on a Redis Cluster sales live on different masters and each takes its orders', async () => {
  const { stores } = checkout;
  const { redis } = stores;
  const sales = await Promise.all(Array.from({ length: 12 }, () => stores.openSale(buildSale())));
  expect(redis instanceof Cluster && redis.nodes('master')).toHaveLength(3);

  const orders = await Promise.all(
    sales.map(async ({ saleId }) => {
      const shopper = await checkout.shopper();
      return { shopper, saleId, orderNo: await shopper.buy(saleId) };
    }),
  );

  for (const { shopper, saleId, orderNo } of orders) {
    await shopper.awaitStatus(orderNo, 'awaiting_payment');
    await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 1, sold: 0 });
  }
});
