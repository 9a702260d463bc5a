/** The whole flow on a Redis Cluster: orders are accepted, paid and cancelled as on a single Redis. */

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { readRedisSale } from '../../src/audit/reads.redis.ts';
import { MAX_FAILED_ATTEMPTS_OF_ORDER } from '../../src/money/attempts.redis.ts';
import type { Order } from '../../src/orders/content.ts';
import { ENGINE_KEY, saleKeys, SALES_KEY } from '../../src/redis/keys.ts';
import { createOutboxCounts, createOutbox, findActive, listSales } from '../../src/redis/outbox.ts';
import type { Sale } from '../../src/sales/sale.ts';
import type { Stores } from '../../src/stores/open.ts';
import { startRedisCluster, type RedisCluster } from '../../stack/servers/redis-cluster.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { closeLater } from '../support/close-later.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let cluster: RedisCluster;
let checkout: Checkout;

beforeAll(async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-cluster-'));
  closeLater(() => rm(dataDir, { recursive: true }));
  cluster = await startRedisCluster({ dataDir });
  closeLater(() => cluster.stop());
  checkout = await openCheckout({ stores: { REDIS_URL: cluster.redisUrl.split(',') } });
});
afterAll(() => expectCleanAudit(checkout));

test('on a Redis Cluster that has lost its list of sales the orders of a sale are stored all the same', async () => {
  const { stores } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  await stores.redis.del(SALES_KEY);

  await waitFor('the list', async () => (await stores.redis.sismember(SALES_KEY, `${saleId}.0`)) === 1);
  const orderNo = await shopper.buy(saleId);

  await shopper.awaitStatus(orderNo, 'awaiting_payment');
});

