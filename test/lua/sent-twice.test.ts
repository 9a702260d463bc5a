/**
 * ioredis sends a command again when the connection broke before its answer came: twice must be like once.
 */

import { beforeAll, expect, test } from 'vitest';
import { orderKeys } from '../../src/redis/keys.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callConfirm,
  callDropDeadline,
  callForgetOrder,
  callForgetSale,
  callGiveBack,
  callMendLimit,
  callMendStock,
  callProject,
  callRelease,
  callRenameUser,
  callRequeue,
  callReserve,
  callReserveAgain,
  callChangeSale,
  callWishCancel,
  callRestoreHold,
  snapshot,
} from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

async function hold() {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId);
  const reply = await callReserve(stores.redis, call);
  expect(reply[0]).toBe('reserved');
  return { saleId, call, reply, orderNo: call.orderNo };
}

async function another(saleId: string): Promise<string> {
  const call = buildReserveCall(saleId);
  await callReserve(stores.redis, call);
  return call.orderNo;
}

async function twice(saleId: string, send: () => Promise<string[]>): Promise<[string[], string[]]> {
  const first = await send();
  const after = await snapshot(stores.redis, saleId);
  const second = await send();
  expect(await snapshot(stores.redis, saleId)).toEqual(after);
  return [first, second];
}

test('reserve sent twice holds once and answers the same, down to the time', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId);
  const [first, second] = await twice(saleId, () => callReserve(stores.redis, call));
  expect(first[0]).toBe('reserved');
  expect(second).toEqual(first);
});

test('reserve sent again after the order was released still answers reserved and holds nothing', async () => {
  const { saleId, call, reply, orderNo } = await hold();
  await callRelease(stores.redis, orderNo);
  const before = await snapshot(stores.redis, saleId);
  expect(await callReserve(stores.redis, call)).toEqual(reply);
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
});

test('wish-cancel sent twice notes one wish', async () => {
  const { saleId, orderNo } = await hold();
  const replies = await twice(saleId, () => callWishCancel(stores.redis, orderNo));
  expect(replies).toEqual([['wished'], ['wished']]);
});

test('confirm sent twice sells once', async () => {
  const { saleId, orderNo } = await hold();
  const replies = await twice(saleId, () => callConfirm(stores.redis, orderNo));
  expect(replies).toEqual([['sold'], ['sold']]);
});

test('release sent twice gives back once', async () => {
  const { saleId, orderNo } = await hold();
  const replies = await twice(saleId, () => callRelease(stores.redis, orderNo));
  expect(replies).toEqual([['released'], ['released']]);
});

test('reserve-again sent twice holds once and queues once', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId);
  const replies = await twice(saleId, () => callReserveAgain(stores.redis, call));
  expect(replies).toEqual([
    ['reserved', '1'],
    ['known', 'held', '1'],
  ]);
});

test('reserve-again sent once more after the order ended and expired holds nothing', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId);
  await callReserveAgain(stores.redis, call);
  await callRelease(stores.redis, call.orderNo);
  await stores.redis.del(orderKeys(call.orderNo).order);
  const before = await snapshot(stores.redis, saleId);
  expect(await callReserveAgain(stores.redis, call)).toEqual(['known', 'absent', '1']);
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
});

test('give back sent twice gives back once', async () => {
  const { saleId, call, orderNo } = await hold();
  await callConfirm(stores.redis, orderNo);
  const back = { ...call, limit: true, stock: true };
  const replies = await twice(saleId, () => callGiveBack(stores.redis, back));
  expect(replies).toEqual([['returned'], ['returned']]);
});

test('give back sent once more after the hold has expired gives nothing', async () => {
  const { saleId, call, orderNo } = await hold();
  await callConfirm(stores.redis, orderNo);
  const back = { ...call, limit: true, stock: true };
  await callGiveBack(stores.redis, back);
  // Another lamp is sold, so there would be one to take.
  await callConfirm(stores.redis, await another(saleId));
  await stores.redis.del(orderKeys(orderNo).order);
  const before = await snapshot(stores.redis, saleId);
  expect(await callGiveBack(stores.redis, back)).toEqual(['returned']);
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
});

test('a change of a sale sent twice is made once, and refused twice', async () => {
  const { saleId } = await hold();
  const totals = (lamps: number) => [
    { sku: 'lamp', total: lamps },
    { sku: 'mug', total: 5 },
  ];
  const made = await twice(saleId, () => callChangeSale(stores.redis, saleId, 3, totals(12)));
  expect(made).toEqual([['changed'], ['changed']]);
  const refused = await twice(saleId, () => callChangeSale(stores.redis, saleId, 4, totals(0)));
  expect(refused).toEqual([
    ['below-committed', 'lamp', '1'],
    ['below-committed', 'lamp', '1'],
  ]);
});

test('project sent twice applies once', async () => {
  const { saleId, orderNo } = await hold();
  const replies = await twice(saleId, () => callProject(stores.redis, orderNo, 1));
  expect(replies).toEqual([['projected'], ['stale']]);
});

test('requeue sent twice queues once', async () => {
  const { saleId, orderNo } = await hold();
  const { order, outbox } = orderKeys(orderNo);
  const entry = String(await stores.redis.hget(order, 'entry'));
  await stores.redis.xdel(outbox, entry);
  const replies = await twice(saleId, () => callRequeue(stores.redis, orderNo, entry));
  expect(replies).toEqual([['requeued'], ['moved']]);
});

test('a deadline dropped twice is gone once', async () => {
  const { saleId, orderNo } = await hold();
  await stores.redis.del(orderKeys(orderNo).order);
  const replies = await twice(saleId, () => callDropDeadline(stores.redis, orderNo));
  expect(replies).toEqual([['dropped'], ['gone']]);
});

test('a correction sent twice is made once', async () => {
  const { saleId } = await hold();
  const stock = await twice(saleId, () => callMendStock(stores.redis, saleId, { heldDelta: 1 }));
  expect(stock).toEqual([['mended', '8', '2', '0'], ['moved']]);
  const limit = await twice(saleId, () => callMendLimit(stores.redis, saleId, { delta: 1, mends: 1 }));
  expect(limit).toEqual([['mended', '2'], ['moved']]);
});

test('restore-hold sent twice writes the hold once', async () => {
  const { saleId, orderNo } = await hold();
  await stores.redis.del(orderKeys(orderNo).order);
  const replies = await twice(saleId, () => callRestoreHold(stores.redis, orderNo));
  expect(replies).toEqual([
    ['restored', 'absent'],
    ['restored', 'unlisted'],
  ]);
});

test('a sale, an order and a user that are forgotten twice are gone once', async () => {
  const { saleId, call, orderNo } = await hold();
  await callConfirm(stores.redis, orderNo);
  const renamed = await twice(saleId, () => callRenameUser(stores.redis, saleId));
  expect(renamed).toEqual([
    ['renamed', '1'],
    ['renamed', '0'],
  ]);
  const order = await twice(saleId, () => callForgetOrder(stores.redis, orderNo, call.idempotencyKey));
  expect(order).toEqual([['forgotten'], ['forgotten']]);
  await stores.redis.xtrim(orderKeys(orderNo).outbox, 'MAXLEN', 0);
  const sale = await twice(saleId, () => callForgetSale(stores.redis, saleId));
  expect(sale).toEqual([['forgotten'], ['forgotten']]);
});
