import { afterAll, beforeAll, expect, test } from 'vitest';
import { openStores } from '../../../src/stores/open.ts';
import { assertNoEviction, connectRedis, transact } from '../../../src/stores/redis/connection.ts';
import { openTestStores, silent, type TestStores } from '../../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

async function withPolicy(policy: string, use: () => Promise<void>): Promise<void> {
  await stores.redis.config('SET', 'maxmemory-policy', policy);
  try {
    await use();
  } finally {
    await stores.redis.config('SET', 'maxmemory-policy', 'noeviction');
  }
}

test('a Redis that refuses writes when it is full will do', async () => {
  await expect(assertNoEviction(stores.redis)).resolves.toBeUndefined();
});

test.each(['allkeys-lru', 'volatile-ttl'])(
  'a Redis that may evict by %s is refused at start',
  async (policy) => {
    await withPolicy(policy, async () => {
      await expect(assertNoEviction(stores.redis)).rejects.toThrow(policy);
      await expect(openStores(stores.config, silent)).rejects.toThrow('noeviction');
    });
  },
);

test('a Redis that cannot be reached is named, with the cause', async () => {
  // Nothing listens on port 1.
  await expect(connectRedis(['redis://127.0.0.1:1'], silent)).rejects.toThrow(
    'Redis is not reachable at redis://127.0.0.1:1',
  );
});

test('a transaction of which one command failed is an error', async () => {
  await stores.redis.set('test:text', 'not a hash');
  const transaction = stores.redis.multi().hset('test:text', 'field', '1').get('test:text');
  await expect(transact(transaction)).rejects.toThrow('WRONGTYPE');
});

test('a transaction answers the result of each command', async () => {
  expect(await transact(stores.redis.multi().set('test:one', '1').get('test:one'))).toEqual(['OK', '1']);
});
