/** The watch over a sale's data in Redis: what it notices, and that it makes them again by itself. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { changeSale } from '../../src/api/calls/sales.ts';
import { follow } from '../../src/orders/follow.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { createLoopWatch } from '../../src/workers/loop.ts';
import { runRedisWatch, type RedisWatchDeps } from '../../src/workers/redis-watch.ts';
import { createSaleKeeper } from '../../src/workers/sale-keeper.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

function startWatch(parts: Partial<RedisWatchDeps> = {}): void {
  const stopping = new AbortController();
  const watch = runRedisWatch({ ...stores, log: silent, ...parts }, stopping.signal);
  onTestFinished(() => {
    stopping.abort();
    return watch;
  });
}

const DECISION = { actor: 'grace', reason: null };

const isKey = (key: unknown): key is string => typeof key === 'string';

const keysOf = (saleId: string) => saleKeys({ saleId, shard: 0 });
const saleKey = (saleId: string) => keysOf(saleId).sale;

/** A key of another type than its own. */
async function damage(key: string): Promise<void> {
  await stores.redis.del(key);
  await stores.redis.set(key, 'damaged');
}

async function openSale(): Promise<string> {
  return (await stores.openSale(buildSale())).saleId;
}

/** Waits until the sale is well under this epoch, and returns why. */
async function rebuilt(saleId: string, epoch: number): Promise<unknown> {
  await waitFor(`${saleId} to be made again`, async () => {
    const life = await stores.saleStock.checkLife(saleId);
    const isDone = (await stores.saleEpochs.listWatched()).some(
      (sale) => sale.saleId === saleId && !sale.isRebuilding,
    );
    return isDone && life.kind === 'well' && life.epoch === epoch;
  });
  const rows = await select(stores.pool, 'SELECT actor, reason FROM audit_log WHERE subject = ?', [
    `sale ${saleId}`,
  ]);
  return rows;
}

test.each<[string, string, (saleId: string) => Promise<unknown>]>([
  ['is gone', 'lost', (saleId) => stores.redis.del(saleKey(saleId))],
  ['is something else', 'lost', (saleId) => damage(saleKey(saleId))],
  ['has stock that is something else', 'damaged', (saleId) => damage(keysOf(saleId).stock)],
  ['has an outbox that is something else', 'damaged', (saleId) => damage(keysOf(saleId).outbox)],
  [
    'was made on another server',
    'replaced',
    (saleId) => stores.redis.hset(saleKey(saleId), 'run_id', 'another'),
  ],
  ['was suspended by a process that died', 'unfinished', (saleId) => stores.saleRebuild.suspend(saleId)],
  [
    'has an epoch that MySQL does not have',
    'epochs_differ',
    (saleId) => stores.pool.query('UPDATE sales SET epoch = 5 WHERE sale_id = ?', [saleId]),
  ],
])('a sale that %s is made again', async (_, reason, harm) => {
  const saleId = await openSale();
  await harm(saleId);
  startWatch();
  expect(await rebuilt(saleId, reason === 'epochs_differ' ? 6 : 2)).toEqual([{ actor: 'holdfast', reason }]);
});

/** It ended four days ago with an order that was never ended. */
async function openLongOver(): Promise<{ saleId: string; orderNo: string }> {
  const saleId = await openSale();
  const order = await acceptOrder(stores, saleId);
  await stores.orders.storeOrder(order, 'started');
  await stores.redis.xtrim(saleKeys({ saleId, shard: 0 }).outbox, 'MAXLEN', 0);
  const sql = 'UPDATE sales SET closes_at = NOW(3) - INTERVAL 4 DAY WHERE sale_id = ?';
  await stores.pool.query(sql, [saleId]);
  return { saleId, orderNo: order.orderNo };
}

test.each<[string, (saleId: string) => Promise<unknown>]>([
  ['lost with all the others', () => stores.redis.flushall()],
  ['lost', (saleId) => stores.redis.del(...Object.values(saleKeys({ saleId, shard: 0 })).filter(isKey))],
  ['made on another server', (saleId) => stores.redis.hset(saleKey(saleId), 'run_id', 'another')],
])('a sale whose data were %s days after its end is settled once its last order ends', async (_, harm) => {
  const { saleId, orderNo } = await openLongOver();
  await harm(saleId);
  startWatch();
  const pass = createSaleKeeper({ ...stores, log: silent });
  await pass();
  expect(await stores.saleChanges.archive(saleId, DECISION)).toBe('not-settled');

  const { state } = await stores.orders.cancel(orderNo, 'operator_request', { force: true });
  await waitFor('its hold to end', async () => {
    return (await follow(stores, [{ orderNo, state }])).get(orderNo)?.hold === 'settled';
  });
  await waitFor('the sale to be settled', async () => {
    await pass();
    return (await stores.saleChanges.archive(saleId, DECISION)) === 'archived';
  });

  // From now on its data are kept no longer than those of others.
  expect(await stores.sales.isWatched(saleId)).toBe(false);
});

