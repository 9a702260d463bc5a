/** Callers that wait for changes on a Redis Cluster, whose slots move and whose masters die. */

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster, type Redis } from 'ioredis';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { WATCHER_BOUNDS } from '../../src/api/watchers.ts';
import { parseOrderNo } from '../../src/orders/order.ts';
import { changesChannel, saleKeys } from '../../src/redis/keys.ts';
import { startRedisCluster, type RedisCluster } from '../../stack/servers/redis-cluster.ts';
import { openApi, type TestApi } from '../api/open-api.ts';
import { closeLater } from '../support/close-later.ts';
import { openEvents, type EventStream } from '../support/event-stream.ts';
import { buildSale } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';

let cluster: RedisCluster;
let api: TestApi;
let redis: Cluster;

beforeAll(async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-watch-cluster-'));
  closeLater(() => rm(dataDir, { recursive: true }));
  cluster = await startRedisCluster({ dataDir, replicas: true });
  closeLater(() => cluster.stop());
  api = await openApi({ REDIS_URL: cluster.redisUrl.split(',') });
  assert(api.stores.redis instanceof Cluster);
  ({ redis } = api.stores);
});

interface Watched {
  orderNo: string;
  slot: number;
  stream: EventStream;
}

/** The port of the master that has the slot, as the connection knows it. */
const portOf = (slot: number) => Number(redis.slots[slot]?.[0]?.split(':').at(-1));

function masterAt(port: number): Redis {
  return redis.nodes('master').find(({ options }) => options.port === port) ?? expect.unreachable();
}

/** An order and a stream of it, on another master than those. */
async function watchBeside(url: string, others: readonly number[] = []): Promise<Watched> {
  const { saleId, slot } = await waitFor('a sale on another node', async () => {
    const sale = await api.stores.openSale(buildSale());
    const found = await redis.cluster('KEYSLOT', saleKeys({ saleId: sale.saleId, shard: 0 }).sale);
    return !others.includes(portOf(found)) && { saleId: sale.saleId, slot: found };
  });
  const shopper = await api.shopper();
  const orderNo = await shopper.buy(saleId);
  const stream = await openEvents(url, orderNo, { authorization: shopper.authorization });
  onTestFinished(() => stream.close());
  expect(await stream.next()).toMatchObject({ version: 0 });
  return { orderNo, slot, stream };
}

/** An API in which nothing but messages and subscriptions tells those that wait. */
async function openWatched(): Promise<string> {
  const watcherBounds = { ...WATCHER_BOUNDS, lookEveryMs: 3_600_000 };
  const app = await api.withParts({ watcherBounds });
  return app.url;
}

/** The first may be told by a new subscription, and so the next two by messages. */
async function expectTold({ orderNo, stream }: Watched, from: number): Promise<void> {
  for (const version of [from, from + 1, from + 2]) {
    await api.stores.reservations.project(orderNo, {
      status: 'awaiting_payment',
      version,
      payment: 'none',
      reason: null,
    });
    expect(await stream.next()).toMatchObject({ version });
  }
}

test('orders on different nodes are each told of by their own', async () => {
  const url = await openWatched();
  const one = await watchBeside(url);
  const two = await watchBeside(url, [portOf(one.slot)]);

  await Promise.all([expectTold(one, 1), expectTold(two, 1)]);
});

test('where a slot moves to another node the subscription follows it', async () => {
  const url = await openWatched();
  const moving = await watchBeside(url);
  const staying = await watchBeside(url, [portOf(moving.slot)]);
  await expectTold(moving, 1);

  await moveSlot(moving.slot, portOf(moving.slot), portOf(staying.slot));

  await Promise.all([expectTold(moving, 4), expectTold(staying, 1)]);
  expect(portOf(moving.slot)).toBe(portOf(staying.slot));
});

test('where a replica takes over and the master lives on as a replica the subscription follows it', async () => {
  const url = await openWatched();
  const one = await watchBeside(url);
  const before = portOf(one.slot);
  await expectTold(one, 1);

  await cluster.handOver(before);
  await waitFor('the connection to know', async () => {
    await api.stores.reservations.readOrder(one.orderNo);
    return portOf(one.slot) !== before;
  });

  const { saleId } = parseOrderNo(one.orderNo) ?? expect.unreachable();
  await waitFor('a subscription at the new master', async () => {
    const channels = await masterAt(portOf(one.slot)).call('PUBSUB', 'SHARDCHANNELS');
    return z
      .array(z.string())
      .parse(channels)
      .includes(changesChannel({ saleId, shard: 0 }));
  });
  await expectTold(one, 4);
});

test('where a replica takes over from a killed master the subscription follows it', async () => {
  const url = await openWatched();
  const one = await watchBeside(url);
  const killed = portOf(one.slot);
  const other = await watchBeside(url, [killed]);
  await expectTold(one, 1);

  await cluster.kill(killed);
  await expectTold(other, 1);
  await waitFor('the replica to take over', async () =>
    api.stores.reservations.readOrder(one.orderNo).catch(() => false as const),
  );

  await expectTold(one, 4);
});

/** As an operator moves it: first its keys, then the slot itself. */
async function moveSlot(slot: number, fromPort: number, toPort: number): Promise<void> {
  const [from, to] = [masterAt(fromPort), masterAt(toPort)];
  const [fromId, toId] = await Promise.all(
    [from, to].map(async (node) => String(await node.call('CLUSTER', 'MYID'))),
  );
  const text = String(slot);
  await to.call('CLUSTER', 'SETSLOT', text, 'IMPORTING', String(fromId));
  await from.call('CLUSTER', 'SETSLOT', text, 'MIGRATING', String(toId));
  const keys = z.array(z.string()).parse(await from.call('CLUSTER', 'GETKEYSINSLOT', text, '1000'));
  await from.call('MIGRATE', '127.0.0.1', String(toPort), '', '0', '5000', 'KEYS', ...keys);
  for (const node of [to, from]) await node.call('CLUSTER', 'SETSLOT', text, 'NODE', String(toId));
}
