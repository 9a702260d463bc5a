/** Many shoppers at once through the whole service: no unit is sold twice, and no limit is exceeded. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { orderOf, refusalOf, type Reply, type Shopper } from '../support/shopper.ts';
import { expectStock, expectStockEquation } from '../support/stock.ts';

const USERS = 40;
const ORDERS_PER_USER = 60;
const UNITS = 25;

let checkout: Checkout;

beforeAll(async () => {
  checkout = await openCheckout();
});
afterAll(() => expectCleanAudit(checkout));

function openScarceSale(limitPerUser: number | null) {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: UNITS, limitPerUser }];
  return checkout.stores.openSale(buildSale({ skus }));
}

function openShoppers(): Promise<Shopper[]> {
  return Promise.all(Array.from({ length: USERS }, () => checkout.shopper()));
}

test('40 shoppers with 60 orders each race for 25 units: exactly 25 are accepted', async () => {
  const { stores } = checkout;
  const { saleId } = await openScarceSale(null);
  const shoppers = await openShoppers();
  const order = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };

  const replies = await Promise.all(
    shoppers.map(async (shopper) => {
      const own: Reply[] = [];
      for (let i = 0; i < ORDERS_PER_USER; i += 1) own.push(await shopper.placeUntilAnswered(order));
      return own;
    }),
  );

  const accepted = replies.flat().filter(({ status }) => status < 300);
  const refused = replies.flat().filter(({ status }) => status >= 300);
  expect(accepted).toHaveLength(UNITS);
  expect(new Set(accepted.map((reply) => orderOf(reply).orderNo)).size).toBe(UNITS);
  expect(refused).toHaveLength(USERS * ORDERS_PER_USER - UNITS);
  expect(new Set(refused.map(refusalOf))).toEqual(new Set(['409 sold_out']));
  await expectStock(stores, saleId, { sku: 'lamp', available: 0, held: UNITS, sold: 0 });
});

test('repeats of one request that race each other make one order', async () => {
  const { stores } = checkout;
  const { saleId } = await openScarceSale(null);
  const shoppers = await openShoppers();
  const order = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };

  const replies = await Promise.all(
    shoppers
      .slice(0, 5)
      .map((shopper) =>
        Promise.all(
          Array.from({ length: 20 }, () =>
            shopper.placeUntilAnswered(order, { 'idempotency-key': shopper.userId }),
          ),
        ),
      ),
  );

  for (const own of replies) {
    // The one that made the order may have been asked again, and was then answered as the others.
    const statuses = own.map(({ status }) => status);
    expect(statuses.filter((status) => status === 202).length).toBeLessThanOrEqual(1);
    expect(statuses.filter((status) => status !== 202 && status !== 200)).toEqual([]);
    expect(new Set(own.map(({ headers }) => headers.get('location'))).size).toBe(1);
  }
  await expectStock(stores, saleId, { sku: 'lamp', available: UNITS - 5, held: 5, sold: 0 });
});

test("a shopper's orders that race each other never exceed the limit", async () => {
  const { stores } = checkout;
  const { saleId } = await openScarceSale(2);
  const shoppers = (await openShoppers()).slice(0, 5);
  const order = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };

  const replies = await Promise.all(
    shoppers.map((shopper) =>
      Promise.all(Array.from({ length: 8 }, () => shopper.placeUntilAnswered(order))),
    ),
  );

  for (const own of replies) {
    expect(own.filter(({ status }) => status < 300)).toHaveLength(2);
    expect(new Set(own.filter(({ status }) => status >= 300).map(refusalOf))).toEqual(
      new Set(['409 limit_reached']),
    );
  }
  await expectStock(stores, saleId, { sku: 'lamp', available: UNITS - 10, held: 10, sold: 0 });
});

test('while orders are placed, cancelled and placed again, the stock equation holds at every look', async () => {
  const { stores } = checkout;
  const { saleId } = await openScarceSale(null);
  const shoppers = (await openShoppers()).slice(0, 10);
  const over = new AbortController();
  const watching = (async () => {
    while (!over.signal.aborted) await expectStockEquation(stores, saleId);
  })();

  const changing = Promise.all(
    shoppers.map(async (shopper) => {
      const orderNo = await shopper.buy(saleId);
      await shopper.cancel(orderNo);
      await shopper.buy(saleId);
      await shopper.awaitStatus(orderNo, 'cancelled');
    }),
  );
  await Promise.all([changing.finally(() => over.abort()), watching]);

  await expectStock(stores, saleId, { sku: 'lamp', available: UNITS - 10, held: 10, sold: 0 });
});
