/** A relay that has read orders from the outbox when the sale's data are lost and made again. */

import pLimit from 'p-limit';
import { beforeAll, expect, test } from 'vitest';
import { OUTBOX_PAGE } from '../../src/limits.ts';
import { rebuildSale, type RebuildCause } from '../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { createBurst } from '../../src/workers/outbox-follower.ts';
import { createOutboxFollower, type FollowerDeps } from '../../src/workers/outbox-follower.ts';
import { createEngineGate } from '../../src/workers/starter.ts';
import { copyMysql } from '../support/set-back-mysql.ts';
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

const rebuild = ({ stores, saleId }: RelayWorld, cause: RebuildCause = 'lost') =>
  rebuildSale({ ...stores, log: silent }, saleId, { cause });

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
    saleId: world.saleId,
    burst: createBurst(),
    living: { list: () => undefined },
    outboxPage: OUTBOX_PAGE,
    storesAtOnce: 2,
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

/** The engine has no room, however long a test takes: a slot that another order held would run out. */
const openFullWorld = (): Promise<RelayWorld> => openRelayWorld(namespace, { ENGINE_BUDGET: 0 });

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

/** An order is stored, shown and off the outbox; MySQL loses it, and then the sale is made again. */
async function openWorldWithOrderLostByMysql() {
  const world = await openFullWorld();
  const { stores } = world;
  const putBack = await copyMysql(stores.config.MYSQL_URL);
  const [order] = await world.accept(1);
  if (!order) throw new Error('one was accepted');
  const pass = await openRelay(world, async () => undefined);
  await pass(3);
  const shown = { status: 'awaiting_payment', version: 1 };
  expect((await stores.reservations.readOrder(order.orderNo))?.state).toMatchObject(shown);
  expect(await world.outboxLength()).toBe(0);
  await putBack();
  expect(await stores.orders.read(order.orderNo)).toBeUndefined();
  await rebuild(world, 'replaced');
  return { world, order, pass, shown };
}

test('an order that MySQL has lost is stored again after a rebuild, and what is shown of it never goes back', async () => {
  const { world, order, pass, shown } = await openWorldWithOrderLostByMysql();
  const { stores, saleId } = world;
  const read = async () => (await stores.reservations.readOrder(order.orderNo))?.state;
  expect(await read()).toMatchObject(shown);
  const seen: unknown[] = [];
  const { reserveAgain } = stores.reservations;
  stores.reservations.reserveAgain = async (...call) => {
    const outcome = await reserveAgain(...call);
    seen.push(await read());
    return outcome;
  };

  await pass(6);

  expect(seen).toEqual([expect.objectContaining(shown)]);
  expect((await stores.orders.read(order.orderNo))?.state).toMatchObject(shown);
  expect(await stores.reservations.lookUp(order.orderNo)).toMatchObject({
    found: { state: shown, order: { holdEpoch: 2 } },
    isCertain: true,
  });
  expect(await stores.redis.zrange(saleKeys({ saleId, shard: 0 }).deadlines, '0', '-1')).toEqual([
    order.orderNo,
  ]);
  await expectStock(stores, saleId, { sku: 'lamp', available: 999, held: 1, sold: 0 });
  expect(await world.outboxLength()).toBe(0);
});

test('an order that MySQL has lost and whose units are sold by the time of a rebuild ends failed, visibly', async () => {
  const { world, order, pass, shown } = await openWorldWithOrderLostByMysql();
  const { stores, saleId } = world;
  await stores.redis.hset(saleKeys({ saleId, shard: 0 }).stock, 'lamp:available', '0');

  await pass(6);

  const failed = { status: 'failed', reason: 'lost_hold', version: shown.version + 1 };
  expect((await stores.orders.read(order.orderNo))?.state).toMatchObject(failed);
  expect(await stores.reservations.lookUp(order.orderNo)).toMatchObject({
    found: { state: failed },
    // So a shopper is answered what MySQL has.
    isCertain: false,
  });
  expect(await world.outboxLength()).toBe(0);
});

test('an order that MySQL has lost with its cancel request is open once more, and is shown as cancelled at its end', async () => {
  const { world, order, pass } = await openWorldWithOrderLostByMysql();
  const { orders, reservations } = world.stores;
  const open = { status: 'awaiting_payment', payment: 'none' } as const;
  await reservations.project(order.orderNo, { ...open, version: 2, reason: 'shopper_request' });

  await pass(6);

  const read = async () => (await reservations.readOrder(order.orderNo))?.state;
  expect(await read()).toEqual({ ...open, version: 3, reason: null });
  const { state } = await orders.cancel(order.orderNo, 'payment_timeout', { force: true });
  expect(state.status).toBe('cancelled');
  await reservations.project(order.orderNo, state);
  expect(await read()).toEqual(state);
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
