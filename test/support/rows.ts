/** Reads of MySQL's rows for assertions. */

import { expect } from 'vitest';
import { z } from 'zod';
import { selectRows, type Pool } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import type { StoreOutcome } from '../../src/orders/store.sql.ts';
import type { TestStores } from './stores.ts';
import { waitFor } from './wait.ts';

type Row = Record<string, unknown>;

export function select(pool: Pool, sql: string, values: unknown[] = []): Promise<Row[]> {
  return selectRows(pool, z.looseObject({}), sql, values);
}

export async function selectOne(pool: Pool, sql: string, values: unknown[] = []): Promise<Row> {
  const [row, ...more] = await select(pool, sql, values);
  if (!row || more.length > 0) throw new Error(`${row ? 'several rows' : 'no row'}: ${sql}`);
  return row;
}

/** The number that MySQL gave to the only payment of the order. */
export async function readPaymentId(pool: Pool, orderNo: string): Promise<number> {
  const row = await selectOne(pool, 'SELECT payment_id FROM payments WHERE order_no = ?', [orderNo]);
  return Number(row['payment_id']);
}

/** Every row about the sale's orders: equal results mean that nothing was written. */
export async function everything(pool: Pool, saleId: string): Promise<Record<string, Row[]>> {
  const ofSale = 'order_no IN (SELECT order_no FROM orders WHERE sale_id = ?)';
  const read = (table: string, condition: string) =>
    select(pool, `SELECT * FROM ${table} WHERE ${condition} ORDER BY 1, 2`, [saleId]);
  return {
    skus: await read('skus', 'sale_id = ?'),
    orders: await read('orders', 'sale_id = ?'),
    items: await read('order_items', ofSale),
    events: await read('order_events', ofSale),
    ledger: await read('stock_ledger', 'sale_id = ?'),
    payments: await read('payments', ofSale),
    refunds: await read('refunds', ofSale),
  };
}

/** The counters of every SKU are what the ledger adds up to, and never more than the total. */
export async function expectBooksToBalance(stores: TestStores, saleId: string): Promise<void> {
  const booked = await select(
    stores.pool,
    `SELECT skus.sku,
       CAST(COALESCE(SUM(CASE movement WHEN 'hold' THEN quantity WHEN 'return' THEN 0 ELSE -quantity END), 0) AS SIGNED) AS held,
       CAST(COALESCE(SUM(CASE movement WHEN 'sell' THEN quantity WHEN 'return' THEN -quantity ELSE 0 END), 0) AS SIGNED) AS sold
     FROM skus LEFT JOIN stock_ledger USING (sale_id, sku) WHERE sale_id = ? GROUP BY skus.sku, position ORDER BY position`,
    [saleId],
  );
  const stock = await stores.sales.readStock(saleId);
  expect(stock.map(({ sku, held, sold }) => ({ sku, held: held + 0, sold }))).toEqual(booked);
  for (const { available } of stock) expect(available).toBeGreaterThanOrEqual(0);
}

/** The outcomes' kinds, and why an order was refused, in the order of `orders`. */
export function kindsOf(outcomes: Map<string, StoreOutcome>, orders: readonly Order[]): string[] {
  return orders.map(({ orderNo }) => {
    const outcome = outcomes.get(orderNo);
    return outcome?.kind === 'refused' ? outcome.reason : (outcome?.kind ?? 'no outcome');
  });
}

/**
 * Waits until another connection is at a statement like
 * this one; with a lock of ours in its way it stays there.
 */
export async function waitForStatement(pool: Pool, like: string): Promise<void> {
  await waitFor(`the statement ${like}`, async () => {
    const running = await select(
      pool,
      'SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE ? AND id <> CONNECTION_ID()',
      [like],
    );
    return running.length > 0;
  });
}
