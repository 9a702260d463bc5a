/** Sales as the back office sees them: as they are, and whether a change of them is pending. */

import { z } from 'zod';
import { MAX_PAYMENT_WINDOW_MS, WATCHED_AFTER_CLOSE_MS } from '../limits.ts';
import { type Executor, inSnapshot, inTransaction, selectRows, type Pool } from '../mysql/connection.ts';
import { readChange, complete, recordWarmUp, type DecidingStock } from './changes.sql.ts';
import { selectSales, type SaleRecord, insertSale, IS_WATCHED, readSale, withTotals } from './rows.sql.ts';
import { type ShopSaleState, type Sale, type StockCount, saleSchema } from './sale.ts';
import { IN_REDIS_PAGE } from './sale.ts';

export interface ShownSale extends SaleRecord {
  /** A change is recorded, and not made yet. */
  isChanging: boolean;
}

/** By MySQL's clock, as `shopStateOf` says it of one. */
function conditionOf(state: ShopSaleState | undefined): string {
  const shown = 'archived_at IS NULL';
  const isOn = `${shown} AND NOT draft AND closes_at > NOW(3)`;
  switch (state) {
    case undefined:
      return shown;
    case 'draft':
      return `${shown} AND draft`;
    case 'archived':
      return 'archived_at IS NOT NULL';
    case 'closed':
      return `${shown} AND NOT draft AND closes_at <= NOW(3)`;
    case 'paused':
      return `${isOn} AND paused`;
    case 'scheduled':
      return `${isOn} AND NOT paused AND opens_at > NOW(3)`;
    case 'open':
      return `${isOn} AND NOT paused AND opens_at <= NOW(3)`;
    default:
      return state satisfies never;
  }
}

/** In a snapshot: the change that is pending must be of the same moment as the sale. */
async function showSales(reader: Executor, condition: string, values: unknown[]): Promise<ShownSale[]> {
  const found = await selectSales(reader, condition, values);
  const shown: ShownSale[] = [];
  for (const record of found) shown.push(await showSale(reader, record));
  return shown;
}

/** Totals that are to go up are raised before the change is made. */
async function showSale(reader: Executor, record: SaleRecord): Promise<ShownSale> {
  if (record.pendingNo === undefined) return { ...record, isChanging: false };
  const { former } = await readChange(reader, record.sale.saleId, record.pendingNo);
  return { ...record, ...former, stock: withTotals(record.stock, former.sale), isChanging: true };
}

// Sales in MySQL: their creation, and reads for all who follow them.

const saleIdRow = z.object({ sale_id: z.string() });

/**
 * Creates the sale with its SKUs. A sale that exists is left as it is.
 * @throws ZodError that lists what is wrong with the sale
 */
export function create(pool: Pool, input: Sale): Promise<void> {
  return inTransaction(pool, async (connection) => {
    await insertSale(connection, { sale: saleSchema.parse(input), isDraft: false });
  });
}

/**
 * Puts the sale into Redis, once in its life, because stock that Redis has lost must not come back as
 * unsold. A draft is left where it is.
 * @throws when a store is away; a repeat goes on where it ended
 */
export async function warmUp(pool: Pool, saleId: string, saleStock: DecidingStock): Promise<void> {
  const change = await recordWarmUp(pool, saleId);
  const end = change && (await complete(pool, change, saleStock));
  if (change && !end) throw new Error(`sale ${saleId} cannot be put into Redis now`);
}

/** As it is: a change that is pending does not show. Undefined: there is no such sale. */
export async function read(pool: Pool, saleId: string): Promise<ShownSale | undefined> {
  return (await readAll(pool, [saleId]))[0];
}

/** Those of these sales that there are, as `read` has them. @param saleIds at least one */
export function readAll(pool: Pool, saleIds: readonly string[]): Promise<ShownSale[]> {
  return inSnapshot(pool, (connection) => showSales(connection, 'sale_id IN (?)', [saleIds]));
}

/**
 * Sales in the order of their ids.
 * @param state undefined: all but archived ones
 * @param after an id; empty: from the first on
 */
export function list(
  pool: Pool,
  state: ShopSaleState | undefined,
  after: string,
  limit: number,
): Promise<ShownSale[]> {
  return inSnapshot(pool, (connection) =>
    showSales(connection, `sale_id > ? AND ${conditionOf(state)} ORDER BY sale_id LIMIT ?`, [after, limit]),
  );
}

/** The stock as MySQL counts it: total = available + held + sold, where `available` is derived. */
export async function readStock(pool: Pool, saleId: string): Promise<StockCount[]> {
  return (await readSale(pool, saleId))?.stock ?? [];
}

/** Whether the sale's data in Redis are made again when they are lost. */
export async function isWatched(pool: Pool, saleId: string): Promise<boolean> {
  const rows = await selectRows(
    pool,
    saleIdRow,
    `SELECT sale_id FROM sales WHERE sale_id = ? AND ${IS_WATCHED}`,
    [saleId, WATCHED_AFTER_CLOSE_MS],
  );
  return rows.length > 0;
}

/** In ms, of the sales whose orders may still be paid; 0 where there is none. */
export async function longestPaymentWindowMs(pool: Pool): Promise<number> {
  const [row] = await selectRows(
    pool,
    z.object({ longest: z.coerce.number() }),
    `SELECT COALESCE(MAX(payment_window_ms), 0) AS longest FROM sales
         WHERE closes_at > NOW(3) - INTERVAL ? SECOND`,
    [(2 * MAX_PAYMENT_WINDOW_MS) / 1_000],
  );
  return row?.longest ?? 0;
}

/** Whether the sale's data in Redis were removed for good, long after its end. */
export async function isRedisCleaned(pool: Pool, saleId: string): Promise<boolean> {
  const rows = await selectRows(
    pool,
    saleIdRow,
    'SELECT sale_id FROM sales WHERE sale_id = ? AND redis_cleaned_at IS NOT NULL',
    [saleId],
  );
  return rows.length > 0;
}

/**
 * A page of the sales that Redis has, or is to have again, in the order of their ids.
 * @param after an id; empty: from the first on
 */
export async function listInRedis(pool: Pool, after: string): Promise<string[]> {
  const rows = await selectRows(
    pool,
    saleIdRow,
    `SELECT sale_id FROM sales WHERE redis_cleaned_at IS NULL AND warmed_up_at IS NOT NULL AND sale_id > ?
         ORDER BY sale_id LIMIT ?`,
    [after, IN_REDIS_PAGE],
  );
  return rows.map((row) => row.sale_id);
}

/**
 * The sales that Redis has, that have opened before then, and that may have open orders: one that is settled
 * has none. Those that opened last come first.
 */
export async function listUnsettled(pool: Pool, beforeMs: number, limit: number): Promise<string[]> {
  const rows = await selectRows(
    pool,
    saleIdRow,
    // What is announced as closed has opened.
    `SELECT sale_id FROM sales FORCE INDEX (sales_looked_after)
       WHERE settled_at IS NULL AND draft = FALSE AND (closed_at IS NOT NULL OR (closed_at IS NULL AND opens_at < ?))
         AND warmed_up_at IS NOT NULL ORDER BY opens_at DESC, sale_id LIMIT ?`,
    [new Date(beforeMs), limit],
  );
  return rows.map((row) => row.sale_id);
}

/** Every sale's id, the newest first. */
export async function listIds(pool: Pool): Promise<string[]> {
  const rows = await selectRows(
    pool,
    saleIdRow,
    'SELECT sale_id FROM sales ORDER BY created_at DESC, sale_id',
  );
  return rows.map((row) => row.sale_id);
}