test('a rebuild that died before it reached Redis is done again', async () => {
  const saleId = await openSale();
  await stores.pool.query('UPDATE sales SET rebuilding_since = NOW(3), epoch = 2 WHERE sale_id = ?', [
    saleId,
  ]);
  startWatch();
  expect(await rebuilt(saleId, 3)).toEqual([{ actor: 'holdfast', reason: 'unfinished' }]);
});

test('one sale that cannot be made again delays no other', async () => {
  const [stuck, other] = [await openSale(), await openSale()];
  for (const saleId of [stuck, other]) await stores.redis.del(saleKey(saleId));
  const begin: TestStores['saleRebuild']['begin'] = async (saleId, epoch) => {
    if (saleId === stuck) throw new Error('cannot be made');
    return stores.saleRebuild.begin(saleId, epoch);
  };
  startWatch({ saleRebuild: { ...stores.saleRebuild, begin } });
  await rebuilt(other, 2);
  expect((await stores.saleStock.checkLife(stuck)).kind).toBe('sale-absent');
});

test('a sale that is well, settled and long over or never was in Redis is left alone', async () => {
  const [well, over] = [await openSale(), await openSale()];
  const cold = buildSale();
  await stores.sales.create(cold);
  await stores.pool.query(
    `UPDATE sales SET opens_at = NOW(3) - INTERVAL 9 DAY, closes_at = NOW(3) - INTERVAL 8 DAY, settled_at = NOW(3)
     WHERE sale_id = ?`,
    [over],
  );
  await stores.redis.del(saleKey(over));
  const marker = await openSale();
  await stores.redis.del(saleKey(marker));
  startWatch();
  await rebuilt(marker, 2);
  expect(await stores.saleStock.checkLife(well)).toEqual({ kind: 'well', epoch: 1 });
  for (const saleId of [over, cold.saleId])
    expect((await stores.saleStock.checkLife(saleId)).kind).toBe('sale-absent');
});

test('a sale whose stock is lost is made again before a change of it, and what is held stays held', async () => {
  const sale = await stores.openSale(buildSale());
  const { saleId } = sale;
  const order = await acceptOrder(stores, saleId, { items: [{ sku: 'mug', quantity: 4 }] });
  await stores.orders.storeOrder(order, 'due');
  const { outbox, stock } = saleKeys({ saleId, shard: 0 });
  // A rebuild waits for what is in the outbox.
  await stores.redis.xtrim(outbox, 'MAXLEN', 0);
  await stores.redis.del(stock);
  const ask = {
    action: 'put',
    sale: { ...sale, name: 'Other' },
    isDraft: false,
    ifMatch: undefined,
    isNew: false,
  };
  const decision = { actor: 'grace', reason: null };
  const put = () => changeSale({ ...stores, log: silent }, { ...ask, action: 'put' }, decision);
  expect(await put()).toMatchObject({ kind: 'pending', detail: expect.stringContaining('will be made') });
  startWatch();
  await rebuilt(saleId, 2);
  expect(await put()).toEqual({ kind: 'unchanged' });
  expect(await stores.saleStock.read(saleId)).toMatchObject({
    name: 'Other',
    skus: [{ available: 10 }, { total: 5, available: 1, held: 4 }],
  });
});

test('a rebuild that never ends is seen as a hang', async () => {
  const saleId = await openSale();
  const watch = createLoopWatch(undefined, 50);
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => (release = resolve));
  const { saleRebuild } = stores;
  const suspend: typeof saleRebuild.suspend = async (...args) => {
    await gate;
    return saleRebuild.suspend(...args);
  };
  startWatch({ saleRebuild: { ...saleRebuild, suspend }, watch });
  await stores.redis.del(saleKey(saleId));
  await waitFor('the hang', () => watch.hanging().includes('rebuild'));
  release();
  await rebuilt(saleId, 2);
  await waitFor('its end', () => watch.hanging().length === 0);
});
