/** Reads for a rebuild: all of a sale as MySQL has it at one moment, page by page. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import type { OrderUnits } from '../../../domain/order.ts';
import type { Sale, StockCount } from '../../../domain/sale.ts';
import { beginSnapshot, selectRows, type PoolConnection } from '../connection.ts';
import { selectOrders, type StoredOrder } from '../rows/order-rows.ts';
import { readSale } from '../rows/sale-rows.ts';
import type { RebuildLock } from './sale-epochs.ts';

/** Orders of one page: a big sale has hundreds of thousands, and an answer should stay small. */
const PAGE_SIZE = 1_000;

const returnRow = z.object({
  order_no: z.string(),
  part: z.string(),
  limit_given: z.coerce.boolean(),
  stock_given: z.coerce.boolean(),
});
const freeRow = z.object({ order_no: z.string(), sku: z.string(), units: z.int() });

/** A stored order, and what a paid one has given back. */
export interface SnapshotOrder extends StoredOrder {
  returns: { part: string; what: 'stock' | 'limit' }[];
  /** Units that count against the user's limit, of an order that is open or paid. */
  counted: OrderUnits[];
}

export interface SaleSnapshot {
  sale: Sale;
  /** Of its last change; none is pending while a rebuild goes on. */
  changeNo: number;
  changeId: string;
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
  const { sale, changeNo, changeId, stock } = found;
  const result = await use({ sale, changeNo, changeId, stock, pages: readPages(run, saleId) });
  await run((connection) => connection.commit());
  return result;
}

/** Reads the next page while the last one is written. */
async function* readPages(run: RebuildLock['run'], saleId: string): AsyncGenerator<SnapshotOrder[]> {
  const read = (after: string) => run((connection) => readPage(connection, saleId, after));
  for (let next = read(''); ;) {
    const page = await next;
    const last = page.at(-1);
    if (!last) return;
    next = read(last.order.orderNo);
    // Where the writing fails, nobody waits for it any more; else it is thrown above.
    next.catch(() => undefined);
    yield page;
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
  const orderNos = orders.map(({ order }) => order.orderNo);
  const returns = await readReturns(connection, orderNos);
  const free = await selectRows(
    connection,
    freeRow,
    `SELECT order_no, sku, limit_returned AS units FROM order_items
     WHERE order_no IN (?) AND limit_returned > 0`,
    [orderNos],
  );
  const freeUnits = new Map(free.map((row) => [`${row.order_no} ${row.sku}`, row.units]));
  return orders.map((stored) => {
    const { orderNo, items } = stored.order;
    const counted = items.map(({ sku, quantity }) => ({
      sku,
      quantity: quantity - (freeUnits.get(`${orderNo} ${sku}`) ?? 0),
    }));
    return { ...stored, returns: returns.get(orderNo) ?? [], counted };
  });
}

/** What these orders have given back, by refund. */
async function readReturns(
  connection: PoolConnection,
  orderNos: readonly string[],
): Promise<Map<string, SnapshotOrder['returns']>> {
  const rows = await selectRows(
    connection,
    returnRow,
    `SELECT order_no, CAST(refund_id AS CHAR) AS part, limit_given, stock_given FROM refunds
     WHERE order_no IN (?) AND (limit_given OR stock_given)`,
    [orderNos],
  );
  const returns = new Map<string, SnapshotOrder['returns']>();
  for (const { order_no: orderNo, part, limit_given: limit, stock_given: stock } of rows) {
    const marks = returns.get(orderNo) ?? [];
    if (stock) marks.push({ part, what: 'stock' });
    if (limit) marks.push({ part, what: 'limit' });
    returns.set(orderNo, marks);
  }
  return returns;
}
