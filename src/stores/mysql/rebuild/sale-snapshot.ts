/** Reads for a rebuild: all of a sale as MySQL has it at one moment, page by page. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import type { Sale, StockCount } from '../../../domain/sale.ts';
import { beginSnapshot, selectRows, type PoolConnection } from '../connection.ts';
import { selectOrders, type StoredOrder } from '../rows/order-rows.ts';
import { readSale } from '../rows/sale-rows.ts';
import type { RebuildLock } from './sale-epochs.ts';

/** Orders of one page: a big sale has hundreds of thousands, and an answer should stay small. */
const PAGE_SIZE = 1_000;

const returnRow = z.object({
  order_no: z.string(),
  limit_returned: z.coerce.boolean(),
  stock_returned: z.coerce.boolean(),
});

/** A stored order, and what a paid one has given back. */
export interface SnapshotOrder extends StoredOrder {
  isLimitReturned: boolean;
  isStockReturned: boolean;
}

export interface SaleSnapshot {
  sale: Sale;
  /** Of its last change; none is pending while a rebuild goes on. */
  changeNo: number;
  stock: StockCount[];
  /** In the order of their numbers; one page at a time is in memory. */
  pages: AsyncIterable<SnapshotOrder[]>;
}

/**
 * Runs `use` over the sale as it is at this moment. Changes that are committed meanwhile are not seen.
 * @throws when MySQL is away or too slow
 */
export async function readSaleSnapshot<T>(
  { run }: RebuildLock,
  saleId: string,
  use: (snapshot: SaleSnapshot) => Promise<T>,
): Promise<T> {
  const found = await run(async (connection) => {
    await beginSnapshot(connection);
    return readSale(connection, saleId);
  });
  assert(found, `no sale ${saleId}`);
  const { sale, changeNo, stock } = found;
  const result = await use({ sale, changeNo, stock, pages: readPages(run, saleId) });
  await run((connection) => connection.commit());
  return result;
}

async function* readPages(run: RebuildLock['run'], saleId: string): AsyncGenerator<SnapshotOrder[]> {
  for (let after = ''; ;) {
    const page = await run((connection) => readPage(connection, saleId, after));
    const last = page.at(-1);
    if (!last) return;
    yield page;
    after = last.order.orderNo;
  }
}

async function readPage(connection: PoolConnection, saleId: string, after: string): Promise<SnapshotOrder[]> {
  // The pattern makes it a range of the primary key.
  const orders = await selectOrders(
    connection,
    'sale_id = ? AND order_no > ? AND order_no LIKE ? ORDER BY order_no LIMIT ?',
    [saleId, after, `${saleId}-%`, PAGE_SIZE],
  );
  if (orders.length === 0) return [];
  const rows = await selectRows(
    connection,
    returnRow,
    `SELECT order_no, limit_returned, stock_returned FROM orders
     WHERE order_no IN (?) AND (limit_returned OR stock_returned)`,
    [orders.map(({ order }) => order.orderNo)],
  );
  const returned = new Map(rows.map((row) => [row.order_no, row]));
  return orders.map((stored) => {
    const row = returned.get(stored.order.orderNo);
    return {
      ...stored,
      isLimitReturned: row?.limit_returned ?? false,
      isStockReturned: row?.stock_returned ?? false,
    };
  });
}
