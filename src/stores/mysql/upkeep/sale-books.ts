/** The books of a sale in MySQL: counters, ledger and orders as of one moment. */

import { encodeTime } from 'ulidx';
import { z } from 'zod';
import { formatOrderNo, isFinal } from '../../../domain/order.ts';
import { inSnapshot, inTransaction, selectRows, type Executor, type Pool } from '../connection.ts';
import { lockOrder, readOrders, type StoredOrder } from '../rows/order-rows.ts';
import { selectRefunds } from '../rows/refund-rows.ts';
import { correctCounters, readSums, toCounts, type Counts, type CountersOutcome } from './sale-counters.ts';

/** Order numbers in one statement. */
const READ_AT_ONCE = 500;
/** Open orders of a sale at most: the backlog is bounded well below. */
const OPEN_MAX = 40_000;
/**
 * Lines whose units were put back on sale: half of what a sale of a hundred thousand orders sells, read in
 * some hundred milliseconds.
 */
const RETURNED_MAX = 50_000;
/** An order's number is made before its reservation, by a clock that may differ by less. */
const NUMBER_AGE_MS = 60_000;

const saleRow = z.object({ epoch: z.int(), change_no: z.int(), pending: z.coerce.boolean() });
const skuRow = z.object({ sku: z.string(), total: z.int(), held: z.int(), sold: z.int() });
const orderNoRow = z.object({ order_no: z.string() });
const lineRow = z.object({ order_no: z.string(), sku: z.string(), quantity: z.int() });
const returnedRow = lineRow.extend({ part: z.string() });
const ownedRow = lineRow.extend({
  user_id: z.string(),
  reserved_at: z.date(),
  limit_returned: z.coerce.boolean(),
});
const orderedRow = z.object({ order_no: z.string(), user_id: z.string(), sku: z.string() });

/** Units that left or entered the stock for an order. */
export interface BookedLine {
  orderNo: string;
  sku: string;
  quantity: number;
}

/** Units that were put back on sale, by a refund or, where `part` is empty, as what was left. */
interface ReturnedLine extends BookedLine {
  part: string;
}

/** Units that a user bought. */
interface OwnedLine extends BookedLine {
  userId: string;
  reservedAtMs: number;
  /** Units whose limit MySQL gave back; Redis follows. */
  limitReturned: { part: string; quantity: number }[];
}

export interface SaleBooks {
  epoch: number;
  /** Of the sale's last change. */
  changeNo: number;
  /** It is not decided yet, so MySQL is ahead of Redis, or behind. */
  isChanging: boolean;
  /** `booked`: the sums of the ledger. */
  skus: { sku: string; total: number; counted: Counts; booked: Counts }[];
  /** Those of the given held orders that are stored, and those of them that are booked as sold. */
  stored: ReadonlySet<string>;
  soldOfHeld: ReadonlySet<string>;
  /** Units of orders that were reserved after the given moment and are booked as sold. */
  soldSince: BookedLine[];
  /** Units that were put back on sale; undefined: they are too many to be read. */
  returned: ReturnedLine[] | undefined;
  /** Open orders, by row and bookings alike, that were reserved before that moment. */
  open: ReadonlySet<string>;
  /** What the given users bought. */
  owned: OwnedLine[];
}

export interface BooksQuery {
  /** Held orders, as Redis has them. */
  held: readonly string[];
  /** When Redis had them so, by its clock (Unix ms). */
  atMs: number;
  users: readonly string[];
}

export type SaleBooksStore = ReturnType<typeof createSaleBooks>;

export function createSaleBooks(pool: Pool) {
  return {
    /** Undefined when there is no such sale. */
    read: (saleId: string, query: BooksQuery): Promise<SaleBooks | undefined> =>
      inSnapshot(pool, (connection) => readBooks(connection, saleId, query)),

    /** The orders with these numbers, whole. */
    async readOrders(orderNos: readonly string[]): Promise<StoredOrder[]> {
      const orders: StoredOrder[] = [];
      for (let from = 0; from < orderNos.length; from += READ_AT_ONCE) {
        orders.push(...(await readOrders(pool, orderNos.slice(from, from + READ_AT_ONCE))));
      }
      return orders;
    },

    /**
     * Runs `work` while the order is kept from ending: its row is locked meanwhile.
     * @returns undefined when it has ended, or is not stored
     */
    whileOpen: <T>(orderNo: string, work: (stored: StoredOrder) => Promise<T>): Promise<T | undefined> =>
      inTransaction(pool, async (connection) => {
        const stored = await lockOrder(connection, orderNo);
        return stored && !isFinal(stored.state.status) ? work(stored) : undefined;
      }),

    /**
     * Users and what they ordered, by the lines of some orders of the sale.
     * @param after an orderNo; empty: from the first on
     */
    async listOrdered(
      saleId: string,
      after: string,
      limit: number,
    ): Promise<{ orderNo: string; userId: string; sku: string }[]> {
      const rows = await selectRows(
        pool,
        orderedRow,
        `SELECT o.order_no, o.user_id, i.sku FROM orders o JOIN order_items i ON i.order_no = o.order_no
         WHERE o.sale_id = ? AND o.order_no > ? AND o.order_no LIKE ? ORDER BY o.order_no LIMIT ?`,
        [saleId, after, `${saleId}-%`, limit],
      );
      return rows.map((row) => ({ orderNo: row.order_no, userId: row.user_id, sku: row.sku }));
    },

    correctCounters: (saleId: string, sku: string): Promise<CountersOutcome> =>
      correctCounters(pool, saleId, sku),
  };
}

