/** Every reply of `confirm` and `release`, which end a hold. */

import { beforeAll, describe, expect, test } from 'vitest';
import { orderKeys } from '../../src/redis/keys.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { newOrderNo, expectUnchanged } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** The reply, with the proof that it wrote nothing. */
const unchanged = <T>(saleId: string, call: () => Promise<T>) => expectUnchanged(stores.redis, saleId, call);

/** Two lamps and a mug, held by ada. */
async function hold(): Promise<{ saleId: string; orderNo: string }> {
  const { saleId } = await stores.openSale(buildSale());
  const items = [
    { sku: 'lamp', quantity: 2 },
    { sku: 'mug', quantity: 1 },
  ];
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId, items }));
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  return { saleId, orderNo: outcome.orderNo };
}

async function counts(saleId: string) {
  const view = await stores.saleStock.read(saleId);
  return view?.skus.map(({ sku, total, available, held, sold }) => ({ sku, total, available, held, sold }));
}

describe('confirm', () => {
  test('turns what is held into what is sold, and keeps the allowance used', async () => {
    const { saleId, orderNo } = await hold();
    expect(await stores.reservations.confirm(orderNo)).toBe('sold');
    expect(await counts(saleId)).toEqual([
      { sku: 'lamp', total: 10, available: 8, held: 0, sold: 2 },
      { sku: 'mug', total: 5, available: 4, held: 0, sold: 1 },
    ]);
    expect(await stores.redis.hgetall(orderKeys(orderNo).limits)).toEqual({
      'lamp:ada': '2',
      'mug:ada': '1',
    });
  });

  test('sells nothing that was released before', async () => {
    const { saleId, orderNo } = await hold();
    await stores.reservations.release(orderNo);
    expect(await unchanged(saleId, () => stores.reservations.confirm(orderNo))).toBe('released');
  });
});

describe('release', () => {
  test('gives stock and allowance back', async () => {
    const { saleId, orderNo } = await hold();
    expect(await stores.reservations.release(orderNo)).toBe('released');
    expect(await counts(saleId)).toEqual([
      { sku: 'lamp', total: 10, available: 10, held: 0, sold: 0 },
      { sku: 'mug', total: 5, available: 5, held: 0, sold: 0 },
    ]);
    expect(await stores.redis.hgetall(orderKeys(orderNo).limits)).toEqual({});
  });

  test('leaves what the user holds by another order', async () => {
    const { saleId } = await stores.openSale(buildSale());
    const [first] = await Promise.all([
      stores.reservations.reserve(buildReserveRequest({ saleId })),
      stores.reservations.reserve(buildReserveRequest({ saleId })),
    ]);
    if (first.kind !== 'reserved') throw new Error(first.kind);
    await stores.reservations.release(first.orderNo);
    expect(await stores.redis.hgetall(orderKeys(first.orderNo).limits)).toEqual({ 'lamp:ada': '1' });
  });

  test('gives nothing back that was sold', async () => {
    const { saleId, orderNo } = await hold();
    await stores.reservations.confirm(orderNo);
    expect(await unchanged(saleId, () => stores.reservations.release(orderNo))).toBe('sold');
  });
});

describe.each([
  ['confirm', 'sold'],
  ['release', 'released'],
] as const)('%s', (name, ended) => {
  const end = (orderNo: string) => stores.reservations[name](orderNo);

  test('takes the order off the deadlines and lets its projection expire', async () => {
    const { orderNo } = await hold();
    await end(orderNo);
    expect(await stores.redis.zscore(orderKeys(orderNo).deadlines, orderNo)).toBeNull();
    expect(await stores.redis.pttl(orderKeys(orderNo).order)).toBeGreaterThan(0);
  });

  test(`answers ${ended} again when it is repeated`, async () => {
    const { saleId, orderNo } = await hold();
    await end(orderNo);
    expect(await unchanged(saleId, () => end(orderNo))).toBe(ended);
  });

  test('changes nothing of an order whose units came back', async () => {
    const { saleId, orderNo } = await hold();
    await stores.redis.hset(orderKeys(orderNo).order, 'hold', 'returned');
    expect(await unchanged(saleId, () => end(orderNo))).toBe('returned');
  });

  test('says that a hold is lost which should be there, and does nothing', async () => {
    const { saleId } = await hold();
    expect(await unchanged(saleId, () => end(newOrderNo(saleId)))).toBe('lost');
  });
});
