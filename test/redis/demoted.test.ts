/**
 * A failover after which the old server lives on as a replica: new connections reach the new server, and open
 * ones stay at the old.
 */

import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { listenToChanges } from '../../src/orders/changes.redis.ts';
import { connectRedis, type RedisClient } from '../../src/redis/connection.ts';
import { changesChannel } from '../../src/redis/keys.ts';
import { withRedis } from '../../stack/servers/redis.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { startPrivateRedis } from '../support/private-redis.ts';
import { silent } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

async function openPair() {
  const [old, next] = [await startPrivateRedis(), await startPrivateRedis()];
  onTestFinished(async () => void (await Promise.all([old.stop(), next.stop()])));
  const proxy = await openTcpProxy(new URL(old.url).host);
  onTestFinished(() => proxy.close());
  const follow = (url: string, master: string) =>
    withRedis(url, async (redis) => {
      const { hostname, port } = new URL(master);
      await redis.call('REPLICAOF', hostname, port);
      await waitFor('the replica to follow', async () =>
        (await redis.info('replication')).includes('master_link_status:up'),
      );
    });
  await follow(next.url, old.url);
  const idOf = async (redis: RedisClient) => /run_id:(\w+)/.exec(await redis.info('server'))?.[1];
  return {
    url: `redis://${proxy.address}`,
    idOf,
    newUrl: next.url,
    newId: await withRedis(next.url, idOf),
    async failOver() {
      await withRedis(next.url, (redis) => redis.call('REPLICAOF', 'NO', 'ONE'));
      proxy.turn(new URL(next.url).host);
      await follow(old.url, next.url);
    },
  };
}

async function connect(url: string, options = {}): Promise<Redis> {
  const redis = await connectRedis([url], silent, options);
  onTestFinished(() => redis.disconnect());
  assert(redis instanceof Redis);
  return redis;
}

test('clients that write, that read alone and that block all go on at the new server', async () => {
  const { url, idOf, newId, failOver } = await openPair();
  const [writer, reader] = [await connect(url), await connect(url)];
  const blocking = await connect(url, { isBlocking: true });
  await writer.set('sold', 1);
  // It waits at the old server, which sends it away.
  const waiting = blocking.blpop('queue', 0).catch(() => null);

  await failOver();

  await waitFor('a write', () =>
    writer.incr('sold').then(
      (sold) => sold === 2,
      () => false,
    ),
  );
  await waitFor('the reader at the new server', async () => (await idOf(reader).catch(() => '')) === newId);
  expect(await reader.get('sold')).toBe('2');
  await waiting;
  await writer.rpush('queue', 'order');
  await waitFor('an entry of the queue', () =>
    blocking.blpop('queue', 1).then(
      (entry) => entry?.[1] === 'order',
      () => false,
    ),
  );
});

test('what listens to changes of orders listens at the new server', async () => {
  const { url, newUrl, failOver } = await openPair();
  const changes = listenToChanges(await connect(url), { changed: () => {}, subscribed: () => {} }, silent);
  onTestFinished(() => changes.close());
  const shard = { saleId: 'summer', shard: 0 };
  changes.follow(shard);
  const listening = (at: string) => async () => {
    const reply = await withRedis(at, (redis) => redis.call('PUBSUB', 'SHARDNUMSUB', changesChannel(shard)));
    return z.tuple([z.string(), z.int()]).parse(reply)[1] === 1;
  };
  await waitFor('a subscription', listening(url));

  await failOver();

  await waitFor('a subscription at the new server', listening(newUrl));
});

test('a replica is refused at start, by its address', async () => {
  const { url, stop } = await startPrivateRedis();
  onTestFinished(stop);
  // Nothing listens on port 1.
  await withRedis(url, (redis) => redis.call('REPLICAOF', '127.0.0.1', '1'));
  await expect(connectRedis([url], silent)).rejects.toThrow(
    `Redis at ${new URL(url).host} is a replica, which takes no writes`,
  );
});
