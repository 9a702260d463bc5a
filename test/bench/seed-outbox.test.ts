/** The seeding of an outbox accepts orders as the API does. */

import { beforeAll, expect, test } from 'vitest';
import { seedOutbox } from '../../bench/seed-outbox.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { listWaiting } from '../../src/redis/outbox.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const skus = [{ sku: 'unit', name: 'Unit', unitPrice: 1_000, total: 1_200, limitPerUser: null }];

test('every seeded order waits in the outbox and holds its stock', async () => {
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const progress: number[] = [];
  await seedOutbox(stores.redis, { saleId, count: 1_200, onProgress: (accepted) => progress.push(accepted) });
  expect(progress).toEqual([500, 1_000, 1_200]);
  expect(
    await stores.redis.hmget(saleKeys({ saleId, shard: 0 }).stock, 'unit:available', 'unit:held'),
  ).toEqual(['0', '1200']);
  expect(new Set(await listWaiting(stores.redis, { saleId, shard: 0 }))).toHaveProperty('size', 1_200);
});

test('more orders than units are an error', async () => {
  const { saleId } = await stores.openSale(buildSale({ skus }));
  await expect(seedOutbox(stores.redis, { saleId, count: 1_201 })).rejects.toThrow('every order is accepted');
});
