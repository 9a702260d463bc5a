import { beforeAll, expect, test } from 'vitest';
import type { HandOver } from '../../src/engine/order-engine.ts';
import { createEngineGate } from '../../src/workers/engine-gate.ts';
import { createOutboxFollower, type FollowerDeps } from '../../src/workers/outbox-follower.ts';
import { waitFor } from '../support/wait.ts';
import { silent } from '../support/stores.ts';
import { createNamespace } from '../support/temporal.ts';
import { openRelayWorld, type RelayWorld } from './relay-world.ts';

const AWAY = new Error('14 UNAVAILABLE: connection refused');

let namespace: string;

beforeAll(async () => {
  namespace = await createNamespace();
});

/** One relay's follower, pass by pass; parts of it may be replaced by such that fail. Its first pass looks for leftovers. */
async function openFollower(world: RelayWorld, parts: Partial<FollowerDeps> = {}) {
  const { stores } = world;
  const outbox = parts.outbox ?? (await world.outbox('relay-1'));
  const started: string[] = [];
  const engine = {
    start: async ({ orderNo }: { orderNo: string }): Promise<HandOver> => {
      started.push(orderNo);
      return 'running';
    },
  };
  const gate = createEngineGate(stores.budget, silent);
  const pass = createOutboxFollower({ ...stores, engine, gate, log: silent, ...parts, outbox });
  return { pass, started };
}

/** Fails the first time that there is something to do, as a process that dies there would. */
function failOnce<T, A extends unknown[], R>(
  real: (items: readonly T[], ...rest: A) => Promise<R>,
): (items: readonly T[], ...rest: A) => Promise<R> {
  let hasFailed = false;
  return async (items, ...rest) => {
    if (hasFailed || items.length === 0) return real(items, ...rest);
    hasFailed = true;
    throw new Error('died here');
  };
}

test('no entry is acknowledged before its order is durable elsewhere', async () => {
  const world = await openRelayWorld(namespace, { ENGINE_BUDGET: 1 });
  const { orders } = world.stores;
  const outbox = await world.outbox('relay-1');
  const seen: Record<string, number> = {};
  const engine = {
    start: async (): Promise<HandOver> => {
      seen['at the start'] = await world.outboxLength();
      return 'running';
    },
  };
  const storeOrders: typeof orders.storeOrders = async (...args) => {
    seen['before storing'] = await world.outboxLength();
    const outcomes = await orders.storeOrders(...args);
    seen['after storing'] = await world.outboxLength();
    return outcomes;
  };
  const { pass } = await openFollower(world, { outbox, engine, orders: { ...orders, storeOrders } });
  await world.accept(3);

  await pass();
  await pass();

  expect(seen['at the start']).toBe(3);
  // The two that are stored are there all the time; the started one may have gone meanwhile.
  expect(seen['before storing']).toBeGreaterThanOrEqual(2);
  expect(seen['after storing']).toBeGreaterThanOrEqual(2);
  expect(await world.outboxLength()).toBe(0);
});

test('an order started by a relay that died before it could acknowledge is started again', async () => {
  const world = await openRelayWorld(namespace);
  const outbox = await world.outbox('relay-1');
  const { pass, started } = await openFollower(world, {
    outbox: { ...outbox, acknowledge: failOnce(outbox.acknowledge) },
  });
  const [order] = await world.accept(1);

  await pass();
  await expect(pass()).rejects.toThrow('died here');
  expect(await world.outboxLength()).toBe(1);
  await pass();

  expect(started).toEqual([order?.orderNo, order?.orderNo]);
  expect(await world.outboxLength()).toBe(0);
});

test('orders stored ahead by a relay that died before it could acknowledge are stored once', async () => {
  const world = await openRelayWorld(namespace);
  const outbox = await world.outbox('relay-1');
  const { pass } = await openFollower(world, {
    outbox: { ...outbox, acknowledge: failOnce(outbox.acknowledge) },
    engine: { start: () => Promise.reject(AWAY) },
  });
  await world.accept(3);

  await pass();
  await expect(pass()).rejects.toThrow('died here');
  expect((await world.storedOrders()).size).toBe(3);
  expect(await world.outboxLength()).toBe(3);
  await pass();

  expect((await world.storedOrders()).size).toBe(3);
  expect(await world.outboxLength()).toBe(0);
  expect(await world.stores.sales.readStock(world.saleId)).toMatchObject([{ available: 997, held: 3 }]);
});

