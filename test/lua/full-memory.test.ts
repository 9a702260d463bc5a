/** What the scripts do when Redis is at maxmemory: taking stock is refused, giving it back still works. */

import { beforeAll, expect, test } from 'vitest';
import { orderKeys } from '../../src/redis/keys.ts';
import { createOutbox } from '../../src/redis/outbox.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { snapshot } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** One byte is always used up already, so Redis refuses whatever wants memory. */
async function withFullMemory(use: () => Promise<void>): Promise<void> {
  await stores.redis.config('SET', 'maxmemory', '1');
  try {
    await use();
  } finally {
    await stores.redis.config('SET', 'maxmemory', '0');
  }
}

async function hold(saleId: string): Promise<string> {
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId }));
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  return outcome.orderNo;
}

test('at maxmemory reserve refuses with nothing written, and sells again once there is room', async () => {
  const { saleId } = await stores.openSale(buildSale());
  await hold(saleId);
  const before = await snapshot(stores.redis, saleId);
  await withFullMemory(async () => {
    await expect(hold(saleId)).rejects.toThrow('store-full');
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  });
  await expect(hold(saleId)).resolves.toContain(saleId);
});

test('at maxmemory orders are still confirmed, released and projected', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [paid, cancelled] = [await hold(saleId), await hold(saleId)];
  await withFullMemory(async () => {
    expect(await stores.reservations.confirm(paid)).toBe('sold');
    expect(await stores.reservations.release(cancelled)).toBe('released');
    const state = {
      status: 'cancelled',
      version: 2,
      payment: 'none',
      reason: 'operator_request',
    } as const;
    expect(await stores.reservations.project(cancelled, state)).toBe('projected');
    expect((await stores.reservations.readOrder(cancelled))?.state).toEqual(state);
  });
  const [lamp] = (await stores.saleStock.read(saleId))?.skus ?? [];
  expect(lamp).toMatchObject({ total: 10, available: 9, held: 0, sold: 1 });
});

test('at maxmemory a refunded order is still given back, and no lost one is restored', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const orderNo = await hold(saleId);
  await stores.reservations.confirm(orderNo);
  const items = [{ sku: 'lamp', quantity: 1, unitPrice: 4_900 }];
  await withFullMemory(async () => {
    const back = { orderNo, userId: 'ada', part: '', items, limit: true, stock: true };
    expect(await stores.reservations.giveBack(back)).toEqual({ kind: 'returned' });
    const before = await snapshot(stores.redis, saleId);
    await expect(stores.reservations.reserveAgain(buildOrder({ saleId }))).rejects.toThrow(/^OOM /);
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  });
  const [lamp] = (await stores.saleStock.read(saleId))?.skus ?? [];
  expect(lamp).toMatchObject({ total: 10, available: 10, held: 0, sold: 0 });
});

test('at maxmemory the scripts that must work do so even when Redis has forgotten them', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const orderNo = await hold(saleId);
  await stores.redis.script('FLUSH');
  await withFullMemory(async () => {
    expect(await stores.reservations.release(orderNo)).toBe('released');
  });
});

const MB = 1024 * 1024;
/** Filled by some five thousand orders. */
const SMALL_MB = 8;
const AT_ONCE = 250;
const STATE = { version: 1, payment: 'none', reason: null } as const;

/** Without what Redis itself leaves out when it compares with maxmemory. */
async function readUsed(): Promise<number> {
  const info = await stores.redis.info('memory');
  const [, used] = /^used_memory:(\d+)/m.exec(info) ?? [];
  const [, uncounted] = /^mem_not_counted_for_evict:(\d+)/m.exec(info) ?? [];
  return Number(used) - Number(uncounted);
}

/** Accepts orders until one is refused. */
async function fill(saleId: string): Promise<{ accepted: string[]; refusals: Set<string> }> {
  const accepted: string[] = [];
  const refusals = new Set<string>();
  while (refusals.size === 0) {
    const requests = Array.from({ length: AT_ONCE }, () => buildReserveRequest({ saleId }));
    for (const outcome of await Promise.all(requests.map(stores.reservations.reserve))) {
      if (outcome.kind === 'reserved') accepted.push(outcome.orderNo);
      else refusals.add(outcome.kind);
    }
  }
  return { accepted, refusals };
}

test('a tenth of maxmemory is left to accepted orders: all are taken on and ended in it, while new ones are refused', async () => {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000_000, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const { reservations, redis } = stores;
  const max = SMALL_MB * MB;
  const usedMax: number[] = [];
  await redis.config('SET', 'maxmemory', String(max));
  try {
    const { accepted, refusals } = await fill(saleId);
    expect([...refusals]).toEqual(['memory-full']);
    // When there is room for the first order of a call, all of the call are taken. On Redis 8.2, beside other
    // work, 93 % were used once; what took them was not measured.
    expect(await readUsed()).toBeLessThan(0.95 * max);

    // As the relays and the workflows do; no relay has been here before.
    const blocking = await stores.connectBlocking();
    const outbox = createOutbox(redis, blocking, { saleId, shard: 0 }, 'relay');
    const seen: string[] = [];
    while (seen.length < accepted.length) {
      const entries = await outbox.readNew(AT_ONCE, 1);
      const orderNos = entries.map(({ orderNo }) => orderNo);
      await reservations.projectAll(orderNos, { ...STATE, status: 'awaiting_payment' });
      usedMax.push(await readUsed());
      await outbox.acknowledge(entries.map(({ entryId }) => entryId));
      seen.push(...orderNos);
    }
    blocking.disconnect();
    expect(new Set(seen)).toEqual(new Set(accepted));
    for (let from = 0; from < seen.length; from += AT_ONCE) {
      const some = seen.slice(from, from + AT_ONCE);
      await Promise.all(
        some.map((orderNo, i) => (i % 2 === 0 ? reservations.confirm : reservations.release)(orderNo)),
      );
      const paid = { version: 2, status: 'paid', payment: 'applied', reason: null } as const;
      await reservations.projectAll(some, paid);
      usedMax.push(await readUsed());
    }
    expect(Math.max(...usedMax)).toBeLessThan(max);
    const [lamp] = (await stores.saleStock.read(saleId))?.skus ?? [];
    const sold = accepted.length / 2;
    expect(lamp).toMatchObject({ available: 1_000_000 - sold, held: 0, sold });

    for (let from = 0; from < seen.length; from += AT_ONCE) {
      await redis.unlink(seen.slice(from, from + AT_ONCE).map((orderNo) => orderKeys(orderNo).order));
    }
    expect((await reservations.reserve(buildReserveRequest({ saleId }))).kind).toBe('reserved');
  } finally {
    await redis.config('SET', 'maxmemory', '0');
  }
});

test('at maxmemory orders are still admitted into the engine', async () => {
  await withFullMemory(async () => {
    expect(await stores.budget.acquire(['a', 'b'])).toEqual(['a', 'b']);
    await stores.budget.release(['a', 'b']);
  });
});
