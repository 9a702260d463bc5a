/** Whatever had happened in a sale: what a rebuild makes in Redis is what MySQL has, to the unit. */

import * as fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { assertProperty } from '../support/property.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const SKUS = [
  { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 6, limitPerUser: 3 },
  { sku: 'mug', name: 'Mug', unitPrice: 1_450, total: 4, limitPerUser: null },
];

/** How far an order has come when Redis is lost, and whether Redis had followed MySQL. */
const purchase = fc.record({
  userId: fc.constantFrom('ada', 'bo', 'cy'),
  sku: fc.constantFrom('lamp', 'mug'),
  quantity: fc.integer({ min: 1, max: 2 }),
  end: fc.constantFrom('accepted', 'stored', 'paid', 'cancelled'),
  isSettled: fc.boolean(),
});

type Purchase = typeof purchase extends fc.Arbitrary<infer T> ? T : never;

async function buy(saleId: string, { userId, sku, quantity, end, isSettled }: Purchase) {
  const items = [{ sku, quantity }];
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId, userId, items }));
  if (outcome.kind !== 'reserved' || end === 'accepted') return;
  const { orderNo, total: amount, currency } = outcome;
  const reserved = await stores.reservations.readOrder(orderNo);
  if (!reserved) throw new Error('accepted, and not there');
  await stores.orders.storeOrder(reserved.order, 'due');
  if (end === 'paid') {
    const payment = { providerPaymentId: `pay_${orderNo}`, orderNo, amount, currency, signedOrder: null };
    await stores.payments.record('sandbox', payment);
    if (isSettled) await stores.reservations.confirm(orderNo);
  }
  if (end === 'cancelled') {
    await stores.orders.cancel(orderNo, 'operator_request', { force: true });
    if (isSettled) await stores.reservations.release(orderNo);
  }
}

test('a rebuild makes the stock, the holds and the limits that MySQL has, whether Redis was emptied or is old', async () => {
  await assertProperty(
    fc.asyncProperty(
      fc.array(purchase, { minLength: 1, maxLength: 12 }),
      fc.boolean(),
      async (purchases, isEmptied) => {
        const { saleId } = await stores.openSale(buildSale({ skus: SKUS }));
        for (const each of purchases) await buy(saleId, each);
        const keys = saleKeys({ saleId, shard: 0 });
        await stores.redis.del(keys.outbox);
        if (isEmptied) await stores.redis.del(...(await stores.redis.keys(`holdfast:{${saleId}.0}:*`)));

        await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'lost' });

        const view = await stores.saleStock.read(saleId);
        const counted = view?.skus.map(({ sku, total, available, held, sold }) => ({
          sku,
          total,
          available,
          held,
          sold,
        }));
        expect(counted).toEqual(await stores.sales.readStock(saleId));
        // The outbox is empty, so the orders are named by their deadlines.
        const open = await stores.redis.zrange(keys.deadlines, '0', '-1');
        const units: Record<string, number> = {};
        for (const orderNo of open) {
          const order = (await stores.reservations.lookUp(orderNo)).found?.order;
          for (const { sku, quantity } of order?.items ?? []) units[sku] = (units[sku] ?? 0) + quantity;
        }
        for (const { sku, held } of counted ?? []) expect(units[sku] ?? 0).toBe(held);
        // Each ends once, and afterwards nothing is held.
        for (const orderNo of open) {
          await stores.orders.cancel(orderNo, 'operator_request', { force: true });
          expect(await stores.reservations.release(orderNo)).toBe('released');
        }
        const after = await stores.saleStock.read(saleId);
        expect(after?.skus.map(({ held }) => held)).toEqual([0, 0]);
        expect(after?.skus.map(({ sku, available }) => [sku, available])).toEqual(
          (await stores.sales.readStock(saleId)).map(({ sku, available }) => [sku, available]),
        );
      },
    ),
    { numRuns: 15 },
  );
});