test('of a Redis Cluster the memory of each master is read', async () => {
  const { stores } = checkout;
  assert(stores.redis instanceof Cluster);
  const masters = stores.redis.nodes('master').map(({ options }) => `${options.host}:${options.port}`);

  const memory = await stores.redisStatus.readMemory();

  expect(memory.map(({ node }) => node).toSorted()).toEqual(masters.toSorted());
  for (const { usedBytes } of memory) expect(usedBytes).toBeGreaterThan(0);
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

/** The port of the master that has the key. */
async function portOf(key: string): Promise<number> {
  const { redis } = checkout.stores;
  const slot = Number(await redis.call('CLUSTER', 'KEYSLOT', key));
  const ranges = z
    .array(z.tuple([z.int(), z.int(), z.tuple([z.string(), z.int()]).rest(z.unknown())]))
    .parse(await redis.call('CLUSTER', 'SLOTS'));
  const range = ranges.find(([first, last]) => first <= slot && slot <= last);
  return range?.[2][1] ?? 0;
}

/** Opens a sale whose keys are on another master than this one. */
function openSaleBeside(port: number): Promise<Sale> {
  return waitFor('a sale on another node', async () => {
    const sale = await checkout.stores.openSale(buildSale());
    return (await portOf(saleKeys({ saleId: sale.saleId, shard: 0 }).sale)) !== port && sale;
  });
}

test('while the node of the engine budget is frozen the orders of other nodes are stored and payable', async () => {
  const frozen = await portOf(ENGINE_KEY);
  const { saleId } = await openSaleBeside(frozen);
  const shopper = await checkout.shopper();
  // The relay follows the sale already: which sales there are may be on the frozen node as well.
  await shopper.awaitStatus(await shopper.buy(saleId), 'awaiting_payment');

  cluster.freeze(frozen);
  let orderNo: string;
  try {
    orderNo = await shopper.buy(saleId);
    await shopper.awaitStatus(orderNo, 'awaiting_payment');
    await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  } finally {
    cluster.thaw(frozen);
  }
  await shopper.awaitStatus(orderNo, 'paid');
});

test('on a Redis Cluster failed attempts to pay are counted and bound an order', async () => {
  const order = buildOrder();
  expect(await checkout.stores.paymentAttempts.waitMs(order)).toBe(0);

  await reachLimitOfAttempts(checkout.stores, order);
});

/**
 * Counts failed attempts up to the limit and none beyond it, until they bound the order. A node that is slow
 * to answer counts as away: an attempt is then not counted, and no order is bound for a moment.
 */
async function reachLimitOfAttempts({ redis, paymentAttempts }: Stores, order: Order): Promise<void> {
  await waitFor('the failed attempts to be counted', async () => {
    const counted = Number(await redis.get(`holdfast:attempts:order:${order.orderNo}`));
    if (counted >= MAX_FAILED_ATTEMPTS_OF_ORDER) return true;
    await paymentAttempts.countFailed(order);
    return false;
  });
  await waitFor('the order to be bound', async () => (await paymentAttempts.waitMs(order)) > 0);
}

test('on a Redis Cluster a deployment with a prefix has keys of its own, and a sale still one slot', async () => {
  const stores = await openTestStores({
    REDIS_URL: cluster.redisUrl.split(','),
    REDIS_KEY_PREFIX: 'theirs',
  });
  await checkout.stores.deployment.join();
  await stores.deployment.join();
  const { saleId } = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, saleId);
  const blocking = await stores.connectBlocking();
  onTestFinished(() => blocking.disconnect());
  const outbox = createOutbox(stores.redis, blocking, { saleId, shard: 0 }, 'relay');

  // The first read makes the group.
  const entry = await waitFor('the entry', async () => (await outbox.readNew(10, 10))[0]);
  expect(entry).toMatchObject({ orderNo: order.orderNo });
  expect(await outbox.claimAbandoned(10, 0)).toBe(1);
  expect(await outbox.readPending(10, '0')).toEqual([entry]);
  expect(await findActive(stores.redis, await listSales(stores.redis))).toEqual([{ saleId, shard: 0 }]);
  const counts = createOutboxCounts(stores.redis);
  await waitFor('the outbox to be counted', () => counts.countWithout('').orders === 1);
  expect(await readRedisSale(stores.redis, saleId)).toMatchObject({
    epoch: 1,
    holds: [{ orderNo: order.orderNo, hold: 'held' }],
    outbox: [order.orderNo],
  });
  await outbox.acknowledge([entry.entryId]);
  // A slow node counts as away here as well.
  await waitFor('a slot', async () => (await stores.budget.acquire([order.orderNo])).length === 1);
  await reachLimitOfAttempts(stores, order);
  expect(await checkout.stores.paymentAttempts.waitMs(order)).toBe(0);

  assert(checkout.stores.redis instanceof Cluster);
  const keys = (
    await Promise.all(checkout.stores.redis.nodes('master').map((node) => node.keys('*')))
  ).flat();
  expect(keys.filter((key) => key.includes(saleId) && !key.startsWith('theirs:holdfast:'))).toEqual([]);
  expect(keys).toEqual(
    expect.arrayContaining([`theirs:holdfast:{${saleId}.0}:stock`, 'theirs:holdfast:deployment']),
  );
});

test('a connection to a Redis Cluster most of whose nodes are away is given up, so that the relay tries again', async () => {
  const [whole, ...away] = cluster.redisUrl.split(',').map((url) => Number(new URL(url).port));
  const { redis } = checkout.stores;
  assert(whole !== undefined && redis instanceof Cluster);
  const node = redis.nodes('master').find(({ options }) => options.port === whole);

  for (const port of away) cluster.freeze(port);
  try {
    await waitFor('the cluster to fail', async () =>
      String(await node?.cluster('INFO')).includes('cluster_state:fail'),
    );
    await expect(checkout.stores.connectBlocking()).rejects.toThrow('Redis is not reachable');
  } finally {
    for (const port of away) cluster.thaw(port);
  }

  const blocking = await waitFor('a connection', () =>
    checkout.stores.connectBlocking().catch(() => undefined),
  );
  blocking.disconnect();
  // For what comes after this.
  await waitFor('the cluster to be whole', async () => {
    const states = await Promise.all(
      redis.nodes('master').map((each) => each.cluster('INFO').catch(() => '')),
    );
    return states.length === 3 && states.every((state) => state.includes('cluster_state:ok'));
  });
});
