/** The rows of the raw batches, which are the limit in the comparison, are the rows that Holdfast stores. */

import { beforeAll, expect, test } from 'vitest';
import { buildOrders, SKU } from '../../bench/peers/orders.ts';
import { storeRawBatch, toRawBatch } from '../../bench/peers/raw-batch.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const TABLES = ['orders', 'order_items', 'order_events', 'stock_ledger'];
/** They differ from one attempt to the next. */
const OF_THE_ATTEMPT = ['batch_id', 'engine_due_at', 'created_at', 'occurred_at', 'booked_at', 'entry_id'];

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** All rows of the sale, and the stock that they hold; leaves the sale as it was. */
async function takeRows(saleId: string) {
  const tables = await Promise.all(
    TABLES.map(async (table) => {
      const rows = await select(
        stores.pool,
        `SELECT * FROM ${table} WHERE order_no LIKE ? ORDER BY order_no`,
        [`${saleId}-%`],
      );
      return rows.map((row) =>
        Object.fromEntries(
          Object.entries(row).map(([name, value]) => [
            name,
            OF_THE_ATTEMPT.includes(name) ? value !== null : value,
          ]),
        ),
      );
    }),
  );
  const stock = await stores.sales.readStock(saleId);
  for (const table of TABLES) await stores.pool.query(`DELETE FROM ${table}`);
  await stores.pool.query('UPDATE skus SET held = 0');
  return { tables, stock };
}

test('a raw batch writes the rows that storing the orders writes', async () => {
  const skus = [{ sku: SKU, name: 'Unit', unitPrice: 1_000, total: 10, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const orders = buildOrders(saleId, 5);
  await stores.orders.storeOrders(orders, 'due');
  const stored = await takeRows(saleId);
  const connection = await stores.pool.getConnection();
  await storeRawBatch(connection, toRawBatch(orders));
  connection.release();
  expect(stored.tables.map((rows) => rows.length)).toEqual([5, 5, 5, 5]);
  expect(await takeRows(saleId)).toEqual(stored);
});
