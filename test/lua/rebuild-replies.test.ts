/** Every reply of the scripts that watch a sale and make its data again, and what a new epoch makes void. */

import { beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { lookUpOrdersScript as lookUpOrders } from '../../src/orders/reservations.redis.ts';
import {
  expireVoidScript as expireVoid,
  rebuildBeginScript as rebuildBegin,
  rebuildCleanScript as rebuildClean,
  rebuildEndScript as rebuildEnd,
  rebuildOrderScript as rebuildOrder,
  rebuildWriteScript as rebuildWrite,
  suspendScript as suspend,
} from '../../src/reconcile/rebuild.redis.ts';
import type { RedisClient } from '../../src/redis/connection.ts';
import { epochOf, orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { send } from '../../src/redis/script.ts';
import { checkLifeScript as checkLife } from '../../src/sales/stock.redis.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callConfirm,
  callGiveBack,
  callRelease,
  callReserve,
  callReserveAgain,
  newOrderNo,
  snapshot,
  expectUnchanged,
} from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** The reply, with the proof that it wrote nothing. */
const unchanged = <T>(saleId: string, call: () => Promise<T>) => expectUnchanged(stores.redis, saleId, call);

const reply = z.array(z.string());
const keysOf = (saleId: string) => saleKeys({ saleId, shard: 0 });

async function openSale(): Promise<string> {
  return (await stores.openSale(buildSale())).saleId;
}

/** As after a restart, or on another server: the data are of another run. */
const replaceServer = (saleId: string) => stores.redis.hset(keysOf(saleId).sale, 'run_id', 'another');

const calls = (redis: RedisClient, saleId: string) => ({
  check: async () => reply.parse(await send(redis, checkLife, { keys: keysOf(saleId), args: {} })),
  suspend: async () => reply.parse(await send(redis, suspend, { keys: keysOf(saleId), args: {} })),
  begin: async (epoch: number, movedMax = 500) =>
    reply.parse(await send(redis, rebuildBegin, { keys: keysOf(saleId), args: { epoch, movedMax } })),
  write: async (epoch: number, type = 'hash', expiresAtMs = 0) => {
    const { sale, limits: target } = keysOf(saleId);
    const args = { epoch, type, expiresAtMs };
    return reply.parse(
      await send(redis, rebuildWrite, {
        keys: { sale, target },
        args,
        repeated: [{ field: 'lamp:ada', value: 1 }],
      }),
    );
  },
  order: async (epoch: number, orderNo: string, version = 1) => {
    const args = {
      epoch,
      saleId,
      userId: 'ada',
      idempotencyKey: 'k',
      items: '[{"sku":"lamp","quantity":1,"unitPrice":4900}]',
      total: 4_900,
      currency: 'EUR',
      reservedAtMs: 1,
      paymentWindowMs: 60_000,
      carried: '{}',
      status: 'awaiting_payment',
      version,
      payment: 'none',
      reason: '',
      extendedUntil: '',
    };
    return reply.parse(await send(redis, rebuildOrder, { keys: orderKeys(orderNo), args }));
  },
  end: async (epoch: number) => {
    const counts = { total: 10, available: 9, held: 1, sold: 0 };
    const stock = Object.entries(counts).map(([field, value]) => ({
      hash: 'stock',
      field: `lamp:${field}`,
      value,
    }));
    const rules = Object.entries({
      opens_at: 0,
      closes_at: Date.now() * 2,
      payment_window: 60_000,
      paused: 0,
      currency: 'EUR',
      'price:lamp': 4_900,
    });
    const sale = rules.map(([field, value]) => ({ hash: 'sale', field, value }));
    return reply.parse(
      await send(redis, rebuildEnd, {
        keys: keysOf(saleId),
        args: { epoch, undecidedFrom: 1 },
        repeated: [...sale, ...stock],
      }),
    );
  },
  clean: async (epoch: number, keyList: string[]) =>
    reply.parse(await send(redis, rebuildClean, { keys: keysOf(saleId), keyList, args: { epoch } })),
  expire: async (orderNo: string, isStored = false) => {
    const args = { orderNo, epoch: epochOf(orderNo), ttlMs: 60_000, isStored };
    return reply.parse(await send(redis, expireVoid, { keys: orderKeys(orderNo), args }));
  },
  read: async (orderNo: string) => {
    const { sale, order } = orderKeys(orderNo);
    const call = { keys: { sale }, keyList: [order], args: {}, repeated: [{ field: 'hold' }] };
    return reply.parse(await send(redis, lookUpOrders, call));
  },
});

/** Sent twice, as after a reconnect: the same answer, and nothing more is changed. */
async function twice(saleId: string, call: () => Promise<string[]>): Promise<string[]> {
  const first = await call();
  const after = await snapshot(stores.redis, saleId);
  expect(await call()).toEqual(first);
  expect(await snapshot(stores.redis, saleId)).toEqual(after);
  return first;
}

/** A sale under epoch 2, made again with one lamp held by an order of epoch 1; another one was lost. */
async function remake() {
  const saleId = await openSale();
  const [kept, lost] = [
    await acceptOrder(stores, saleId),
    await acceptOrder(stores, saleId, { userId: 'bo' }),
  ];
  const { begin, order, end } = calls(stores.redis, saleId);
  await begin(2);
  await order(2, kept.orderNo);
  await stores.redis.zadd(keysOf(saleId).deadlines, '1', kept.orderNo);
  await stores.redis.hset(keysOf(saleId).limits, 'lamp:ada', '1');
  await end(2);
  return { saleId, kept, lost };
}

const lamp = async (saleId: string) => {
  const hash = await stores.redis.hgetall(keysOf(saleId).stock);
  return ['available', 'held', 'sold'].map((field) => Number(hash[`lamp:${field}`]));
};

describe('a server that did not make the data', () => {
  test('is known from the one that did, and a sale from before takes the run id of its server', async () => {
    const saleId = await openSale();
    const { check } = calls(stores.redis, saleId);
    expect(await unchanged(saleId, check)).toEqual(['well', '1']);
    await stores.redis.hdel(keysOf(saleId).sale, 'run_id');
    expect(await twice(saleId, check)).toEqual(['well', '1']);
    await replaceServer(saleId);
    expect(await unchanged(saleId, check)).toEqual(['replaced', '1']);
    expect(await calls(stores.redis, 's-none').check()).toEqual(['sale-absent']);
  });

  test('sells nothing, settles nothing and gives nothing back', async () => {
    const saleId = await openSale();
    const { orderNo, userId } = await acceptOrder(stores, saleId);
    await replaceServer(saleId);
    const lines = [{ sku: 'lamp', quantity: 1 }];
    const call = buildReserveCall(saleId);
    expect(await unchanged(saleId, () => callReserve(stores.redis, call))).toEqual(['paused']);
    expect(await unchanged(saleId, () => callReserveAgain(stores.redis, call))).toEqual(['sale-absent']);
    expect(await unchanged(saleId, () => callConfirm(stores.redis, orderNo))).toEqual(['sale-absent']);
    expect(await unchanged(saleId, () => callRelease(stores.redis, orderNo))).toEqual(['sale-absent']);
    const back = { orderNo, userId, lines, limit: true, stock: true };
    expect(await unchanged(saleId, () => callGiveBack(stores.redis, back))).toEqual(['sale-absent']);
  });

  test('is not believed about an order', async () => {
    const saleId = await openSale();
    const { orderNo } = await acceptOrder(stores, saleId);
    const { read } = calls(stores.redis, saleId);
    expect(await read(orderNo)).toEqual(['certain', '1', '[["held"]]']);
    expect(await read(newOrderNo(saleId))).toEqual(['certain', '1', '[[false]]']);
    await replaceServer(saleId);
    expect(await read(orderNo)).toEqual(['doubtful', '[["held"]]']);
    expect(await read(newOrderNo(saleId))).toEqual(['doubtful', '[[false]]']);
  });

  test('writes nothing of a rebuild that another server began', async () => {
    const saleId = await openSale();
    const { orderNo } = await acceptOrder(stores, saleId);
    const { begin, clean, write, order, end } = calls(stores.redis, saleId);
    await begin(2);
    await stores.redis.hset(keysOf(saleId).sale, 'rebuilding_run_id', 'another');
    await stores.redis.set(keysOf(saleId).limits, 'damaged');
    const cleanLimits = () => clean(2, [keysOf(saleId).limits]);
    for (const call of [cleanLimits, () => write(2), () => order(2, orderNo), () => end(2)])
      expect(await unchanged(saleId, call)).toEqual(['superseded']);
  });
});

test('a suspended sale takes no order, and its holds still end', async () => {
  const saleId = await openSale();
  const { orderNo } = await acceptOrder(stores, saleId);
  const { suspend: pause, check } = calls(stores.redis, saleId);
  expect(await twice(saleId, pause)).toEqual(['suspended']);
  expect(await check()).toEqual(['suspended', '1']);
  expect(await stores.reservations.reserve(buildReserveRequest({ saleId }))).toEqual({ kind: 'paused' });
  expect((await stores.saleStock.read(saleId))?.paused).toBe(true);
  expect(await stores.reservations.release(orderNo)).toBe('released');
  expect(await calls(stores.redis, 's-none').suspend()).toEqual(['sale-absent']);
});

test('each step of a rebuild sent twice is like once', async () => {
  const saleId = await openSale();
  const { orderNo } = await acceptOrder(stores, saleId);
  const { begin, write, order, end, expire } = calls(stores.redis, saleId);
  expect(await twice(saleId, () => begin(2))).toEqual(['begun']);
  const inAnHourMs = Date.now() + 3_600_000;
  expect(await twice(saleId, () => write(2, 'hash', inAnHourMs))).toEqual(['written']);
  expect(await twice(saleId, () => order(2, orderNo))).toEqual(['written']);
  expect(await twice(saleId, () => end(2))).toEqual(['resumed']);
  expect(await twice(saleId, () => expire(orderNo))).toEqual(['kept']);
});

test('the holds of a rebuild that died join those before them, a part a call', async () => {
  const saleId = await openSale();
  const { deadlines, limits, void: voided } = keysOf(saleId);
  const { orderNo } = await acceptOrder(stores, saleId);
  const { begin, write } = calls(stores.redis, saleId);
  expect(await begin(2)).toEqual(['begun']);
  await write(2);
  await stores.redis.zadd(deadlines, 1, 'a', 2, 'b', 3, 'c', 4, orderNo);

  for (const left of [3, 2, 1]) {
    expect(await begin(3, 1)).toEqual(['moving']);
    expect(await stores.redis.zcard(deadlines)).toBe(left);
    expect(await begin(2, 1)).toEqual(['superseded']);
  }
  expect(await stores.reservations.reserve(buildReserveRequest({ saleId }))).toEqual({ kind: 'paused' });
  expect(await stores.redis.exists(limits)).toBe(1);
  expect(await twice(saleId, () => begin(3, 1))).toEqual(['begun']);

  expect(await stores.redis.exists(deadlines, limits)).toBe(0);
  expect(await stores.redis.zrange(voided, '0', '-1')).toEqual(['a', 'b', 'c', orderNo]);
});

test('a rebuild removes what is no hash, and leaves the others', async () => {
  const saleId = await openSale();
  const { orderNo } = await acceptOrder(stores, saleId);
  const damaged = orderKeys(newOrderNo(saleId)).order;
  await stores.redis.set(damaged, 'damaged');
  const { begin, clean } = calls(stores.redis, saleId);
  await begin(2);
  const keys = [orderKeys(orderNo).order, damaged, orderKeys(newOrderNo(saleId)).order];
  expect(await clean(2, keys)).toEqual(['cleaned', '1']);
  expect(await twice(saleId, () => clean(2, keys))).toEqual(['cleaned', '0']);
  expect(await stores.redis.exists(...keys)).toBe(1);
});

test('a damaged order of an older epoch is removed, and noted once', async () => {
  const { saleId, lost } = await remake();
  const { order, damaged } = orderKeys(lost.orderNo);
  await stores.redis.del(order);
  await stores.redis.set(order, 'damaged');
  const { expire } = calls(stores.redis, saleId);
  expect(await expire(lost.orderNo)).toEqual(['damaged']);
  expect(await twice(saleId, () => expire(lost.orderNo))).toEqual(['kept']);
  expect(await stores.redis.smembers(damaged)).toEqual([lost.orderNo]);
});

test.each(['set', 'sorted-set'])('a %s is written as it is', async (type) => {
  const saleId = await openSale();
  const { begin, write } = calls(stores.redis, saleId);
  await begin(2);
  expect(await twice(saleId, () => write(2, type))).toEqual(['written']);
  expect(await stores.redis.type(keysOf(saleId).limits)).toBe(type === 'set' ? 'set' : 'zset');
});

describe('after the data were made again', () => {
  test('a hold that was made again ends as any, once', async () => {
    const { saleId, kept } = await remake();
    expect(await twice(saleId, () => callConfirm(stores.redis, kept.orderNo))).toEqual(['sold']);
    expect(await lamp(saleId)).toEqual([9, 0, 1]);
  });

  test('a hold of the old epoch is void: it is neither sold nor released, nor believed', async () => {
    const { saleId, lost } = await remake();
    expect(await unchanged(saleId, () => callConfirm(stores.redis, lost.orderNo))).toEqual(['absent']);
    expect(await unchanged(saleId, () => callRelease(stores.redis, lost.orderNo))).toEqual(['absent']);
    const { read, expire } = calls(stores.redis, saleId);
    expect(await read(lost.orderNo)).toEqual(['certain', '2', '[["held"]]']);
    expect(await stores.reservations.lookUp(lost.orderNo)).toMatchObject({ isCertain: false });
    expect(await expire(lost.orderNo)).toEqual(['expires']);
    expect(await stores.redis.pttl(orderKeys(lost.orderNo).order)).toBeGreaterThan(0);
  });

  test.each([
    ['queued', 1],
    ['awaiting_payment', 1],
    ['paid', 0],
    ['cancelled', 0],
    ['failed', 0],
  ])(
    'a void hold that is shown as %s and not in the outbox has %d entry there afterwards',
    async (...row) => {
      const [status, entries] = row;
      const { saleId, lost } = await remake();
      const { order, outbox } = orderKeys(lost.orderNo);
      await stores.redis.del(outbox);
      await stores.redis.hset(order, 'status', status, 'version', '1');
      const { expire } = calls(stores.redis, saleId);

      for (let i = 0; i < 2; i += 1) {
        expect(await expire(lost.orderNo)).toEqual(['expires']);
        expect(await stores.redis.xlen(outbox)).toBe(entries);
      }
    },
  );

  test('a void hold of an order that MySQL has is not put into the outbox', async () => {
    const { saleId, lost } = await remake();
    const { outbox } = orderKeys(lost.orderNo);
    await stores.redis.del(outbox);
    expect(await calls(stores.redis, saleId).expire(lost.orderNo, true)).toEqual(['expires']);
    expect(await stores.redis.exists(outbox)).toBe(0);
  });

  test('an order of the old epoch is reserved again, for good', async () => {
    const { saleId, lost } = await remake();
    await calls(stores.redis, saleId).expire(lost.orderNo);
    const call = buildReserveCall(saleId, { orderNo: lost.orderNo, userId: 'bo' });
    expect(await callReserveAgain(stores.redis, call)).toEqual(['reserved', '2']);
    expect(await unchanged(saleId, () => callReserveAgain(stores.redis, call))).toEqual([
      'known',
      'held',
      '2',
    ]);
    expect(await lamp(saleId)).toEqual([8, 2, 0]);
    expect(await stores.redis.pttl(orderKeys(lost.orderNo).order)).toBe(-1);
    expect(await callRelease(stores.redis, lost.orderNo)).toEqual(['released']);
    expect(await lamp(saleId)).toEqual([9, 1, 0]);
  });

  test('an order that Redis does not have comes back for a moment, unless it was told as lost before', async () => {
    const { saleId, lost } = await remake();
    const { order, sale } = orderKeys(lost.orderNo);
    const again = (knownForMs = 0, holdEpoch = 1) =>
      stores.reservations.reserveAgain({ ...lost, holdEpoch }, { knownForMs });
    const rebuiltAtMs = Number(await stores.redis.hget(sale, 'rebuilt_at'));

    // Redis has it, so nobody was told.
    await stores.redis.hset(sale, 'rebuilt_at', String(rebuiltAtMs - 60_000));
    expect(await again()).toEqual({ kind: 'reserved', epoch: 2 });
    expect(await stores.reservations.release(lost.orderNo)).toBe('released');
    await stores.redis.del(order, orderKeys(lost.orderNo).restored);

    expect(await unchanged(saleId, again)).toEqual({ kind: 'too-late' });
    await stores.redis.hset(sale, 'rebuilt_at', String(rebuiltAtMs), 'undecided_from', '2');
    expect(await unchanged(saleId, () => again(60_000))).toEqual({ kind: 'too-late' });
    // Temporal knows it for longer than the data were made again.
    await stores.redis.hset(sale, 'rebuilt_at', String(rebuiltAtMs - 60_000), 'undecided_from', '1');
    expect(await again(120_000)).toEqual({ kind: 'reserved', epoch: 2 });
  });

  test('a mark of the old epoch does not keep an order from being reserved again', async () => {
    const saleId = await openSale();
    const call = buildReserveCall(saleId);
    await callReserveAgain(stores.redis, call);
    await callRelease(stores.redis, call.orderNo);
    await stores.redis.del(orderKeys(call.orderNo).order);
    const { begin, end } = calls(stores.redis, saleId);
    await begin(2);
    await end(2);
    expect(await callReserveAgain(stores.redis, call)).toEqual(['reserved', '2']);
  });

  test('what Redis has of an earlier epoch than the order knows is to be repeated', async () => {
    const saleId = await openSale();
    const later = newOrderNo(saleId).replace('-0-1-', '-0-2-');
    expect(await unchanged(saleId, () => callConfirm(stores.redis, later))).toEqual(['sale-absent']);
    expect(await unchanged(saleId, () => callRelease(stores.redis, later))).toEqual(['sale-absent']);
    const call = buildReserveCall(saleId, { orderNo: later, epoch: '2' });
    expect(await unchanged(saleId, () => callReserveAgain(stores.redis, call))).toEqual(['sale-absent']);
  });

  test('a number that was made for the old epoch is not taken', async () => {
    const { saleId } = await remake();
    expect(await unchanged(saleId, () => callReserve(stores.redis, buildReserveCall(saleId)))).toEqual([
      'epoch-changed',
      '2',
    ]);
  });
});
