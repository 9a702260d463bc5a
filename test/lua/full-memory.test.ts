/** What the scripts do when Redis is at maxmemory: taking stock is refused, giving it back still works. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { snapshot } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

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

test('at maxmemory orders are still admitted into the engine', async () => {
  await withFullMemory(async () => {
    expect(await stores.budget.acquire(['a', 'b'])).toEqual(['a', 'b']);
    await stores.budget.release(['a', 'b']);
  });
});
