/** Every reply of `waiting`, `requeue` and `drop-deadline`, and what each leaves behind. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { orderKeys } from '../../src/redis/keys.ts';
import { createOutbox, type Outbox } from '../../src/redis/outbox.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callConfirm,
  callDropDeadline,
  callGiveBack,
  callRelease,
  callRequeue,
  callReserve,
  callReserveAgain,
  callWaiting,
  newOrderNo,
  expectUnchanged,
} from './raw-scripts.ts';

let stores: TestStores;
let blocking: Awaited<ReturnType<TestStores['connectBlocking']>>;
beforeAll(async () => {
  stores = await openTestStores();
  blocking = await stores.connectBlocking();
});
afterAll(async () => {
  blocking.disconnect();
  await stores.close();
});

/** The reply, with the proof that it wrote nothing. */
const unchanged = <T>(saleId: string, call: () => Promise<T>) => expectUnchanged(stores.redis, saleId, call);

interface Stage {
  saleId: string;
  orderNo: string;
  /** The order's entry, as its hash names it. */
  entry: string;
  outbox: Outbox;
}

async function hold(accept: typeof callReserve = callReserve): Promise<Stage> {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId);
  await accept(stores.redis, call);
  const entry = String(await stores.redis.hget(orderKeys(call.orderNo).order, 'entry'));
  const outbox = createOutbox(stores.redis, blocking, { saleId, shard: 0 }, 'relay-1');
  return { saleId, orderNo: call.orderNo, entry, outbox };
}

const waiting = (orderNo: string) => callWaiting(stores.redis, orderNo);

test('an entry waits before any relay came, while one has it, and no more when it is acknowledged', async () => {
  const { saleId, orderNo, entry, outbox } = await hold();
  expect(await unchanged(saleId, () => waiting(orderNo))).toEqual(['waits']);
  await outbox.readNew(10, 1);
  expect(await waiting(orderNo)).toEqual(['waits']);
  expect(await outbox.readNew(10, 1)).toEqual([expect.objectContaining({ entryId: entry })]);
  expect(await unchanged(saleId, () => waiting(orderNo))).toEqual(['waits']);
  await outbox.acknowledge([entry]);
  expect(await unchanged(saleId, () => waiting(orderNo))).toEqual(['left']);
});

test('an order that was reserved again names its entry too', async () => {
  const { orderNo } = await hold(callReserveAgain);
  expect(await waiting(orderNo)).toEqual(['waits']);
});

test('an entry that was delivered and belongs to no relay is left', async () => {
  const { orderNo, outbox } = await hold();
  await outbox.readNew(10, 1);
  await outbox.readNew(10, 1);
  await stores.redis.xgroup('DELCONSUMER', orderKeys(orderNo).outbox, 'relay', 'relay-1');
  expect(await waiting(orderNo)).toEqual(['left']);
});

test('an order whose hash names no entry, as one of an older version, is left', async () => {
  const { orderNo } = await hold();
  await stores.redis.hdel(orderKeys(orderNo).order, 'entry');
  expect(await waiting(orderNo)).toEqual(['left']);
});

test('what has ended, was never there and is no order have replies of their own', async () => {
  const { saleId, orderNo } = await hold();
  await callRelease(stores.redis, orderNo);
  expect(await waiting(orderNo)).toEqual(['settled']);
  expect(await waiting(newOrderNo(saleId))).toEqual(['absent']);
  await stores.redis.hdel(orderKeys(orderNo).order, 'hold');
  expect(await waiting(orderNo)).toEqual(['damaged']);
  await stores.redis.set(orderKeys(orderNo).order, 'text');
  expect(await waiting(orderNo)).toEqual(['damaged']);
});

test('a lost order is requeued: a relay reads it, and nothing is left of its old entry', async () => {
  const { orderNo, entry, outbox } = await hold();
  await outbox.readNew(10, 1);
  await outbox.readNew(10, 1);
  await stores.redis.xack(orderKeys(orderNo).outbox, 'relay', entry);
  expect(await callRequeue(stores.redis, orderNo, entry)).toEqual(['requeued']);
  expect(await waiting(orderNo)).toEqual(['waits']);
  expect(await stores.redis.xlen(orderKeys(orderNo).outbox)).toBe(1);
  expect(await outbox.readNew(10, 1)).toMatchObject([{ orderNo }]);
});

test('an order is requeued for the entry that its hash names, and for no other', async () => {
  const { saleId, orderNo, entry } = await hold();
  expect(await unchanged(saleId, () => callRequeue(stores.redis, orderNo, ''))).toEqual(['moved']);
  await stores.redis.hdel(orderKeys(orderNo).order, 'entry');
  expect(await unchanged(saleId, () => callRequeue(stores.redis, orderNo, entry))).toEqual(['moved']);
  expect(await callRequeue(stores.redis, orderNo, '')).toEqual(['requeued']);
});

test('a free order that is sold is requeued', async () => {
  const { saleId, orderNo, entry } = await hold();
  const { order, outbox } = orderKeys(orderNo);
  await stores.redis.hset(order, 'total', 0);
  await callConfirm(stores.redis, orderNo);
  await stores.redis.xdel(outbox, entry);
  expect(await callRequeue(stores.redis, orderNo, entry)).toEqual(['requeued']);
  expect(await stores.redis.xlen(outbox)).toBe(1);
  expect(await unchanged(saleId, () => callRequeue(stores.redis, orderNo, entry))).toEqual(['moved']);
});

test('an order that is not held is not requeued', async () => {
  const { saleId, orderNo, entry } = await hold();
  const requeue = () => unchanged(saleId, () => callRequeue(stores.redis, orderNo, entry));
  await callConfirm(stores.redis, orderNo);
  expect(await requeue()).toEqual(['sold']);
  const lines = [{ sku: 'lamp', quantity: 1 }];
  await callGiveBack(stores.redis, { orderNo, userId: 'ada', lines, limit: false, stock: true });
  expect(await requeue()).toEqual(['returned']);
  await stores.redis.del(orderKeys(orderNo).order);
  expect(await requeue()).toEqual(['absent']);
  const released = await hold();
  await callRelease(stores.redis, released.orderNo);
  expect(await callRequeue(stores.redis, released.orderNo, released.entry)).toEqual(['released']);
});

test('a deadline is kept while its order is held, and dropped when nothing is', async () => {
  const { saleId, orderNo } = await hold();
  const { order, deadlines } = orderKeys(orderNo);
  expect(await unchanged(saleId, () => callDropDeadline(stores.redis, orderNo))).toEqual(['kept']);
  await stores.redis.del(order);
  await stores.redis.set(order, 'text');
  expect(await callDropDeadline(stores.redis, orderNo)).toEqual(['dropped']);
  expect(await stores.redis.zcard(deadlines)).toBe(0);
  expect(await callDropDeadline(stores.redis, orderNo)).toEqual(['gone']);
});
