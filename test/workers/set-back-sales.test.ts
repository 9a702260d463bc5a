/** MySQL is set back by commits that it has lost, beside a Redis that has decided later changes of a sale. */

import pLimit from 'p-limit';
import { beforeAll, expect, test } from 'vitest';
import { createActivities } from '../../src/activities/index.ts';
import { changeSale } from '../../src/api/calls/sales.ts';
import { OUTBOX_PAGE } from '../../src/limits.ts';
import { createCaughtUpOrders } from '../../src/orders/caught-up-orders.ts';
import type { Order } from '../../src/orders/content.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { createEngineBudget } from '../../src/redis/budget.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { createOutbox } from '../../src/redis/outbox.ts';
import type { Ask } from '../../src/sales/changes.sql.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { createBurst, createOutboxFollower } from '../../src/workers/outbox-follower.ts';
import { createSaleKeeper } from '../../src/workers/sale-keeper.ts';
import { createEngineGate } from '../../src/workers/starter.ts';
import { noProvider } from '../activities/stage.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

const TABLES = ['sales', 'skus', 'sale_changes'];
const GRACE = { actor: 'grace', reason: null };

let stores: TestStores;
let look: () => Promise<number>;
beforeAll(async () => {
  stores = await openTestStores();
  look = createSaleKeeper({ ...stores, log: silent });
});

/** A sale that is on, and a way to set MySQL back to what it has of the sale at some moment. */
async function openStage() {
  const sale = await stores.openSale(buildSale());
  const { saleId } = sale;
  return {
    sale,
    saleId,
    act: (action: 'pause' | 'resume' | 'close') =>
      changeSale({ ...stores, log: silent }, { action, saleId }, GRACE),
    put: (changes: Partial<Sale>) =>
      changeSale({ ...stores, log: silent }, putOf({ ...sale, ...changes }), GRACE),
    async backUp(): Promise<() => Promise<void>> {
      const ofSale = (table: string) =>
        select(stores.pool, `SELECT * FROM ${table} WHERE sale_id = ?`, [saleId]);
      const rows = new Map(
        await Promise.all(TABLES.map(async (table) => [table, await ofSale(table)] as const)),
      );
      return async () => {
        for (const [table, former] of rows) {
          await stores.pool.query(`DELETE FROM ${table} WHERE sale_id = ?`, [saleId]);
          for (const row of former)
            await stores.pool.query(`INSERT INTO ${table} (${Object.keys(row).join(', ')}) VALUES (?)`, [
              Object.values(row),
            ]);
        }
      };
    },
    inMysql: () => stores.sales.read(saleId),
    inRedis: () => stores.saleStock.read(saleId),
    /** Whether the comparison of the stores finds them at the same change, as it must to go on. */
    async expectComparable(): Promise<void> {
      const seen = await stores.saleMends.look(saleId, []);
      if (seen.kind !== 'looked') throw new Error(seen.kind);
      const query = { atMs: seen.atMs, users: [] };
      const books = await stores.saleBooks.read(saleId, query, async (read) => read);
      expect(books).toMatchObject({ changeNo: seen.changeNo, isChanging: false });
    },
  };
}

const putOf = (sale: Sale): Ask => ({
  action: 'put',
  sale,
  isDraft: false,
  ifMatch: undefined,
  isNew: false,
});

const withLamps = (sale: Sale, total: number): Partial<Sale> => ({
  skus: sale.skus.map((item) => (item.sku === 'lamp' ? { ...item, total } : item)),
});

async function record(ask: Ask) {
  const recorded = await stores.saleChanges.record(ask, GRACE);
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  return recorded.change;
}

test('a pause under the number of a lost change is made, and the lost change stands', async () => {
  const { sale, put, act, backUp, inMysql, inRedis, expectComparable } = await openStage();
  const setBack = await backUp();
  await put(withLamps(sale, 20));
  await setBack();
  expect(await act('pause')).toEqual({ kind: 'changed' });
  expect(await inRedis()).toMatchObject({ paused: true, skus: [{ total: 20, available: 20 }, {}] });
  expect((await inMysql())?.sale).toMatchObject({ paused: true, skus: [{ total: 20 }, {}] });
  await expectComparable();
});

test('after two lost changes the next one is decided, and what was sold meanwhile is covered', async () => {
  const { sale, saleId, put, act, backUp, expectComparable } = await openStage();
  const setBack = await backUp();
  await put(withLamps(sale, 20));
  await put({ ...withLamps(sale, 20), name: 'Lost' });
  const items = [{ sku: 'lamp', quantity: 2 }];
  const orders = [];
  for (let i = 0; i < 6; i += 1) orders.push(await acceptOrder(stores, saleId, { userId: `u${i}`, items }));
  await setBack();
  expect(await act('pause')).toEqual({ kind: 'changed' });
  const outcomes = await stores.orders.storeOrders(orders, 'due');
  expect([...outcomes.values()].map(({ kind }) => kind)).toEqual(orders.map(() => 'stored'));
  await expectStock(stores, saleId, { sku: 'lamp', available: 8, held: 12, sold: 0 });
  await expectComparable();
});

