/** Every reply of `restock`, which sets the total of a SKU. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { snapshot } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

async function hold(quantity = 1): Promise<{ saleId: string; orderNo: string }> {
  const { saleId } = await stores.openSale(buildSale());
  const request = buildReserveRequest({ saleId, items: [{ sku: 'lamp', quantity }] });
  const outcome = await stores.reservations.reserve(request);
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  return { saleId, orderNo: outcome.orderNo };
}

async function lamp(saleId: string) {
  return (await stores.saleStock.read(saleId))?.skus.find(({ sku }) => sku === 'lamp');
}

describe('restock', () => {
  test('adds the difference to what is available', async () => {
    const { saleId } = await hold(2);
    const reply = await stores.saleStock.restock(saleId, 'lamp', 15, 1);
    expect(reply).toEqual({ kind: 'restocked', total: 15, available: 13 });
    expect(await lamp(saleId)).toMatchObject({ total: 15, available: 13, held: 2, sold: 0 });
  });

  test('takes the difference from what is available, down to what is held and sold', async () => {
    const { saleId, orderNo } = await hold(2);
    await stores.reservations.confirm(orderNo);
    expect(await stores.saleStock.restock(saleId, 'lamp', 2, 1)).toMatchObject({ available: 0 });
    expect(await lamp(saleId)).toMatchObject({ total: 2, available: 0, held: 0, sold: 2 });
  });

  test('refuses a total below what is held and sold', async () => {
    const { saleId } = await hold(2);
    const before = await snapshot(stores.redis, saleId);
    const reply = await stores.saleStock.restock(saleId, 'lamp', 1, 1);
    expect(reply).toEqual({ kind: 'below-committed', committed: 2 });
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  });

  test('does nothing when it is repeated or comes late', async () => {
    const { saleId } = await hold();
    await stores.saleStock.restock(saleId, 'lamp', 20, 2);
    const before = await snapshot(stores.redis, saleId);
    expect(await stores.saleStock.restock(saleId, 'lamp', 20, 2)).toEqual({ kind: 'stale', version: 2 });
    expect(await stores.saleStock.restock(saleId, 'lamp', 12, 1)).toEqual({ kind: 'stale', version: 2 });
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  });

  test('creates no SKU', async () => {
    const { saleId } = await hold();
    const before = await snapshot(stores.redis, saleId);
    expect(await stores.saleStock.restock(saleId, 'sofa', 3, 1)).toEqual({ kind: 'unknown-sku' });
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  });

  test('creates no sale', async () => {
    const { saleId } = buildSale();
    expect(await stores.saleStock.restock(saleId, 'lamp', 3, 1)).toEqual({ kind: 'sale-absent' });
    expect(await snapshot(stores.redis, saleId)).toEqual({});
  });
});
