/** The bound on calls to the provider, which all processes share through Redis. */

import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { createProviderPace, type ProviderPace } from '../../src/providers/pace.redis.ts';
import { connectRedis } from '../../src/redis/connection.ts';
import { startPrivateRedis } from '../support/private-redis.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

const CALLS_PER_SECOND = 20;

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(() => stores.redis.flushall());

const openPace = () => createProviderPace(stores.redis, CALLS_PER_SECOND);

/** What is taken from now on is taken within one second, however long it takes. */
async function stopClock(): Promise<void> {
  for (const count of ['shopper', 'background', 'all'])
    await stores.redis.set(`holdfast:provider-pace:${count}`, '0', 'EX', 60);
}

/** So many at once. @returns how many found room */
async function takeAtOnce(
  pace: ProviderPace,
  urgency: 'shopper' | 'background',
  count = 30,
): Promise<number> {
  const waits = await Promise.all(Array.from({ length: count }, () => pace.take(urgency)));
  return waits.filter((waitMs) => waitMs === 0).length;
}

test('two processes together find room for no more calls than one', async () => {
  const [one, other] = [openPace(), openPace()];
  await stopClock();

  const taken = await Promise.all([takeAtOnce(one, 'shopper'), takeAtOnce(other, 'shopper')]);

  expect(taken[0] + taken[1]).toBe(18);
});

test('refunds, voids and the book leave half of the calls to shoppers, who leave them a tenth', async () => {
  const pace = openPace();

  await stopClock();
  expect(await takeAtOnce(pace, 'background')).toBe(10);
  expect(await takeAtOnce(pace, 'shopper')).toBe(10);

  await stopClock();
  expect(await takeAtOnce(pace, 'shopper')).toBe(18);
  expect(await takeAtOnce(pace, 'background')).toBe(2);
});

test('a caller who finds no room learns when to ask again', async () => {
  const pace = openPace();

  const waits = await Promise.all(Array.from({ length: 200 }, () => pace.take('background')));
  const refused = waits.filter((waitMs) => waitMs > 0);

  expect(refused).not.toEqual([]);
  expect(Math.max(...refused)).toBeLessThanOrEqual(1_000);
});

test('a pause that one process met holds for all', async () => {
  const [one, other] = [openPace(), openPace()];

  await one.pause(60_000);

  for (const urgency of ['shopper', 'background'] as const) {
    expect(await other.take(urgency)).toBeGreaterThan(50_000);
  }
});

test('while Redis does not answer each process has a bound of its own', async () => {
  const server = await startPrivateRedis();
  const redis = await connectRedis([server.url], silent);
  onTestFinished(() => redis.disconnect());
  const pace = createProviderPace(redis, CALLS_PER_SECOND);
  await server.stop();
  await waitFor('the client to notice', () => redis.status !== 'ready');

  expect(await takeAtOnce(pace, 'shopper')).toBe(4);

  const next = createProviderPace(redis, CALLS_PER_SECOND);
  await next.pause(60_000);
  expect(await next.take('shopper')).toBeGreaterThan(50_000);
});

test('while Redis is silent each process counts alone, and waits for it once', async () => {
  let asked = 0;
  const silentRedis = new Proxy(stores.redis, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (name !== 'rlflxIncr') return typeof value === 'function' ? value.bind(target) : value;
      return () => {
        asked += 1;
        return new Promise(() => {});
      };
    },
  });
  const pace = createProviderPace(silentRedis, CALLS_PER_SECOND);

  for (let call = 0; call < 3; call += 1) expect(await pace.take('shopper')).toBe(0);

  expect(asked).toBe(1);
});