test('a lost change is taken over from Redis by the keeper, recorded and announced', async () => {
  const { saleId, act, backUp, inMysql, inRedis, expectComparable } = await openStage();
  const setBack = await backUp();
  await act('pause');
  await setBack();
  await look();
  expect((await inMysql())?.sale.paused).toBe(true);
  expect((await inRedis())?.paused).toBe(true);
  await expectComparable();
  const noted = `SELECT actor, reason FROM audit_log WHERE subject = ? AND action = 'sale_changed' ORDER BY entry_id`;
  expect((await select(stores.pool, noted, [`sale ${saleId}`])).at(-1)).toEqual({
    actor: 'holdfast',
    reason: 'MySQL had lost changes that Redis has made',
  });
  await look();
  expect((await inMysql())?.version).toBe(2);
});

test('a lost close is final', async () => {
  const { sale, put, act, backUp, inMysql, inRedis } = await openStage();
  const setBack = await backUp();
  await act('close');
  await setBack();
  expect(await put({ closesAtMs: sale.closesAtMs + 60_000 })).toEqual({ kind: 'ended' });
  expect((await inRedis())?.state).toBe('closed');
  expect((await inMysql())?.sale.closesAtMs).toBe((await inRedis())?.closesAtMs);
});

test('a change that was pending before MySQL was set back undoes no later one', async () => {
  const { saleId, act, backUp, inMysql, inRedis, expectComparable } = await openStage();
  await act('pause');
  const pending = await record({ action: 'resume', saleId });
  const setBack = await backUp();
  await stores.saleChanges.complete(pending, stores.saleStock);
  await act('pause');
  await setBack();
  await look();
  expect((await inMysql())?.isChanging).toBe(false);
  expect((await inRedis())?.paused).toBe(true);
  expect((await inMysql())?.sale.paused).toBe(true);
  await expectComparable();
  // Its process thaws.
  await stores.saleChanges.complete(pending, stores.saleStock);
  expect((await inMysql())?.sale.paused).toBe(true);
});

test('a process that was frozen with a lost change settles no other of the same number', async () => {
  const { saleId, sale, backUp, inMysql, inRedis } = await openStage();
  const setBack = await backUp();
  const lost = await record(putOf({ ...sale, name: 'Lost' }));
  await setBack();
  const next = await record({ action: 'pause', saleId });
  expect(next.changeNo).toBe(lost.changeNo);
  // Redis decides the lost one, whose process lives on.
  await stores.saleChanges.complete(lost, stores.saleStock);
  expect(await stores.saleChanges.complete(next, stores.saleStock)).toEqual({ kind: 'withdrawn' });
  await look();
  const [mysql, redis] = [(await inMysql())?.sale, await inRedis()];
  expect([mysql?.name, mysql?.paused]).toEqual([redis?.name, redis?.paused]);
  expect((await inMysql())?.isChanging).toBe(false);
});

test('a sale whose warm-up MySQL has lost gets no full stock again', async () => {
  const sale = buildSale();
  const { saleId } = sale;
  await stores.sales.create(sale);
  const before = await select(stores.pool, 'SELECT * FROM sales WHERE sale_id = ?', [saleId]);
  await stores.sales.warmUp(saleId, stores.saleStock);
  await acceptOrder(stores, saleId);
  await stores.pool.query('DELETE FROM sales WHERE sale_id = ?', [saleId]);
  await stores.pool.query('DELETE FROM sale_changes WHERE sale_id = ?', [saleId]);
  for (const row of before)
    await stores.pool.query(`INSERT INTO sales (${Object.keys(row).join(', ')}) VALUES (?)`, [
      Object.values(row),
    ]);
  await look();
  await look();
  expect(await stores.sales.read(saleId)).toMatchObject({ isWarm: true, isChanging: false });
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ total: 10, available: 9, held: 1 });
});

test('a rebuild takes lost changes over before it makes the sale again from MySQL', async () => {
  const { saleId, act, backUp, inMysql, inRedis } = await openStage();
  const setBack = await backUp();
  await act('pause');
  await setBack();
  await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'unfinished' });
  expect((await inMysql())?.sale.paused).toBe(true);
  expect((await inRedis())?.paused).toBe(true);
});

/** So many that all orders of a test may be started at once. */
const SLOTS = 500;