test('when neither Temporal nor MySQL takes them, entries stay and are tried again', async () => {
  const world = await openRelayWorld(namespace);
  const { orders } = world.stores;
  const { pass } = await openFollower(world, {
    engine: { start: () => Promise.reject(AWAY) },
    orders: { ...orders, storeOrders: failOnce(orders.storeOrders) },
  });
  await world.accept(3);

  await pass();
  await expect(pass()).rejects.toThrow('died here');
  expect(await world.outboxLength()).toBe(3);
  expect(await pass()).toBe(0);

  expect(await world.outboxLength()).toBe(0);
  expect((await world.storedOrders()).size).toBe(3);
});

test('entries that a dead relay had read are taken over', async () => {
  const world = await openRelayWorld(namespace);
  const dead = await world.outbox('dead');
  await dead.readNew(1, 1);
  const orders = await world.accept(2);
  const read = await dead.readNew(10, 1);
  expect(read).toHaveLength(2);
  const key = `holdfast:{${world.saleId}.0}:outbox`;
  // It read them a minute ago, and was not heard of since.
  for (const { entryId } of read) {
    await world.stores.redis.call('XCLAIM', key, 'relay', 'dead', '0', entryId, 'IDLE', '60000', 'JUSTID');
  }
  const { pass, started } = await openFollower(world);

  await pass();

  expect(started.toSorted()).toEqual(orders.map(({ orderNo }) => orderNo).toSorted());
  expect(await world.outboxLength()).toBe(0);
});

test('entries that a living relay has in hand are left to it', async () => {
  const world = await openRelayWorld(namespace);
  const living = await world.outbox('living');
  await living.readNew(1, 1);
  await world.accept(2);
  await living.readNew(10, 1);
  const { pass, started } = await openFollower(world);

  await pass();
  await pass();

  expect(started).toEqual([]);
  expect(await living.readPending(10, '0')).toHaveLength(2);
});

test('a group that was lost with Redis is made again, and nothing that waits is missed', async () => {
  const world = await openRelayWorld(namespace);
  const { pass, started } = await openFollower(world);
  await pass();
  await world.accept(2);
  await world.stores.redis.xgroup('DESTROY', `holdfast:{${world.saleId}.0}:outbox`, 'relay');

  await pass();
  await pass();

  expect(started).toHaveLength(2);
  expect(await world.outboxLength()).toBe(0);
});

test.each([
  ['an order that Redis does not have', (saleId: string) => `${saleId}-0-1-01JD0000000000000000000000`],
  ['what is no order number', () => 'nonsense'],
])('an outbox entry that names %s is parked, and holds up no other', async (_, nameIn) => {
  const world = await openRelayWorld(namespace);
  const { redis, pool } = world.stores;
  const name = nameIn(world.saleId);
  await redis.xadd(`holdfast:{${world.saleId}.0}:outbox`, '*', 'order_no', name);
  const [order] = await world.accept(1);
  const { pass, started } = await openFollower(world);

  await pass();
  await pass();

  expect(started).toEqual([order?.orderNo]);
  expect(await world.outboxLength()).toBe(0);
  const [parked] = await pool.query('SELECT kind, INSTR(reason, ?) > 0 AS named FROM parked', [name]);
  expect(parked).toEqual([{ kind: 'outbox_entry', named: 1 }]);
});

test('an order that is refused, while the engine has no room, keeps no other order waiting', async () => {
  const world = await openRelayWorld(namespace, { ENGINE_BUDGET: 1 });
  await world.stores.budget.acquire(['somebody-else']);
  const { pass } = await openFollower(world);
  const [refused] = await world.accept(1);
  // Its sale has another epoch now: storing ahead answers "lost hold".
  await world.stores.pool.query('UPDATE sales SET epoch = 2');
  await pass();
  await pass();
  await world.stores.pool.query('UPDATE sales SET epoch = 1');
  // By now it could be stored; what is asked is whether those after it were read meanwhile.
  const later = await world.accept(2);
  await pass();
  const stored = await world.storedOrders();
  for (const { orderNo } of later) expect(stored.has(orderNo)).toBe(true);
  await waitFor('the first to be tried again', async () => {
    await pass();
    return (await world.storedOrders()).has(refused?.orderNo ?? '');
  });
  expect(await world.outboxLength()).toBe(0);
});

test('more leftovers than one read shows are all taken up', async () => {
  const world = await openRelayWorld(namespace, { ENGINE_BUDGET: 1 });
  const dead = await world.outbox('relay-1');
  await dead.readNew(1, 1);
  const orders = await world.accept(205);
  await dead.readNew(1_000, 1);
  const { pass } = await openFollower(world);

  await pass();
  await pass();

  expect(await world.outboxLength()).toBe(0);
  expect((await world.storedOrders()).size).toBeGreaterThanOrEqual(orders.length - 1);
});
