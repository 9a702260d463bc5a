/** A relay that has read orders from the outbox when the sale's data are lost and made again. */

import pLimit from 'p-limit';
import { beforeAll, expect, test } from 'vitest';
import { rebuildSale } from '../../src/rebuild/rebuild-sale.ts';
import { saleKeys } from '../../src/stores/redis/keys.ts';
import { createBurst } from '../../src/workers/burst.ts';
import { createEngineGate } from '../../src/workers/engine-gate.ts';
import { createOutboxFollower, type FollowerDeps } from '../../src/workers/outbox-follower.ts';
import { expectStock } from '../support/stock.ts';
import { silent } from '../support/stores.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { openRelayWorld, type RelayWorld } from './relay-world.ts';

let namespace: string;
beforeAll(async () => {
  namespace = await createNamespace();
});

async function loseAll({ stores, saleId }: RelayWorld): Promise<void> {
  const keys = await stores.redis.keys(`holdfast:{${saleId}.0}:*`);
  await stores.redis.del(...keys);
}

const rebuild = ({ stores, saleId }: RelayWorld) =>
  rebuildSale({ ...stores, log: silent }, saleId, { cause: 'lost', actor: 'holdfast' });

/** A relay without room in the engine; `meanwhile` happens between its reading and its storing of a page. */
async function openRelay(world: RelayWorld, meanwhile: () => Promise<unknown>) {
  const { stores } = world;
  let isFirst = true;
  const storeOrders: FollowerDeps['orders']['storeOrders'] = async (...call) => {
    if (isFirst && call[0].length > 0) {
      isFirst = false;
      await meanwhile();
    }
    return stores.orders.storeOrders(...call);
  };
  const follower = createOutboxFollower({
    ...stores,
    orders: { ...stores.orders, storeOrders },
    outbox: await world.outbox('relay-1'),
    engine: world.engine,
    gate: createEngineGate(stores.budget, silent),
    burst: createBurst(),
    storing: pLimit(2),
    stopping: new AbortController().signal,
    log: silent,
  });
  return async (passes: number) => {
    for (let i = 0; i < passes; i += 1) {
      await follower.pass();
      await follower.drain();
    }
  };
}

async function openFullWorld(): Promise<RelayWorld> {
  const world = await openRelayWorld(namespace, { ENGINE_BUDGET: 1 });
  await world.stores.budget.acquire(['another-order']);
  return world;
}

test('orders that were read before Redis was emptied are reserved again and stored, though their outbox is gone', async () => {
  const world = await openFullWorld();
  const orders = await world.accept(3);
  const pass = await openRelay(world, async () => {
    await loseAll(world);
    await rebuild(world);
  });

  await pass(6);

  const stored = await world.storedOrders();
  expect([...stored.keys()].toSorted()).toEqual(orders.map(({ orderNo }) => orderNo).toSorted());
  await expectStock(world.stores, world.saleId, { sku: 'lamp', available: 997, held: 3, sold: 0 });
  expect(await world.outboxLength()).toBe(0);
});

test('while the data are being made again such orders wait, and are reserved as soon as they are there', async () => {
  const world = await openFullWorld();
  const [order] = await world.accept(1);
  let rebuilding: Promise<unknown> | undefined;
  const pass = await openRelay(world, async () => {
    await loseAll(world);
    // MySQL has the new epoch, and Redis has nothing yet.
    await world.stores.pool.query(
      'UPDATE sales SET epoch = 2, undecided_from = 1, rebuilding_since = NOW(3)',
    );
    const { reserveAgain } = world.stores.reservations;
    world.stores.reservations.reserveAgain = async (...call) => {
      rebuilding ??= rebuild(world);
      return reserveAgain(...call);
    };
  });

  await pass(6);
  await rebuilding;

  expect((await world.stores.orders.read(order?.orderNo ?? ''))?.state.status).toBe('awaiting_payment');
  await expectStock(world.stores, world.saleId, { sku: 'lamp', available: 999, held: 1, sold: 0 });
});

test('such an order whose units are sold by then ends with a lost hold, without the engine', async () => {
  const world = await openFullWorld();
  const [order] = await world.accept(1);
  const pass = await openRelay(world, async () => {
    await loseAll(world);
    await rebuild(world);
    await world.stores.redis.hset(saleKeys({ saleId: world.saleId, shard: 0 }).stock, 'lamp:available', '0');
  });

  await pass(3);

  const state = (await world.stores.orders.read(order?.orderNo ?? ''))?.state;
  expect(state).toMatchObject({ status: 'failed', reason: 'lost_hold' });
});

test('an entry whose order Redis has lost with all of its sale is not left to an operator', async () => {
  const world = await openFullWorld();
  await world.accept(1);
  const { redis, pool } = world.stores;
  const pass = await openRelay(world, async () => undefined);
  // The entry is there, and neither its order nor its sale.
  const keys = await redis.keys(`holdfast:{${world.saleId}.0}:*`);
  await redis.del(...keys.filter((key) => !key.endsWith(':outbox')));

  await pass(2);

  const [parked] = await pool.query('SELECT reason FROM parked');
  expect(parked).toEqual([]);
  expect(await world.outboxLength()).toBe(0);
});