/** Sells nine pairs of ten lamps that became twenty, and a new SKU, and sets MySQL back before both. */
async function sellWhatMysqlLost() {
  const stage = await openStage();
  const { sale, saleId, put, backUp } = stage;
  const setBack = await backUp();
  await put(withLamps(sale, 20));
  const tent = { sku: 'tent', name: 'Tent', unitPrice: 9_900, total: 4, limitPerUser: null };
  await put({ skus: [...(withLamps(sale, 20).skus ?? []), tent] });
  const pairOf = (sku: string, userId: string) =>
    acceptOrder(stores, saleId, { userId, items: [{ sku, quantity: 2 }] });
  const orders: Order[] = [];
  for (let i = 0; i < 9; i += 1) orders.push(await pairOf('lamp', `lamp-${i}`));
  for (let i = 0; i < 2; i += 1) orders.push(await pairOf('tent', `tent-${i}`));
  await setBack();
  return {
    ...stage,
    orders,
    statuses: () =>
      Promise.all(orders.map(async ({ orderNo }) => (await stores.orders.read(orderNo))?.state.status)),
    async expectAllHeld(): Promise<void> {
      await expectStock(stores, saleId, { sku: 'lamp', available: 2, held: 18, sold: 0 });
      await expectStock(stores, saleId, { sku: 'tent', available: 0, held: 4, sold: 0 });
      await stage.expectComparable();
    },
  };
}

test('a relay that comes before the keeper stores what was sold of a raise and of a SKU that MySQL has lost', async () => {
  const { saleId, orders, statuses, expectAllHeld } = await sellWhatMysqlLost();
  const blocking = await stores.connectBlocking();
  const started: string[] = [];
  const follower = createOutboxFollower({
    ...stores,
    outbox: createOutbox(stores.redis, blocking, { saleId, shard: 0 }, 'relay-1'),
    engine: { start: async ({ orderNo }, state) => void started.push(`${orderNo} ${state?.status}`) },
    gate: createEngineGate(createEngineBudget(stores.redis, SLOTS, silent), silent),
    saleId,
    burst: createBurst(),
    living: { list: () => undefined },
    outboxPage: OUTBOX_PAGE,
    storesAtOnce: 2,
    storing: pLimit(2),
    stopping: new AbortController().signal,
    log: silent,
  });
  // The first pass looks for leftovers.
  for (let i = 0; i < 2; i += 1) {
    await follower.pass();
    await follower.drain();
  }
  blocking.disconnect();
  expect(await statuses()).toEqual(orders.map(() => 'awaiting_payment'));
  // None is left to a workflow that would have to store it.
  expect(started.toSorted()).toEqual(orders.map(({ orderNo }) => `${orderNo} awaiting_payment`).toSorted());
  await expectAllHeld();
});

test('workflows that come before the keeper store what was sold of a raise and of a SKU that MySQL has lost', async () => {
  const { orders, expectAllHeld } = await sellWhatMysqlLost();
  const { persistOrder } = createActivities({ ...stores, provider: noProvider });
  const outcomes = await Promise.allSettled(orders.map((order) => persistOrder({ order })));
  expect(outcomes).toMatchObject(
    orders.map(() => ({ status: 'fulfilled', value: { status: 'awaiting_payment' } })),
  );
  await expectAllHeld();
});

test('while Redis is away such an order is neither refused nor stored, and is stored afterwards', async () => {
  const { orders, expectAllHeld } = await sellWhatMysqlLost();
  const readDecided = () => Promise.reject(new Error('Redis is away'));
  const decided = { ...stores, saleStock: { readDecided }, log: silent };
  const cutOff = createCaughtUpOrders(mysqlStores(stores.pool).orders, decided);
  await expect(cutOff.storeOrders(orders, 'due')).rejects.toThrow('Redis is away');
  const tents = orders.slice(-2);
  for (const order of tents) {
    await expect(cutOff.storeOrder(order, 'due')).rejects.toThrow('Redis is away');
    expect(await stores.orders.read(order.orderNo)).toBeUndefined();
  }
  await stores.orders.storeOrders(orders, 'due');
  await expectAllHeld();
});

test('nothing is taken over from a Redis that has another epoch of the sale', async () => {
  const { saleId, orders, inMysql } = await sellWhatMysqlLost();
  await stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'epoch', '2');
  const outcomes = await stores.orders.storeOrders(orders, 'due');
  const refused = [...outcomes.values()].flatMap((end) => (end.kind === 'refused' ? [end.reason] : []));
  expect(refused.toSorted()).toEqual([
    ...Array.from({ length: 4 }, () => 'stock_exhausted'),
    'unknown_sku',
    'unknown_sku',
  ]);
  expect((await inMysql())?.sale.skus).toHaveLength(2);
});
