/** The relay's outbox follower, pass by pass: no entry is acknowledged before its order is durable. */

import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { OUTBOX_PAGE } from '../../src/limits.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { createOutbox } from '../../src/redis/outbox.ts';
import { createLoopWatch } from '../../src/workers/loop.ts';
import { createBurst } from '../../src/workers/outbox-follower.ts';
import { BURST_ORDERS, createOutboxFollower, type FollowerDeps } from '../../src/workers/outbox-follower.ts';
import { createEngineGate } from '../../src/workers/starter.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { ageRelay } from '../support/ageing.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { openSharedRelayWorld, type RelayWorld } from './relay-world.ts';

const AWAY = new Error('14 UNAVAILABLE: connection refused');
const FREE = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 0, total: 10, limitPerUser: null }];

let namespace: string;
let shared: TestStores;
beforeAll(async () => {
  [namespace, shared] = [await createNamespace(), await openTestStores()];
});
afterAll(() => shared.close());

const openWorld = (options: { slots?: number } = {}): Promise<RelayWorld> =>
  openSharedRelayWorld(shared, namespace, options);

/**
 * One relay's follower, pass by pass; parts of it may be replaced
 * by such that fail. Its first pass looks for leftovers.
 */
async function openFollower(world: RelayWorld, parts: Partial<FollowerDeps> = {}) {
  const { stores } = world;
  const outbox = parts.outbox ?? (await world.outbox('relay-1'));
  const started: string[] = [];
  const engine = {
    start: async ({ orderNo }: { orderNo: string }): Promise<void> => {
      started.push(orderNo);
    },
  };
  const gate = createEngineGate(stores.budget, silent);
  const follower = createOutboxFollower({
    ...stores,
    engine,
    gate,
    saleId: world.saleId,
    burst: createBurst(),
    living: { list: () => undefined },
    outboxPage: OUTBOX_PAGE,
    storesAtOnce: 2,
    storing: pLimit(2),
    stopping: new AbortController().signal,
    log: silent,
    ...parts,
    outbox,
  });
  /** Reads one page and waits until it was handled; first, as the relay's loop does, it waits out a pause. */
  async function pass(): Promise<void> {
    for (let pauseMs = await follower.pass(); pauseMs > 0;) {
      await delay(pauseMs);
      pauseMs = await follower.pass();
    }
    await follower.drain();
  }
  return { pass, started, follower };
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
  const world = await openWorld({ slots: 1 });
  const { orders } = world.stores;
  const outbox = await world.outbox('relay-1');
  const seen: Record<string, unknown> = {};
  const engine = {
    start: async ({ orderNo }: { orderNo: string }): Promise<void> => {
      seen['at the start'] = (await orders.read(orderNo))?.state.status;
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

  expect(seen['at the start']).toBe('awaiting_payment');
  // The one with a slot and the others are stored apart, and either may be the first to be acknowledged.
  expect(seen['before storing']).toBeGreaterThanOrEqual(1);
  expect(seen['after storing']).toBeGreaterThanOrEqual(1);
  expect(await world.outboxLength()).toBe(0);
});

test('an order that was stored and could not be acknowledged is started, and its entry goes', async () => {
  const world = await openWorld();
  const outbox = await world.outbox('relay-1');
  const { pass, started } = await openFollower(world, {
    outbox: { ...outbox, acknowledge: failOnce(outbox.acknowledge) },
  });
  const [order] = await world.accept(1);

  await pass();
  await waitFor('the entries to go', async () => {
    await pass();
    return (await world.outboxLength()) === 0;
  });

  expect([...new Set(started)]).toEqual([order?.orderNo]);
  expect((await world.storedOrders()).size).toBe(1);
  expect(await world.outboxLength()).toBe(0);
});

test('orders stored ahead by a relay that died before it could acknowledge are stored once', async () => {
  const world = await openWorld();
  const outbox = await world.outbox('relay-1');
  const { pass } = await openFollower(world, {
    outbox: { ...outbox, acknowledge: failOnce(outbox.acknowledge) },
    engine: { start: () => Promise.reject(AWAY) },
  });
  await world.accept(3);

  await pass();
  await pass();
  expect((await world.storedOrders()).size).toBe(3);
  expect(await world.outboxLength()).toBe(3);
  await waitFor('the entries to go', async () => {
    await pass();
    return (await world.outboxLength()) === 0;
  });

  expect((await world.storedOrders()).size).toBe(3);
  expect(await world.outboxLength()).toBe(0);
  expect(await world.stores.sales.readStock(world.saleId)).toMatchObject([{ available: 997, held: 3 }]);
});

test('when neither Temporal nor MySQL takes them, entries stay and are tried again', async () => {
  const world = await openWorld();
  const { orders } = world.stores;
  const { pass } = await openFollower(world, {
    engine: { start: () => Promise.reject(AWAY) },
    orders: { ...orders, storeOrders: failOnce(orders.storeOrders) },
  });
  await world.accept(3);

  await pass();
  await pass();
  expect(await world.outboxLength()).toBe(3);
  await waitFor('the entries to go', async () => {
    await pass();
    return (await world.outboxLength()) === 0;
  });

  expect(await world.outboxLength()).toBe(0);
  expect((await world.storedOrders()).size).toBe(3);
});

test('entries that were left are handled before new ones', async () => {
  const world = await openWorld({ slots: 1 });
  const { orders } = world.stores;
  let isAway = true;
  const stored: string[] = [];
  const storeOrders: typeof orders.storeOrders = async (...args) => {
    if (isAway) throw AWAY;
    stored.push(...args[0].map(({ orderNo }) => orderNo));
    return orders.storeOrders(...args);
  };
  const { pass, follower } = await openFollower(world, {
    engine: { start: () => Promise.reject(AWAY) },
    orders: { ...orders, storeOrders },
  });
  const left = await world.accept(2);
  // The first pass looks for leftovers, the second reads and leaves these.
  await pass();
  await pass();
  const later = await world.accept(2);
  isAway = false;
  // A look at new entries ends when those that were left are due again.
  follower.restart();

  await waitFor('all to be stored', async () => {
    await pass();
    return stored.length === 4;
  });

  expect(new Set(stored.slice(0, 2))).toEqual(new Set(left.map(({ orderNo }) => orderNo)));
  expect(new Set(stored.slice(2))).toEqual(new Set(later.map(({ orderNo }) => orderNo)));
});

test('entries that a dead relay had read are taken over', async () => {
  const world = await openWorld();
  const dead = await world.outbox('dead');
  await dead.readNew(1, 1);
  const orders = await world.accept(2);
  const read = await dead.readNew(10, 1);
  expect(read).toHaveLength(2);
  await ageRelay(world.stores.redis, world.saleId);
  const { pass, started } = await openFollower(world);

  await pass();

  expect(started.toSorted()).toEqual(orders.map(({ orderNo }) => orderNo).toSorted());
  expect(await world.outboxLength()).toBe(0);
});

test('entries that a living relay has in hand are left to it', async () => {
  const world = await openWorld();
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
  const world = await openWorld();
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
  ['a key that is no hash', (saleId: string) => `${saleId}-0-1-01JD0000000000000000000001`],
])('an outbox entry that names %s is parked, and holds up no other', async (_, nameIn) => {
  const world = await openWorld();
  const { redis, pool } = world.stores;
  const name = nameIn(world.saleId);
  if (name.endsWith('1')) await redis.set(`holdfast:{${world.saleId}.0}:order:${name}`, 'no hash');
  await redis.xadd(`holdfast:{${world.saleId}.0}:outbox`, '*', 'order_no', name);
  const [order] = await world.accept(1);
  const { pass, started } = await openFollower(world);

  await pass();
  await pass();

  expect(started).toEqual([order?.orderNo]);
  expect(await world.outboxLength()).toBe(0);
  const sql = 'SELECT kind, INSTR(reason, ?) > 0 AS named FROM parked WHERE reference LIKE ?';
  const [parked] = await pool.query(sql, [name, `${world.saleId}.0/%`]);
  expect(parked).toEqual([{ kind: 'outbox_entry', named: 1 }]);
});

test('entries of two sales with the same id are parked as two, each with its sale and order', async () => {
  const world = await openWorld();
  const { stores } = world;
  const other = await stores.openSale(buildSale());
  const blocking = await stores.connectBlocking();
  onTestFinished(() => blocking.disconnect());
  for (const saleId of [world.saleId, other.saleId]) {
    await stores.redis.xadd(`holdfast:{${saleId}.0}:outbox`, '1-1', 'order_no', `of ${saleId}`);
    const outbox = createOutbox(stores.redis, blocking, { saleId, shard: 0 }, 'relay-1');
    const { pass } = await openFollower(world, { outbox });
    await pass();
    await pass();
  }

  const parked = await stores.parkedWork.list({ limit: 1_000 });
  const ours = parked.filter(({ reference }) => reference.endsWith('/1-1'));
  expect(ours.map(({ reference, cause, inputs }) => ({ reference, cause, inputs }))).toEqual(
    [world.saleId, other.saleId].map((saleId) => ({
      reference: `${saleId}.0/1-1`,
      cause: 'outbox_entry_unreadable',
      inputs: { orderNo: `of ${saleId}` },
    })),
  );
});

test('an order that is refused, while the engine has no room, keeps no other order waiting', async () => {
  const world = await openWorld({ slots: 1 });
  await world.stores.budget.acquire(['another-order']);
  const { pass } = await openFollower(world);
  const [refused] = await world.accept(1);
  // There are no units: storing ahead returns "stock exhausted".
  await world.stores.pool.query('UPDATE skus SET total = 0 WHERE sale_id = ?', [world.saleId]);
  await pass();
  await pass();
  await world.stores.pool.query('UPDATE skus SET total = 1000 WHERE sale_id = ?', [world.saleId]);
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

test('more leftovers than one read shows are all read', async () => {
  const world = await openWorld({ slots: 1 });
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

test('an order that has ended is not started again when its entry comes again, and its slot is free', async () => {
  const world = await openWorld();
  const { orders, reservations, budget } = world.stores;
  const { pass, started } = await openFollower(world);
  const [order] = await world.accept(1);
  const abandoned = order && (await orders.abandon(order, 'store_unavailable'));

  await pass();
  await pass();

  expect(started).toEqual([]);
  expect(await budget.room()).toBe(50);
  expect(await world.outboxLength()).toBe(0);
  expect((await orders.read(order?.orderNo ?? ''))?.state).toEqual(abandoned?.state);
  expect((await reservations.readOrder(order?.orderNo ?? ''))?.state).toEqual(abandoned?.state);
});

/** An order that Redis has as paid, and MySQL does not know. */
async function openLostPaid() {
  const world = await openWorld();
  const [order] = await world.accept(1);
  if (!order) throw new Error('no order');
  const paid = { status: 'paid', version: 3, payment: 'applied', reason: null } as const;
  await world.stores.reservations.project(order.orderNo, paid);
  return { world, order };
}

test('a paid order that MySQL has lost and refuses is left to an operator, and keeps its stock', async () => {
  const { world, order } = await openLostPaid();
  const { pool, saleStock, budget } = world.stores;
  await pool.query('UPDATE sales SET epoch = 2 WHERE sale_id = ?', [world.saleId]);
  const { pass, started } = await openFollower(world);

  await pass();
  await pass();

  expect(started).toEqual([]);
  expect(await budget.room()).toBe(50);
  expect(await world.outboxLength()).toBe(0);
  const sql = 'SELECT kind, INSTR(reason, ?) > 0 AS named FROM parked WHERE reference LIKE ?';
  const [parked] = await pool.query(sql, [order.orderNo, `${world.saleId}.0/%`]);
  expect(parked).toEqual([{ kind: 'outbox_entry', named: 1 }]);
  expect((await saleStock.read(world.saleId))?.skus[0]).toMatchObject({ held: 1 });
});

test('while MySQL is away a paid order that it has lost waits in the outbox', async () => {
  const { world } = await openLostPaid();
  const { orders, budget } = world.stores;
  const storeOrders = () => Promise.reject(Object.assign(new Error('away'), { code: 'ECONNREFUSED' }));
  const { pass, started } = await openFollower(world, { orders: { ...orders, storeOrders } });

  await pass();
  await pass();

  expect(started).toEqual([]);
  expect(await budget.room()).toBe(50);
  expect(await world.outboxLength()).toBe(1);
});

/** An engine that takes calls and never answers, as a frozen Temporal. */
const frozen = { start: () => new Promise<void>(() => {}) };

test('orders whose start gets no answer are stored ahead, and those after them do not wait for it', async () => {
  const world = await openWorld();
  const { follower } = await openFollower(world, { engine: frozen });
  const { reservations } = world.stores;
  const orders = await world.accept(3);
  await follower.pass();

  await follower.pass();
  await waitFor('the first to be stored', async () => (await world.storedOrders()).size === 3);
  const later = await world.accept(2);
  await follower.pass();
  await waitFor('the others to be stored', async () => (await world.storedOrders()).size === 5);

  await waitFor('all to leave the outbox', async () => (await world.outboxLength()) === 0);
  for (const { orderNo } of [...orders, ...later])
    expect((await reservations.readOrder(orderNo))?.state.status).toBe('awaiting_payment');
});

test('in a burst all orders are stored ahead and none is started', async () => {
  const world = await openWorld();
  const burst = createBurst();
  burst.note(world.saleId, BURST_ORDERS);
  const { pass, started } = await openFollower(world, { burst });
  const orders = await world.accept(3);

  await pass();
  await pass();

  expect(started).toEqual([]);
  expect([...(await world.storedOrders()).keys()].toSorted()).toEqual(
    orders.map(({ orderNo }) => orderNo).toSorted(),
  );
  expect(await world.outboxLength()).toBe(0);
});

test('while MySQL is away in a burst, the engine takes what it has room for', async () => {
  const world = await openWorld();
  const burst = createBurst();
  burst.note(world.saleId, BURST_ORDERS);
  const { orders } = world.stores;
  const storeOrders = () => Promise.reject(Object.assign(new Error('away'), { code: 'ECONNREFUSED' }));
  const { pass, started } = await openFollower(world, { burst, orders: { ...orders, storeOrders } });
  await world.accept(2);

  await waitFor('the entries to go', async () => {
    await pass();
    return (await world.outboxLength()) === 0;
  });

  expect(started).toHaveLength(2);
});

test('a page that is under way is not handled again when entries of another page are repeated', async () => {
  const world = await openWorld({ slots: 1 });
  await world.stores.budget.acquire(['another-order']);
  const { orders } = world.stores;
  const stored: string[][] = [];
  let goOn = (): void => {};
  const held = new Promise<void>((resolve) => (goOn = resolve));
  const storeOrders: typeof orders.storeOrders = async (batch, presence) => {
    stored.push(batch.map(({ orderNo }) => orderNo));
    if (stored.length === 1) await held;
    if (stored.length === 2) throw new Error('died here');
    return orders.storeOrders(batch, presence);
  };
  const { follower } = await openFollower(world, { orders: { ...orders, storeOrders } });
  await follower.pass();
  const first = await world.accept(2);
  await follower.pass();
  const [second] = await world.accept(1);
  await follower.pass();

  await waitFor('the second page to be repeated', async () => {
    await follower.pass();
    return stored.length === 3;
  });
  goOn();
  await follower.drain();

  const numbers = first.map(({ orderNo }) => orderNo).toSorted();
  expect(stored.map((batch) => batch.toSorted())).toEqual([numbers, [second?.orderNo], [second?.orderNo]]);
  expect((await world.storedOrders()).size).toBe(3);
  expect(await world.outboxLength()).toBe(0);
});

test('an order that comes from the outbox after a third of its window is stored, and not started', async () => {
  const world = await openWorld();
  const { stores } = world;
  await stores.pool.query('DELETE FROM orders');
  const { pass, started } = await openFollower(world);
  await pass();
  const [late, inTime] = await world.accept(2);
  if (!late || !inTime) throw new Error('two orders');
  const reservedAtMs = late.reservedAtMs - late.paymentWindowMs / 2;
  await stores.redis.hset(orderKeys(late.orderNo).order, 'reserved_at', reservedAtMs);

  await pass();

  expect(started).toEqual([inTime.orderNo]);
  expect(await world.storedOrders()).toEqual(
    new Map([
      [late.orderNo, false],
      [inTime.orderNo, true],
    ]),
  );
  expect(await stores.orderClaims.take(10)).toEqual([]);
  expect(await stores.budget.room()).toBe(49);
});

test('while MySQL is away, an order past a third of its window waits in the outbox, and others are started', async () => {
  const world = await openWorld();
  const { stores } = world;
  const storeOrders = () => Promise.reject(new Error('no MySQL'));
  const { pass, started } = await openFollower(world, { orders: { ...stores.orders, storeOrders } });
  await pass();
  const [late, inTime] = await world.accept(2);
  if (!late || !inTime) throw new Error('two orders');
  const reservedAtMs = late.reservedAtMs - late.paymentWindowMs / 2;
  await stores.redis.hset(orderKeys(late.orderNo).order, 'reserved_at', reservedAtMs);

  await pass();

  expect(started).toEqual([inTime.orderNo]);
  expect(await world.outboxLength()).toBe(1);
  expect(await stores.budget.room()).toBe(49);
});

test('a page that never ends is seen as a hang', async () => {
  const world = await openWorld();
  const { orders } = world.stores;
  const watch = createLoopWatch(undefined, 50);
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => (release = resolve));
  const storeOrders: typeof orders.storeOrders = async (...args) => {
    await gate;
    return orders.storeOrders(...args);
  };
  const { follower, pass } = await openFollower(world, { orders: { ...orders, storeOrders }, watch });
  await world.accept(1);
  await pass();
  await follower.pass();
  await waitFor('the hang', () => watch.hanging().includes('outbox page'));
  release();
  await follower.drain();
  expect(watch.hanging()).toEqual([]);
  expect(await world.outboxLength()).toBe(0);
});

test('a free order that could not be confirmed is, before its entry goes, and needs no workflow', async () => {
  const world = await openWorld();
  const { saleId } = await world.stores.openSale(buildSale({ skus: FREE }));
  const blocking = await world.stores.connectBlocking();
  onTestFinished(() => blocking.disconnect());
  const outbox = createOutbox(world.stores.redis, blocking, { saleId, shard: 0 }, 'relay-1');
  const { reservations } = world.stores;
  let failures = 0;
  const confirm: typeof reservations.confirm = async (orderNo) => {
    if ((failures += 1) > 1) return reservations.confirm(orderNo);
    throw new Error('died here');
  };
  const { pass } = await openFollower(world, {
    outbox,
    // Else its workflow would confirm it.
    engine: { start: () => Promise.reject(AWAY) },
    reservations: { ...reservations, confirm },
  });
  const { orderNo } = await acceptOrder(world.stores, saleId);
  const left = () => world.stores.redis.xlen(saleKeys({ saleId, shard: 0 }).outbox);
  const holdOf = () => world.stores.redis.hget(orderKeys(orderNo).order, 'hold');

  await waitFor('the confirmation that fails', async () => {
    await pass();
    return failures === 1;
  });
  expect([await left(), await holdOf()]).toEqual([1, 'held']);
  expect((await world.stores.orders.read(orderNo))?.state.status).toBe('paid');
  await waitFor('the entry to go', async () => {
    await pass();
    return (await left()) === 0;
  });

  expect(await holdOf()).toBe('sold');
});

test.each(['before', 'while'])(
  'an order that its caller wants cancelled is stored as closing where the wish came %s it was, and then started',
  async (when) => {
    const world = await openWorld();
    const { stores } = world;
    const wish = (orderNo: string) => stores.reservations.wishCancel(orderNo, 'wait_timeout');
    const storeOrders: typeof stores.orders.storeOrders = async (batch, presence) => {
      const outcomes = await stores.orders.storeOrders(batch, presence);
      if (when === 'while') for (const { orderNo } of batch) expect(await wish(orderNo)).toBe('wished');
      return outcomes;
    };
    const states: unknown[] = [];
    const engine = { start: async (_: unknown, state?: OrderState) => void states.push(state) };
    const { pass } = await openFollower(world, { orders: { ...stores.orders, storeOrders }, engine });
    const [order] = await world.accept(1);
    if (when === 'before') await wish(order?.orderNo ?? '');

    await pass();
    await pass();

    const closing = { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'wait_timeout' };
    expect((await stores.orders.read(order?.orderNo ?? ''))?.state).toEqual(closing);
    expect((await stores.reservations.readOrder(order?.orderNo ?? ''))?.state).toEqual(closing);
    expect(states).toEqual([closing]);
    expect(await world.outboxLength()).toBe(0);
  },
);
