/** The engine budget: slots that all processes share, each a lease. */

import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { createEngineBudget } from '../../src/redis/budget.ts';
import { connectRedis, type RedisClient } from '../../src/redis/connection.ts';
import { ENGINE_KEY } from '../../src/redis/keys.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { ownRedisUrl } from '../support/own-redis.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

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

const budgetOf = (slots: number) => createEngineBudget(stores.redis, slots, silent);

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
        createEngineBudget(client, slots, silent).acquire(
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
        createEngineBudget(client, 2, silent).acquire([i % 2 === 0 ? 'working' : `new-${i}`]),
      ),
    );
    expect(await stores.redis.zscore(ENGINE_KEY, 'working')).not.toBeNull();
  }
});

/** A budget whose wire to Redis a test can cut or silence. */
async function openDistantBudget(slots: number) {
  const wire = await openTcpProxy(new URL(await ownRedisUrl()).host);
  onTestFinished(() => wire.close());
  const redis = await connectRedis([`redis://${wire.address}`], silent);
  onTestFinished(() => redis.disconnect());
  return { wire, budget: createEngineBudget(redis, slots, silent) };
}

test.each(['silence', 'cut'] as const)(
  'without an answer there is no room and no failure, and with the next one there is room again: %s',
  async (fault) => {
    const { wire, budget } = await openDistantBudget(3);
    expect(await budget.acquire(['a'])).toEqual(['a']);
    wire[fault]();

    expect(await budget.acquire(['a', 'b'])).toEqual([]);
    expect(await budget.room()).toBe(0);
    await budget.release(['a']);

    wire.mend();
    await waitFor('an answer', async () => (await budget.room('any')) > 0);
    // The connection may have sent again what had got no answer.
    await budget.release(['a', 'b']);
    expect(await budget.room()).toBe(3);
  },
);

test('a node that does not answer is not asked again at once', async () => {
  let asked = 0;
  const never = new Proxy(stores.redis, {
    get: () => () => {
      asked += 1;
      return new Promise(() => {});
    },
  });
  const budget = createEngineBudget(never, 3, silent);

  expect(await budget.acquire(['a'])).toEqual([]);
  for (let page = 0; page < 10; page += 1) expect(await budget.acquire(['b'])).toEqual([]);

  expect(asked).toBe(1);
});
