/**
 * Redis loses its data in mid-sale, in each way that operations know: the sale goes on by itself, no unit is
 * sold twice, and what was lost is counted and answered honestly.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { runRedisWatch } from '../../src/workers/redis-watch.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { silent } from '../support/stores.ts';
import { openCrowd, type Crowd } from './crowd.ts';
import { openLosingRedis, type LosingRedis } from './losing-redis.ts';
import { finishSale, readCauses } from './sale-end.ts';

const LAMPS = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 5_000, limitPerUser: null };

let redis: LosingRedis;
let checkout: Checkout;
const watching = new AbortController();
let watch: Promise<void>;

beforeAll(async () => {
  redis = await openLosingRedis();
  checkout = await openCheckout({ stores: { REDIS_URL: [redis.url] } });
  watch = runRedisWatch({ ...checkout.stores, log: silent }, watching.signal);
});
afterAll(async () => {
  watching.abort();
  await watch;
  await checkout.close();
  await redis.close();
});

async function openSale(): Promise<{ saleId: string; crowd: Crowd }> {
  const { saleId } = await checkout.stores.openSale(buildSale({ skus: [LAMPS] }));
  return { saleId, crowd: openCrowd(checkout, saleId) };
}

test('Redis is emptied in mid-sale: the sale goes on by itself, and what was lost is counted', async () => {
  const { saleId, crowd } = await openSale();
  await crowd.more(30);
  await redis.flush();
  await crowd.ofEpoch(2);
  await crowd.more(10);
  const { sold, held, open } = await finishSale(checkout, saleId, crowd);
  expect([sold, held]).toEqual([3, open - 6]);
  expect(await readCauses(checkout, saleId)).toContain('lost');
});

test('an old file of Redis is restored in mid-sale: the sale goes on, and no unit is sold twice', async () => {
  const { saleId, crowd } = await openSale();
  await crowd.more(20);
  const restore = await redis.backUp();
  await crowd.more(30);
  await restore();
  await crowd.ofEpoch(2);
  await crowd.more(10);
  await finishSale(checkout, saleId, crowd);
  expect(await readCauses(checkout, saleId)).toContain('replaced');
});

test('a plain restart of Redis pauses the sale for a moment, and loses nothing', async () => {
  const { saleId, crowd } = await openSale();
  await crowd.more(20);
  await redis.restart();
  await crowd.ofEpoch(2);
  await crowd.more(10);
  expect(await finishSale(checkout, saleId, crowd)).toMatchObject({ lost: 0 });
});

test('a replica that lacks the latest orders takes over: the sale goes on, and each is stored or counted', async () => {
  const { saleId, crowd } = await openSale();
  await crowd.more(20);
  const takeOver = await redis.leaveReplicaBehind();
  await crowd.more(30);
  await takeOver();
  await crowd.ofEpoch(2);
  await crowd.more(10);
  await finishSale(checkout, saleId, crowd);
  expect(await readCauses(checkout, saleId)).toContain('replaced');
});
