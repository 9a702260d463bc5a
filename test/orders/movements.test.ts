/** Movements of stock: each is in the ledger, and all of a transaction are counted together. */

import { beforeAll, expect, test } from 'vitest';
import { inTransaction } from '../../src/mysql/connection.ts';
import { bookMovements, UnknownSkuError, type Booking } from '../../src/orders/rows.sql.ts';
import { watchedPool } from '../money/pausing-pool.ts';
import { buildSale } from '../support/factories.ts';
import { expectBooksToBalance, select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

let statements: string[] = [];
const book = (bookings: readonly Booking[]) => {
  statements = [];
  const pool = watchedPool(stores.pool, (sql) => statements.push(sql));
  return inTransaction(pool, (connection) => bookMovements(connection, bookings));
};

/** In a transaction that is not repeated. */
async function bookOnce(bookings: readonly Booking[]): Promise<void> {
  const connection = await stores.pool.getConnection();
  try {
    await connection.beginTransaction();
    await bookMovements(connection, bookings);
    await connection.commit();
  } finally {
    connection.release();
  }
}

let orders = 0;
const movement = (kind: Booking['movement'], saleId: string, units: Record<string, number>): Booking => ({
  movement: kind,
  orderNo: `${saleId}-${(orders += 1)}`,
  saleId,
  items: Object.entries(units).map(([sku, quantity]) => ({ sku, quantity })),
});

const countersOf = async (saleId: string) =>
  (await stores.sales.readStock(saleId)).map(({ sku, held, sold }) => [sku, held, sold]);

test('what is held, sold, released and returned of a SKU is one update of its row, after the ledger', async () => {
  const [one, other] = [await stores.openSale(buildSale()), await stores.openSale(buildSale())];
  const [saleId, otherId] = [one.saleId, other.saleId].toSorted();
  if (saleId === undefined || otherId === undefined) throw new Error('two sales');
  await book([movement('hold', saleId, { lamp: 6, mug: 2 }), movement('hold', otherId, { mug: 1 })]);
  await book([movement('sell', saleId, { lamp: 1 })]);

  await book([
    movement('sell', otherId, { mug: 1 }),
    movement('release', saleId, { mug: 1, lamp: 2 }),
    movement('hold', saleId, { lamp: 4 }),
    movement('sell', saleId, { lamp: 2 }),
    movement('return', saleId, { lamp: 1 }),
  ]);

  expect(statements.map((sql) => /^\s*\w+( INTO)? \w+/.exec(sql)?.[0])).toEqual([
    'INSERT INTO stock_ledger',
    'UPDATE skus',
    'UPDATE skus',
    'UPDATE skus',
  ]);
  expect(await countersOf(saleId)).toEqual([
    ['lamp', 5, 2],
    ['mug', 1, 0],
  ]);
  expect(await countersOf(otherId)).toEqual([
    ['lamp', 0, 0],
    ['mug', 0, 1],
  ]);
  await expectBooksToBalance(stores, saleId);
  await expectBooksToBalance(stores, otherId);
});

test('transactions that count the same SKUs in another order wait for each other, and none meets a deadlock', async () => {
  const { saleId } = await stores.openSale(
    buildSale({
      skus: ['lamp', 'mug'].map((sku) => ({ sku, name: sku, unitPrice: 1, total: 100, limitPerUser: null })),
    }),
  );
  const rounds = Array.from({ length: 20 }, (_, i) => {
    const [first, second] = [movement('hold', saleId, { lamp: 1 }), movement('hold', saleId, { mug: 1 })];
    return i % 2 === 0 ? [first, second] : [second, first];
  });
  await Promise.all(rounds.map(bookOnce));
  expect(await countersOf(saleId)).toEqual([
    ['lamp', 20, 0],
    ['mug', 20, 0],
  ]);
});

test('a SKU that its sale does not have fails the transaction, with all that it has booked', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const bookings = [movement('hold', saleId, { lamp: 1 }), movement('hold', saleId, { gone: 1 })];
  await expect(book(bookings)).rejects.toThrow(UnknownSkuError);
  expect(await select(stores.pool, 'SELECT sku FROM stock_ledger WHERE sale_id = ?', [saleId])).toEqual([]);
  expect(await countersOf(saleId)).toEqual([
    ['lamp', 0, 0],
    ['mug', 0, 0],
  ]);
});

test('no movements are no statement', async () => {
  await book([]);
  expect(statements).toEqual([]);
});
