/** The relay on real servers: every accepted order is started or stored ahead, whatever is away. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { saleKeys, SALES_KEY } from '../../src/redis/keys.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { signer } from '../support/signer.ts';
import { waitFor } from '../support/wait.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { startRelay } from '../support/workflows/worker.ts';
import { openMysqlAway, openRelayWorld, type RelayWorld } from './relay-world.ts';

let namespace: string;

beforeAll(async () => {
  namespace = await createNamespace();
});

/** Runs until the test ends. */
function relay(world: RelayWorld, stores: Parameters<typeof startRelay>[0] = world.stores): void {
  onTestFinished(startRelay(stores, world.engine));
}

async function allStarted(world: RelayWorld, orders: readonly Order[]): Promise<void> {
  for (const { orderNo } of orders) await waitFor(`the start of ${orderNo}`, () => world.isStarted(orderNo));
}

/** As the first step of its workflow does; there is no worker here. */
async function persist({ stores: { orders, budget } }: RelayWorld, order: Order): Promise<void> {
  await orders.storeOrder(order, 'started');
  await budget.release([order.orderNo]);
}

/** Of the stored orders those whose workflow has been started. */
async function countBegun(world: RelayWorld): Promise<number> {
  return [...(await world.storedOrders()).values()].filter((isBegun) => isBegun).length;
}

async function outboxEmpty(world: RelayWorld): Promise<void> {
  await waitFor('the outbox to be empty', async () => (await world.outboxLength()) === 0);
}

test('orders accepted before the first relay came are started', async () => {
  const world = await openRelayWorld(namespace);
  const orders = await world.accept(3);

  relay(world);

  await outboxEmpty(world);
  expect((await world.storedOrders()).size).toBe(3);
  await allStarted(world, orders);
});

test('orders of a sale that opens while the relay runs are started', async () => {
  const world = await openRelayWorld(namespace);
  relay(world);
  await outboxEmpty(world);

  const [order] = await world.accept(1);

  await waitFor('the start', () => world.isStarted(order?.orderNo ?? ''));
  await outboxEmpty(world);
});

test('all orders are stored and payable at once; the engine starts those that its budget has room for, and the others later', async () => {
  const world = await openRelayWorld(namespace, { ENGINE_BUDGET: 2 });
  const { stores } = world;
  const orders = await world.accept(6);
  const takenAtStarts: number[] = [];
  const engine: RelayWorld['engine'] = {
    ...world.engine,
    start: async (order) => {
      takenAtStarts.push(await stores.redisStatus.countSlots());
      return world.engine.start(order);
    },
  };

  onTestFinished(startRelay(stores, engine));
  await outboxEmpty(world);

  const ahead = await world.storedOrders();
  expect(ahead.size).toBe(6);
  for (const orderNo of ahead.keys()) {
    expect(await stores.paymentSessions.begin('sandbox', orderNo, signer.sign)).toMatchObject({
      kind: 'begun',
    });
    expect((await stores.reservations.readOrder(orderNo))?.state.status).toBe('awaiting_payment');
  }
  const left = new Set(orders);
  await waitFor('all to be started', async () => {
    for (const order of left) {
      if (!(await world.isStarted(order.orderNo))) continue;
      await persist(world, order);
      left.delete(order);
    }
    return left.size === 0;
  });
  expect(await countBegun(world)).toBe(6);
  // One, or two where both loops saw the same room.
  expect(Math.max(...takenAtStarts)).toBeLessThanOrEqual(2);
});

test('orders that are stored and wait for Temporal alone refuse nobody', async () => {
  const world = await openRelayWorld(namespace, { MYSQL_STORES_PER_SECOND: 1 });
  const { stores } = world;
  // One order a second and a window of nine seconds: three may wait to be stored.
  const { saleId } = await stores.openSale(buildSale({ paymentWindowMs: 9_000 }));
  world.wire.cut();
  await world.accept(4);
  relay(world);
  await outboxEmpty(world);

  // A process may count the outboxes as they were a second ago.
  await waitFor('an order to be accepted', async () => {
    const { kind } = await stores.reservations.reserve(buildReserveRequest({ saleId }));
    return kind === 'reserved';
  });
});

test('while Temporal is away orders are stored ahead and payable; when it is back they are started', async () => {
  const world = await openRelayWorld(namespace);
  const { stores } = world;
  world.wire.cut();
  const orders = await world.accept(3);

  relay(world);
  await outboxEmpty(world);

  expect([...(await world.storedOrders()).values()]).toEqual([false, false, false]);
  for (const { orderNo } of orders) {
    expect(await stores.paymentSessions.begin('sandbox', orderNo, signer.sign)).toMatchObject({
      kind: 'begun',
    });
  }

  world.wire.mend();
  await allStarted(world, orders);
});

test('while MySQL is away orders are started all the same', async () => {
  const world = await openRelayWorld(namespace);
  const orders = await world.accept(3);

  relay(world, { ...world.stores, ...(await openMysqlAway()) });

  await outboxEmpty(world);
  await allStarted(world, orders);
});

