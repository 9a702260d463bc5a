/** The bounds on attempts to pay, which all processes share through Redis. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import {
  MAX_FAILED_ATTEMPTS_OF_ORDER,
  MAX_FAILED_ATTEMPTS_OF_USER,
  MAX_OPENED_SESSIONS_OF_USER,
  USER_ATTEMPTS_WINDOW_MS,
} from '../../src/money/attempts.redis.ts';
import { createPaymentAttempts } from '../../src/money/attempts.redis.ts';
import { connectRedis } from '../../src/redis/connection.ts';
import { asProduct } from '../../stack/servers/accounts.ts';
import { buildOrder } from '../support/factories.ts';
import { startPrivateRedis } from '../support/private-redis.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const open = () => createPaymentAttempts(stores.redis);

test('an order may fail ten times, whichever process learns of it, and then no more that day', async () => {
  const [one, other] = [open(), open()];
  const order = buildOrder({ userId: 'ada' });
  for (let i = 1; i < MAX_FAILED_ATTEMPTS_OF_ORDER; i += 1) await one.countFailed(order);
  expect(await other.waitMs(order)).toBe(0);

  await other.countFailed(order);

  const waitMs = await one.waitMs(order);
  expect(waitMs).toBeGreaterThan(USER_ATTEMPTS_WINDOW_MS);
  expect(waitMs).toBeLessThanOrEqual(DAY_MS);
  expect(await one.waitMs(buildOrder({ userId: 'ada' }))).toBe(0);
});

test('a user may fail twenty times within an hour over all orders, and another is not held up', async () => {
  const attempts = open();
  for (let i = 0; i < MAX_FAILED_ATTEMPTS_OF_USER; i += 1) {
    expect(await attempts.waitMs(buildOrder({ userId: 'bo' }))).toBe(0);
    await attempts.countFailed(buildOrder({ userId: 'bo' }));
  }

  const waitMs = await attempts.waitMs(buildOrder({ userId: 'bo' }));
  expect(waitMs).toBeGreaterThan(0);
  expect(waitMs).toBeLessThanOrEqual(USER_ATTEMPTS_WINDOW_MS);
  expect(await attempts.waitMs(buildOrder({ userId: 'cy' }))).toBe(0);
});

test('a user may open two pages a minute, over an hour', async () => {
  const attempts = open();
  for (let i = 0; i < MAX_OPENED_SESSIONS_OF_USER; i += 1) await attempts.countOpened('di');

  expect(await attempts.waitMs(buildOrder({ userId: 'di' }))).toBeGreaterThan(0);
});

test("a process, by its account's rights, counts an attempt also where the count has lost its expiry", async () => {
  const redis = await connectRedis(stores.config.REDIS_URL.map(asProduct), silent);
  onTestFinished(() => redis.disconnect());
  const order = buildOrder({ userId: 'eve' });
  const key = `holdfast:attempts:order:${order.orderNo}`;
  await stores.redis.set(key, 1);

  await createPaymentAttempts(redis).countFailed(order);

  expect([await stores.redis.get(key), (await stores.redis.pttl(key)) > 0]).toEqual(['2', true]);
});

test('no key has the id of the user, and each goes away by itself', async () => {
  await stores.redis.flushall();
  await open().countFailed(buildOrder({ userId: 'jane+shop@example.com' }));
  await open().countOpened('jane+shop@example.com');

  const keys = await stores.redis.keys('*');
  expect(keys).toHaveLength(3);
  expect(keys.join(' ')).not.toContain('jane');
  for (const key of keys) expect(await stores.redis.pttl(key)).toBeGreaterThan(0);
});

test('while Redis is away no payment waits, and what fails is not counted', async () => {
  const server = await startPrivateRedis();
  const redis = await connectRedis([server.url], silent);
  onTestFinished(() => redis.disconnect());
  const attempts = createPaymentAttempts(redis);
  await server.stop();
  await waitFor('the client to notice', () => redis.status !== 'ready');
  const order = buildOrder();

  for (let i = 0; i < MAX_FAILED_ATTEMPTS_OF_ORDER; i += 1) await attempts.countFailed(order);
  await attempts.countOpened(order.userId);

  expect(await attempts.waitMs(order)).toBe(0);
});

test('while Redis is silent a caller waits for it once', async () => {
  let asked = 0;
  const hanging = { get: () => hanging, pttl: () => hanging, exec: () => new Promise(() => {}) };
  const silentRedis = new Proxy(stores.redis, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (name !== 'multi') return typeof value === 'function' ? value.bind(target) : value;
      return () => {
        asked += 1;
        return hanging;
      };
    },
  });
  const attempts = createPaymentAttempts(silentRedis);

  for (let i = 0; i < 3; i += 1) expect(await attempts.waitMs(buildOrder())).toBe(0);

  // One question, of three counters.
  expect(asked).toBe(3);
});
