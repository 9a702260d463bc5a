/** Drift in a sale of which many units were put back on sale: what Redis has yet to follow is none. */

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createDriftStep } from '../../src/reconcile/drift.ts';
import { modify } from '../../src/stores/mysql/connection.ts';
import { saleKeys } from '../../src/stores/redis/keys.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

/** A run looks at every sale that Redis has. */
beforeEach(() => stores.redis.flushall());

const run = () => createDriftStep({ ...stores, log: silent })(new AbortController().signal);

const numberOf = (saleId: string, i: number): string => `${saleId}-0-1-${String(i).padStart(26, '0')}`;

/** MySQL has so many orders of one lamp each as sold and returned, and Redis has not followed the last. */
async function openReturned(orders: number): Promise<string> {
  const { saleId } = await stores.openSale(buildSale());
  const digits = `(${Array.from({ length: 10 }, (_, i) => `SELECT ${i} AS d`).join(' UNION ALL ')})`;
  const numbers = ['a', 'b', 'c', 'e', 'f'].map((name) => `${digits} ${name}`).join(' CROSS JOIN ');
  for (const movement of ['hold', 'sell', 'return']) {
    await modify(
      stores.pool,
      `INSERT INTO stock_ledger (sale_id, sku, order_no, movement, quantity)
       SELECT ?, 'lamp', CONCAT(?, LPAD(i, 26, '0')), ?, 1 FROM
         (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i FROM ${numbers}) n
       WHERE i < ? ORDER BY i`,
      [saleId, `${saleId}-0-1-`, movement, orders],
    );
  }
  const { stock, returns } = saleKeys({ saleId, shard: 0 });
  const followed = Array.from({ length: orders - 1 }, (_, i) => `${numberOf(saleId, i)}:stock`);
  for (let from = 0; from < followed.length; from += 10_000)
    await stores.redis.sadd(returns, ...followed.slice(from, from + 10_000));
  await stores.redis.hincrby(stock, 'lamp:available', -1);
  await stores.redis.hincrby(stock, 'lamp:sold', 1);
  return saleId;
}

test.each([
  ['many units were', 10_001],
  ['more units were than are compared', 50_001],
])('a return that Redis has yet to follow is no drift, though %s put back on sale', async (_, orders) => {
  const saleId = await openReturned(orders);

  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });

  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, held: 0, sold: 1 });
});
