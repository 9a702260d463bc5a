/** A refusal names the caller's open orders; a sale may bound how many holds a shopper leaves unpaid. */

import { beforeAll, expect, test, vi } from 'vitest';
import { saleKeys } from '../../../src/redis/keys.ts';
import type { Sale } from '../../../src/sales/sale.ts';
import { buildSale } from '../../support/factories.ts';
import { acceptedOf, problemOf, refusalOf, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

const LAMP = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 3, limitPerUser: 2 };

async function openSale(overrides: Partial<Sale> = {}) {
  const { saleId } = await api.stores.openSale(buildSale({ skus: [LAMP], ...overrides }));
  const shopper = await api.shopper();
  const place = (quantity = 1, by: Shopper = shopper) =>
    by.placeOrder({ saleId, items: [{ sku: 'lamp', quantity }] });
  return { saleId, shopper, place };
}

test("a refusal for a limit names the caller's open orders, with what is needed to pay them", async () => {
  const { place } = await openSale();
  const { orderNo, deadline } = acceptedOf(await place(2));

  const reply = await place();

  expect(refusalOf(reply)).toBe('409 limit_reached');
  expect(problemOf(reply)).toMatchObject({
    openOrders: [
      {
        orderNo,
        status: 'queued',
        payment: 'none',
        closing: false,
        items: [{ sku: 'lamp', quantity: 2, unitPrice: 4_900 }],
        total: 9_800,
        currency: 'EUR',
        deadline,
      },
    ],
  });
});

test('a refusal for the limit of all SKUs together names them too', async () => {
  const { place } = await openSale({ limitPerUser: 1 });
  const { orderNo } = acceptedOf(await place());
  expect(problemOf(await place())).toMatchObject({ code: 'sale_limit_reached', openOrders: [{ orderNo }] });
});

test("sold_out tells a caller of their own order alone, and whether others' units may come back", async () => {
  const { place } = await openSale();
  const other = await api.shopper();
  const mine = acceptedOf(await place());
  const theirs = acceptedOf(await place(2, other));
  expect(problemOf(await place())).toMatchObject({
    code: 'sold_out',
    available: 0,
    held: 3,
    openOrders: [{ orderNo: mine.orderNo }],
  });
  await Promise.all([mine, theirs].map(({ orderNo }) => api.stores.reservations.confirm(orderNo)));
  expect(problemOf(await place())).toMatchObject({ held: 0, openOrders: [] });
});

test('an order that has ended is not named, whatever the list in Redis says', async () => {
  const { saleId, shopper, place } = await openSale();
  const { orderNo } = acceptedOf(await place(2));
  await api.stores.reservations.project(orderNo, {
    status: 'cancelled',
    version: 2,
    payment: 'none',
    reason: 'payment_timeout',
  });
  const foreign = acceptedOf(await place(1, await api.shopper()));
  const { open } = saleKeys({ saleId, shard: 0 });
  await api.stores.redis.hset(open, shopper.userId, `nonsense ${foreign.orderNo} ${saleId}-0-1-x ${orderNo}`);
  expect(problemOf(await place())).toMatchObject({ code: 'sold_out', openOrders: [] });
});

test('a refusal asks MySQL for nothing', async () => {
  const { place } = await openSale();
  await place(2);
  const asked = [vi.spyOn(api.stores.pool, 'query'), vi.spyOn(api.stores.pool, 'getConnection')];
  try {
    expect(problemOf(await place())).toMatchObject({ openOrders: [{ status: 'queued' }] });
    for (const spy of asked) expect(spy).not.toHaveBeenCalled();
  } finally {
    for (const spy of asked) spy.mockRestore();
  }
});

test('a shopper who let as many holds end unpaid as the sale allows gets no more', async () => {
  const { place } = await openSale({ maxUnpaidHolds: 1 });
  const { orderNo } = acceptedOf(await place());
  await api.stores.reservations.release(orderNo, true);

  const reply = await place();

  expect(refusalOf(reply)).toBe('409 too_many_unpaid');
  expect(problemOf(reply)).toMatchObject({ limit: 1, unpaid: 1 });
  expect((await place(1, await api.shopper())).status).toBe(202);
});
