/** Connecting to Redis: what is refused at start, and that no password reaches a log. */

import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import {
  hideSecrets,
  parseAddress,
  assertNoEviction,
  connectRedis,
  transact,
} from '../../src/redis/connection.ts';
import { openStores } from '../../src/stores/open.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

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

test('commands of one turn of the event loop leave together, none waits for the answer to another', async () => {
  const redis = await connectRedis(stores.config.REDIS_URL, silent);
  onTestFinished(() => redis.disconnect());
  assert(redis instanceof Redis);
  const { stream } = redis;

  const first = redis.ping();
  const second = redis.ping();
  expect([stream.writableCorked, stream.writableLength > 0]).toEqual([1, true]);
  await nextTurn();
  const third = redis.ping();

  expect(await Promise.all([first, second, third])).toEqual(['PONG', 'PONG', 'PONG']);
  expect(stream.writableLength).toBe(0);
});

describe('a password', () => {
  const PASSWORD = 's3cret p@ss/word';
  const USER = 'holdfast';
  const spelt = encodeURIComponent(PASSWORD);
  /** Nothing listens on port 1. */
  const away = `redis://${USER}:${spelt}@127.0.0.1:1`;
  const wrongPasswordUrl = () => {
    const url = new URL(stores.config.REDIS_URL[0] ?? '');
    return `redis://${USER}:${spelt}@${url.host}`;
  };

  /** The error, and all that pino prints while it comes about and of the error itself. */
  async function failToConnect(urls: readonly string[]): Promise<{ error: Error; printed: string }> {
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line: string) => lines.push(line) });
    const error: unknown = await connectRedis(urls, log).then(
      () => undefined,
      (failure: unknown) => failure,
    );
    if (!(error instanceof Error)) throw new Error('connected');
    log.fatal({ err: error }, 'could not run');
    return { error, printed: lines.join('') };
  }

  function expectNoPassword({ error, printed }: { error: Error; printed: string }): void {
    // Hidden properties and causes are shown too.
    for (const text of [printed, inspect(error, { showHidden: true, depth: Number.POSITIVE_INFINITY })]) {
      expect(text).not.toContain(PASSWORD);
      expect(text).not.toContain(spelt);
      expect(text).not.toContain('p@ss');
    }
  }

  test.each([
    ['that cannot be reached', () => [away], '127.0.0.1:1'],
    ['of several nodes that cannot be reached', () => [away, away], '127.0.0.1:1, 127.0.0.1:1'],
    ['that cannot be reached, in the query', () => [`redis://127.0.0.1:1?password=${spelt}`], '127.0.0.1:1'],
  ])('of a Redis %s is in no message, cause or log line', async (_case, urls, endpoints) => {
    const failure = await failToConnect(urls());
    expect(failure.error.message).toBe(`Redis is not reachable at ${endpoints}`);
    expect(failure.error.cause).toBeInstanceOf(Error);
    expectNoPassword(failure);
  });

  test('that Redis refuses is in no message, cause or log line', async () => {
    const failure = await failToConnect([wrongPasswordUrl()]);
    expect(failure.printed).toContain('WRONGPASS');
    expectNoPassword(failure);
  });

  test('that a cluster refuses is in no message, cause or log line', async () => {
    const failure = await failToConnect([wrongPasswordUrl(), wrongPasswordUrl()]);
    expect(failure.printed).toContain('redis connection');
    expectNoPassword(failure);
  });

  test('of an address that is no URL is in no message, cause or log line', async () => {
    const failure = await failToConnect([`redis://${USER}:${spelt}@127.0.0.1:no-port`]);
    expect(failure.error.message).toBe('a Redis address is not a URL');
    expectNoPassword(failure);
  });

  test('that a server without AUTH repeats is taken out of message, stack and command', () => {
    const error = Object.assign(
      new Error(`ERR unknown command 'AUTH', with args beginning with: '${PASSWORD}'`),
      {
        command: { name: 'auth', args: [PASSWORD] },
      },
    );
    hideSecrets(error, parseAddress(away).secrets);
    expect(error.message).toBe("ERR unknown command 'AUTH', with args beginning with: '***'");
    expectNoPassword({ error, printed: String(error.stack) });
  });
});

test('an address is shown by host and port, the default one included', () => {
  expect(parseAddress('rediss://redis.example').endpoint).toBe('redis.example:6379');
  expect(parseAddress('redis://[::1]:7000').endpoint).toBe('[::1]:7000');
});

test('a transaction of which one command failed is an error', async () => {
  await stores.redis.set('test:text', 'not a hash');
  const transaction = stores.redis.multi().hset('test:text', 'field', '1').get('test:text');
  await expect(transact(transaction)).rejects.toThrow('WRONGTYPE');
});

test('a transaction answers the result of each command', async () => {
  expect(await transact(stores.redis.multi().set('test:one', '1').get('test:one'))).toEqual(['OK', '1']);
});