test('while Temporal and MySQL are both away every order waits in the outbox, and goes on when one is back', async () => {
  const world = await openRelayWorld(namespace);
  world.wire.cut();
  const orders = await world.accept(3);
  const away = await openMysqlAway();
  let refusals = 0;
  const storeOrders: typeof away.orders.storeOrders = async (...args) => {
    refusals += 1;
    return away.orders.storeOrders(...args);
  };

  relay(world, { ...world.stores, ...away, orders: { ...away.orders, storeOrders } });
  await waitFor('a second try', () => refusals > 1);

  expect(await world.outboxLength()).toBe(3);
  world.wire.mend();
  await outboxEmpty(world);
  await allStarted(world, orders);
});

test('two relays share the work, and each order is started once', async () => {
  const world = await openRelayWorld(namespace, { ENGINE_BUDGET: 500 });
  const orders = await world.accept(60);
  const started: string[] = [];
  const engine: RelayWorld['engine'] = {
    ...world.engine,
    start: async (order) => {
      started.push(order.orderNo);
    },
  };

  onTestFinished(startRelay(world.stores, engine));
  onTestFinished(startRelay(world.stores, engine));
  await outboxEmpty(world);

  // An entry leaves the outbox when its order is stored, and the start follows.
  await waitFor('all to be started', () => started.length >= orders.length);
  expect(started.toSorted()).toEqual(orders.map(({ orderNo }) => orderNo).toSorted());
});

test('a relay that is to stop ends, and leaves what it has not read to the next', async () => {
  const world = await openRelayWorld(namespace);
  const stop = startRelay(world.stores, world.engine);
  await outboxEmpty(world);
  await stop();

  const orders = await world.accept(2);
  expect(await world.outboxLength()).toBe(2);
  relay(world);

  await outboxEmpty(world);
  await allStarted(world, orders);
});

test('at maxmemory accepted orders are started all the same, and leave the outbox', async () => {
  const world = await openRelayWorld(namespace, { ENGINE_BUDGET: 1 });
  // A relay has been here before, so the outbox has its consumer group.
  await (await world.outbox('earlier')).readNew(1, 1);
  const orders = await world.accept(3);
  // One byte is always used up already, so Redis refuses whatever wants memory.
  await world.stores.redis.config('SET', 'maxmemory', '1');
  onTestFinished(async () => {
    await world.stores.redis.config('SET', 'maxmemory', '0');
  });
  relay(world);
  await outboxEmpty(world);
  const stored = await world.storedOrders();
  for (const { orderNo } of orders)
    expect(stored.has(orderNo) || (await world.isStarted(orderNo))).toBe(true);
});

test.each([
  { fault: 'is lost', harm: ({ stores }: RelayWorld) => stores.redis.del(SALES_KEY) },
  {
    fault: 'has lost a sale',
    harm: ({ stores, saleId }: RelayWorld) => stores.redis.srem(SALES_KEY, `${saleId}.0`),
  },
  { fault: 'is of the wrong type', harm: ({ stores }: RelayWorld) => stores.redis.set(SALES_KEY, 'damaged') },
])(
  'where the list of sales $fault, relays follow what MySQL knows, and the list is whole again',
  async ({ harm }) => {
    const world = await openRelayWorld(namespace);
    const { redis } = world.stores;
    await harm(world);
    const orders = await world.accept(2);

    relay(world);

    await outboxEmpty(world);
    expect((await world.storedOrders()).size).toBe(2);
    await allStarted(world, orders);
    expect(await redis.smembers(SALES_KEY)).toEqual([`${world.saleId}.0`]);
  },
);

test('a relay goes on with the sales that it follows while both the list and MySQL are away', async () => {
  const world = await openRelayWorld(namespace);
  const { redis } = world.stores;
  relay(world, { ...world.stores, ...(await openMysqlAway()) });
  // A survey begins with the list.
  const countReads = async () =>
    Number(/^cmdstat_smembers:calls=(\d+)/m.exec(await redis.info('commandstats'))?.[1] ?? 0);
  const surveyed = async () => {
    const before = await countReads();
    await waitFor('a survey of the sale', async () => (await countReads()) > before + 1);
  };
  await surveyed();
  await redis.del(SALES_KEY);

  await surveyed();
  await surveyed();
  const orders = await world.accept(2);

  await outboxEmpty(world);
  await allStarted(world, orders);
});

test('a sale that is over and forgotten is followed no longer, and not put on the list again', async () => {
  const world = await openRelayWorld(namespace);
  const { redis, pool, forgetting, retention } = world.stores;
  const { saleId } = world;
  relay(world);
  const keys = saleKeys({ saleId, shard: 0 });
  await waitFor('the sale to be followed', async () => (await redis.exists(keys.outbox)) === 1);
  await pool.query(
    'UPDATE sales SET closes_at = NOW(3) - INTERVAL 9 DAY, opens_at = NOW(3) - INTERVAL 10 DAY',
  );
  await retention.noteRedisCleaned(saleId);
  await forgetting.forgetSale({ saleId, shard: 0 });

  const { saleId: other } = await world.stores.openSale(buildSale());
  const { outbox } = saleKeys({ saleId: other, shard: 0 });
  await waitFor('the other sale to be followed', async () => (await redis.exists(outbox)) === 1);

  expect(await redis.smembers(SALES_KEY)).toEqual([`${other}.0`]);
});
