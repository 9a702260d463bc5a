/** The engine budget: slots that all processes share, each a lease. */

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { RedisClient } from '../../../src/stores/redis/connection.ts';
import { createEngineBudget } from '../../../src/stores/redis/engine-budget.ts';
import { ENGINE_KEY } from '../../../src/stores/redis/keys.ts';
import { openTestStores, type TestStores } from '../../support/stores.ts';

let stores: TestStores;
let clients: RedisClient[];
beforeAll(async () => {
  stores = await openTestStores();
  clients = await Promise.all(Array.from({ length: 6 }, () => stores.connectBlocking()));
});
afterAll(async () => {
  for (const client of clients) client.disconnect();
  await stores.close();
});
beforeEach(() => stores.redis.del(ENGINE_KEY));

const budgetOf = (slots: number) => createEngineBudget(stores.redis, slots);

test('slots are granted in order for as many as there is room', async () => {
  const budget = budgetOf(3);
  expect(await budget.room()).toBe(3);
  expect(await budget.acquire(['a', 'b'])).toEqual(['a', 'b']);
  expect(await budget.acquire(['c', 'd'])).toEqual(['c']);
  expect(await budget.acquire(['d'])).toEqual([]);
  expect(await budget.room()).toBe(0);
});

test('asking for nothing takes nothing', async () => {
  expect(await budgetOf(3).acquire([])).toEqual([]);
  await budgetOf(3).release([]);
  expect(await budgetOf(3).room()).toBe(3);
});

test('a slot that is given back can be taken again', async () => {
  const budget = budgetOf(2);
  await budget.acquire(['a', 'b']);
  await budget.release(['a', 'never-held']);
  expect(await budget.acquire(['c', 'd'])).toEqual(['c']);
});

test('an order that holds a slot takes no second one', async () => {
  const budget = budgetOf(2);
  await budget.acquire(['a']);
  expect(await budget.acquire(['a'])).toEqual(['a']);
  expect(await budget.room()).toBe(1);
});

test('an order that holds a slot keeps it when there is no room for others', async () => {
  const budget = budgetOf(1);
  await budget.acquire(['a']);
  await budget.acquire(['b', 'a']);
  expect(await stores.redis.zrange(ENGINE_KEY, '0', '-1')).toEqual(['a']);
});

test('the lease of a dead start runs out', async () => {
  const budget = budgetOf(1);
  await budget.acquire(['dead']);
  expect(Number(await stores.redis.zscore(ENGINE_KEY, 'dead'))).toBeGreaterThan(Date.now());
  await stores.redis.zadd(ENGINE_KEY, Date.now() - 1, 'dead');
  expect(await budget.acquire(['next'])).toEqual(['next']);
});

test('processes that ask at once never get more than the budget together', async () => {
  const slots = 10;
  for (let round = 0; round < 30; round += 1) {
    const grants = await Promise.all(
      clients.map((client, i) =>
        createEngineBudget(client, slots).acquire(
          Array.from({ length: 1 + ((round + i) % 7) }, (_, n) => `${round}-${i}-${n}`),
        ),
      ),
    );
    const granted = grants.flat();
    expect(granted.length).toBeLessThanOrEqual(slots);
    expect((await stores.redis.zrange(ENGINE_KEY, '0', '-1')).toSorted()).toEqual(granted.toSorted());
    await budgetOf(slots).release(granted);
  }
});

test('racing for the last slot never takes a slot from an order that works', async () => {
  for (let round = 0; round < 30; round += 1) {
    await stores.redis.del(ENGINE_KEY);
    await budgetOf(2).acquire(['working']);
    await Promise.all(
      clients.map((client, i) =>
        createEngineBudget(client, 2).acquire([i % 2 === 0 ? 'working' : `new-${i}`]),
      ),
    );
    expect(await stores.redis.zscore(ENGINE_KEY, 'working')).not.toBeNull();
  }
});
