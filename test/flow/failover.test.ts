/** A replica of a Redis Cluster takes over from its master in mid-sale, and the sale goes on. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster } from 'ioredis';
import { beforeAll, expect, test } from 'vitest';
import { saleKeys } from '../../src/redis/keys.ts';
import { runRedisWatch } from '../../src/workers/redis-watch.ts';
import { startRedisCluster, type RedisCluster } from '../../stack/servers/redis-cluster.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { closeLater } from '../support/close-later.ts';
import { buildSale } from '../support/factories.ts';
import { silent } from '../support/stores.ts';
import { openCrowd } from './crowd.ts';
import { finishSale, readCauses } from './sale-end.ts';

const LAMPS = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 5_000, limitPerUser: null };

let cluster: RedisCluster;
let checkout: Checkout;

beforeAll(async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-failover-'));
  closeLater(() => rm(dataDir, { recursive: true }));
  cluster = await startRedisCluster({ dataDir, replicas: true });
  closeLater(() => cluster.stop());
  checkout = await openCheckout({ stores: { REDIS_URL: cluster.redisUrl.split(',') } });
  const watching = new AbortController();
  const watch = runRedisWatch({ ...checkout.stores, log: silent }, watching.signal);
  closeLater(() => {
    watching.abort();
    return watch;
  });
});

/** The port of the master that owns the sale's keys. */
async function masterOf(saleId: string): Promise<number> {
  const { redis } = checkout.stores;
  if (!(redis instanceof Cluster)) throw new Error('not a cluster');
  const slot = await redis.cluster('KEYSLOT', saleKeys({ saleId, shard: 0 }).sale);
  const [owner] = redis.slots[slot] ?? [];
  return Number(owner?.split(':').at(-1));
}

test('a master of the cluster becomes the replica of its replica: the sale goes on, and each order is decided', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale({ skus: [LAMPS] }));
  const crowd = openCrowd(checkout, saleId);
  await crowd.more(20);

  await cluster.handOver(await masterOf(saleId));
  await crowd.ofEpoch(2);
  await crowd.more(10);

  const { lost } = await finishSale(checkout, saleId, crowd);
  expect(lost).toBe(0);
  expect(await readCauses(checkout, saleId)).toContain('replaced');
});

test('a master of the cluster is killed and its replica takes over: the sale goes on, and each order is decided', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale({ skus: [LAMPS] }));
  const crowd = openCrowd(checkout, saleId);
  await crowd.more(20);

  await cluster.kill(await masterOf(saleId));
  await crowd.ofEpoch(2);
  await crowd.more(10);

  await finishSale(checkout, saleId, crowd);
  expect(await readCauses(checkout, saleId)).toContain('replaced');
});
