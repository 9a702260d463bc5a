/**
 * The sales that are looked after, and what is announced of them, each once: under the lock of the sale's row
 * it is checked again, marked, and written as an event.
 */

import { z } from 'zod';
import type { ShopEventType } from '../events/event.ts';
import { modify, inTransaction, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { lockSale, recordShopEvent, type SaleRecord, selectSales } from './rows.sql.ts';
import { snapshotSale, shopStateOf, type StockCount } from './sale.ts';

/** Sales that are looked after at once, with all of their SKUs. The others follow, however many there are. */
const LOOKED_AFTER_AT_ONCE = 50;
/** Each takes a connection to MySQL, which has others to serve. */
const WARMED_UP_AT_ONCE = 10;

/** The last sale of a page: the next page begins after it. */
export interface SaleCursor {
  saleId: string;
  at: Date;
}

/** @param next undefined: there are no more */
export interface SalePage<T> {
  sales: T[];
  next: SaleCursor | undefined;
}

const OPENS_WITHIN = 'opens_at <= NOW(3) + INTERVAL ? * 1000 MICROSECOND';

const cursorRow = z.object({ sale_id: z.string(), at: z.date() });

/**
 * The sales after a cursor, in the order of a column.
 * @param index that begins at the cursor; with a choice of two the server has read all before it
 */
async function listPlaces(
  pool: Pool,
  index: 'sales_to_warm_up' | 'sales_looked_after' | 'sales_to_settle',
  column: 'opens_at' | 'closed_at',
  condition: string,
  values: unknown[],
  { saleId, at } = { saleId: '', at: new Date(0) },
  limit = LOOKED_AFTER_AT_ONCE,
): Promise<SalePage<string>> {
  const rows = await selectRows(
    pool,
    cursorRow,
    `SELECT sale_id, ${column} AS at FROM sales FORCE INDEX (${index})
       WHERE settled_at IS NULL AND draft = FALSE AND ${condition}
         AND (${column} > ? OR (${column} = ? AND sale_id > ?)) ORDER BY ${column}, sale_id LIMIT ?`,
    [...values, at, at, saleId, limit],
  );
  const last = rows.length === limit ? rows.at(-1) : undefined;
  return {
    sales: rows.map((row) => row.sale_id),
    next: last && { saleId: last.sale_id, at: last.at },
  };
}

async function readAll(pool: Pool, { sales, next }: SalePage<string>): Promise<SalePage<SaleRecord>> {
  return { sales: sales.length > 0 ? await selectSales(pool, 'sale_id IN (?)', [sales]) : [], next };
}

/** @returns whether it was announced now */
function announce(
  pool: Pool,
  saleId: string,
  type: ShopEventType,
  {
    isDue,
    mark,
    stock,
  }: {
    isDue: (found: SaleRecord) => boolean;
    /** Assignments to the sale's columns. */
    mark: string;
    /** As Redis counts it; by default MySQL's. */
    stock?: readonly StockCount[] | undefined;
  },
): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const found = await lockSale(connection, saleId);
    // A change that is pending may yet move its end, or its stock.
    if (!found || found.pendingNo !== undefined || !isDue(found)) return false;
    await modify(connection, `UPDATE sales SET ${mark} WHERE sale_id = ?`, [saleId]);
    await record(connection, found, type, stock ?? found.stock);
    return true;
  });
}

/** Sales that are to be put into Redis: they open within so long, or have opened. By opening. */
export function listToWarmUp(pool: Pool, aheadMs: number, after?: SaleCursor): Promise<SalePage<string>> {
  return listPlaces(
    pool,
    'sales_to_warm_up',
    'opens_at',
    `warmed_up_at IS NULL AND pending_change_no IS NULL AND closes_at > NOW(3) AND ${OPENS_WITHIN}`,
    [aheadMs],
    after,
    WARMED_UP_AT_ONCE,
  );
}

/** Sales that open within so long, or have opened, and whose end is not announced. By opening. */
export async function listOn(pool: Pool, aheadMs: number, after?: SaleCursor): Promise<SalePage<SaleRecord>> {
  return readAll(
    pool,
    await listPlaces(
      pool,
      'sales_looked_after',
      'opens_at',
      `closed_at IS NULL AND ${OPENS_WITHIN}`,
      [aheadMs],
      after,
    ),
  );
}

/** Sales whose end is announced, and that are not settled. By the announcement. */
export async function listClosed(pool: Pool, after?: SaleCursor): Promise<SalePage<SaleRecord>> {
  return readAll(
    pool,
    await listPlaces(pool, 'sales_to_settle', 'closed_at', 'closed_at IS NOT NULL', [], after),
  );
}

export function announceOpened(pool: Pool, saleId: string, stock: readonly StockCount[]): Promise<boolean> {
  return announce(pool, saleId, 'sale.opened', {
    isDue: (found) => !found.hasOpened && shopStateOf(found) === 'open',
    mark: 'opened_at = NOW(3)',
    stock,
  });
}

/** @param count how often it was announced before, as it was read before the stock was */
export function announceSoldOut(
  pool: Pool,
  saleId: string,
  count: number,
  stock: readonly StockCount[],
): Promise<boolean> {
  return announce(pool, saleId, 'sale.sold_out', {
    isDue: ({ soldOut }) => !soldOut.isAnnounced && soldOut.count === count,
    mark: 'sold_out_at = NOW(3), sold_out_count = sold_out_count + 1',
    stock,
  });
}

/** Units are available again, so the sale may sell out once more. */
export async function noteAvailable(pool: Pool, saleId: string, count: number): Promise<void> {
  await modify(
    pool,
    'UPDATE sales SET sold_out_at = NULL WHERE sale_id = ? AND sold_out_at IS NOT NULL AND sold_out_count = ?',
    [saleId, count],
  );
}

/** @param stock undefined: Redis does not have the sale, and is not to have it */
export function announceClosed(
  pool: Pool,
  saleId: string,
  stock: readonly StockCount[] | undefined,
): Promise<boolean> {
  return announce(pool, saleId, 'sale.closed', {
    isDue: (found) => !found.hasClosed && !found.isDraft && found.nowMs >= found.sale.closesAtMs,
    mark: 'closed_at = NOW(3)',
    stock,
  });
}

/** Call it when nothing is held in Redis either. */
export function announceSettled(pool: Pool, saleId: string): Promise<boolean> {
  return announce(pool, saleId, 'sale.settled', {
    isDue: (found) => found.hasClosed && !found.isSettled && found.stock.every(({ held }) => held === 0),
    mark: 'settled_at = NOW(3)',
  });
}

function record(
  connection: PoolConnection,
  found: SaleRecord,
  type: ShopEventType,
  stock: readonly StockCount[],
): Promise<void> {
  const { saleId } = found.sale;
  return recordShopEvent(connection, {
    type,
    saleId,
    subject: saleId,
    data: { sale: snapshotSale(found, stock) },
  });
}