async function readBooks(
  reader: Executor,
  saleId: string,
  { held, atMs, users }: BooksQuery,
): Promise<SaleBooks | undefined> {
  const [sale] = await selectRows(
    reader,
    saleRow,
    'SELECT epoch, change_no, pending_change_no IS NOT NULL AS pending FROM sales WHERE sale_id = ?',
    [saleId],
  );
  if (!sale) return undefined;
  const skus = await selectRows(
    reader,
    skuRow,
    'SELECT sku, total, held, sold FROM skus WHERE sale_id = ? ORDER BY position',
    [saleId],
  );
  const sums = await readSums(reader, saleId);
  return {
    epoch: sale.epoch,
    changeNo: sale.change_no,
    isChanging: sale.pending,
    skus: skus.map(({ sku, total, ...counted }) => ({
      sku,
      total,
      counted: { held: counted.held, sold: counted.sold },
      booked: toCounts(sums.filter((sum) => sum.sku === sku)),
    })),
    stored: await readAmong(reader, 'SELECT order_no FROM orders WHERE order_no IN (?)', held),
    soldOfHeld: await readAmong(
      reader,
      `SELECT DISTINCT order_no FROM stock_ledger WHERE order_no IN (?) AND movement = 'sell'`,
      held,
    ),
    soldSince: await readSoldSince(reader, saleId, sale.epoch, atMs),
    returned: await readReturned(reader, saleId),
    open: await readOpen(reader, saleId, atMs),
    owned: await readOwned(reader, saleId, users),
  };
}

async function readAmong(reader: Executor, sql: string, orderNos: readonly string[]): Promise<Set<string>> {
  const found = new Set<string>();
  for (let from = 0; from < orderNos.length; from += READ_AT_ONCE) {
    const rows = await selectRows(reader, orderNoRow, sql, [orderNos.slice(from, from + READ_AT_ONCE)]);
    for (const row of rows) found.add(row.order_no);
  }
  return found;
}

async function readLines(reader: Executor, sql: string, values: unknown[]): Promise<BookedLine[]> {
  const rows = await selectRows(reader, lineRow, sql, values);
  return rows.map((row) => ({ orderNo: row.order_no, sku: row.sku, quantity: row.quantity }));
}

/** By the range of order numbers that were made since: no other index leads to them. */
function readSoldSince(reader: Executor, saleId: string, epoch: number, atMs: number): Promise<BookedLine[]> {
  const since = encodeTime(atMs - NUMBER_AGE_MS, 10);
  const first = formatOrderNo({ saleId, shard: 0, epoch, ulid: `${since}${'0'.repeat(16)}` });
  const last = formatOrderNo({ saleId, shard: 0, epoch, ulid: 'Z'.repeat(26) });
  return readLines(
    reader,
    `SELECT l.order_no, l.sku, l.quantity FROM orders o
     JOIN stock_ledger l ON l.order_no = o.order_no AND l.movement = 'sell'
     WHERE o.order_no BETWEEN ? AND ? AND o.reserved_at >= ?`,
    [first, last, new Date(atMs)],
  );
}

async function readOpen(reader: Executor, saleId: string, atMs: number): Promise<Set<string>> {
  const rows = await selectRows(
    reader,
    orderNoRow,
    `SELECT o.order_no FROM orders o WHERE o.status = 'awaiting_payment' AND o.sale_id = ? AND o.reserved_at < ?
       AND NOT EXISTS (SELECT 1 FROM stock_ledger l
         WHERE l.order_no = o.order_no AND l.movement IN ('sell', 'release'))
     LIMIT ?`,
    [saleId, new Date(atMs), OPEN_MAX],
  );
  return new Set(rows.map((row) => row.order_no));
}

async function readOwned(reader: Executor, saleId: string, users: readonly string[]): Promise<OwnedLine[]> {
  if (users.length === 0) return [];
  const rows = await selectRows(
    reader,
    ownedRow,
    `SELECT o.order_no, o.user_id, o.reserved_at, o.limit_returned, l.sku, l.quantity FROM orders o
     JOIN stock_ledger l ON l.order_no = o.order_no AND l.movement = 'sell'
     WHERE o.sale_id = ? AND o.user_id IN (?)`,
    [saleId, users],
  );
  const inParts = await readLimitParts(reader, [...new Set(rows.map((row) => row.order_no))]);
  return rows.map(({ order_no: orderNo, sku, quantity, ...row }) => ({
    orderNo,
    userId: row.user_id,
    reservedAtMs: row.reserved_at.getTime(),
    limitReturned: row.limit_returned
      ? [{ part: '', quantity }]
      : inParts.filter((part) => part.orderNo === orderNo && part.sku === sku),
    sku,
    quantity,
  }));
}

/** The units whose limit was given back by refunds of these orders. */
async function readLimitParts(reader: Executor, orderNos: readonly string[]): Promise<ReturnedLine[]> {
  if (orderNos.length === 0) return [];
  const refunds = await selectRefunds(reader, 'order_no IN (?) AND limit_given', [orderNos]);
  return refunds.flatMap(({ refundId, orderNo, items }) =>
    (items ?? []).map((item) => ({ orderNo, part: String(refundId), ...item })),
  );
}

async function readReturned(reader: Executor, saleId: string): Promise<ReturnedLine[] | undefined> {
  const rows = await selectRows(
    reader,
    returnedRow,
    `SELECT order_no, sku, quantity, part FROM stock_ledger WHERE sale_id = ? AND movement = 'return' LIMIT ?`,
    [saleId, RETURNED_MAX + 1],
  );
  // Where one is missed that Redis has yet to follow, its units would be given back twice.
  if (rows.length > RETURNED_MAX) return undefined;
  return rows.map(({ order_no: orderNo, ...line }) => ({ orderNo, ...line }));
}
