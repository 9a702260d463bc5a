/**
 * The books of a sale in MySQL: counters, ledger and orders as of one moment. What grows with the sale is
 * read page by page of that moment.
 */

import assert from 'node:assert/strict';
import { encodeTime } from 'ulidx';
import { z } from 'zod';
import { partOf, selectRefunds } from '../money/rows.sql.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  inSnapshot,
} from '../mysql/connection.ts';
import { boundsOfSale, formatOrderNo, isFinal } from '../orders/order.ts';
import { lockOrder, readOrders, type StoredOrder } from '../orders/rows.sql.ts';
import { recordAction } from '../parked/parked.sql.ts';
import { SYSTEM } from './repairs.sql.ts';

// The counters of a SKU in MySQL, compared with its ledger and orders, and corrected.

const countersRow = z.object({ total: z.int(), held: z.int(), sold: z.int() });
const sumRow = z.object({
  sku: z.string(),
  movement: z.enum(['hold', 'sell', 'release', 'return']),
  units: z.coerce.number(),
});
const countRow = z.object({ held: z.coerce.number(), sold: z.coerce.number() });

interface Counts {
  held: number;
  sold: number;
}

/** unexplained: the ledger and the orders do not agree either, so no rule says what is right. */
export type CountersOutcome = { kind: 'corrected' | 'right' } | { kind: 'unexplained'; detail: string };

/** What the states of all orders imply; slow, and needed only where counters are wrong. */
const ORDERED = `SELECT COALESCE(SUM(IF(o.status = 'awaiting_payment', i.quantity, 0)), 0) AS held,
    COALESCE(SUM(IF(o.status = 'paid', i.quantity - i.stock_returned, 0)), 0) AS sold
  FROM orders o JOIN order_items i ON i.order_no = o.order_no WHERE o.sale_id = ? AND i.sku = ?`;

/**
 * Sets a SKU's counters to what ledger and orders say, where these two agree, and writes it down. Under
 * the lock of the counters' row each booking is either whole or has not begun.
 */
export function correctCounters(pool: Pool, saleId: string, sku: string): Promise<CountersOutcome> {
  return inTransaction(pool, async (connection) => {
    const [row] = await selectRows(
      connection,
      countersRow,
      'SELECT total, held, sold FROM skus WHERE sale_id = ? AND sku = ? FOR UPDATE',
      [saleId, sku],
    );
    assert(row, `sale ${saleId} has no SKU ${sku}`);
    const booked = toCounts((await readSums(connection, saleId)).filter((sum) => sum.sku === sku));
    const before = { held: row.held, sold: row.sold };
    if (isEqual(before, booked)) return { kind: 'right' };
    const [ordered = { held: 0, sold: 0 }] = await selectRows(connection, countRow, ORDERED, [saleId, sku]);
    const detail = `counted ${show(before)}; booked ${show(booked)}; in orders ${show(ordered)}`;
    const isPossible = booked.held >= 0 && booked.sold >= 0 && booked.held + booked.sold <= row.total;
    if (!isEqual(booked, ordered) || !isPossible) return { kind: 'unexplained', detail };
    await modify(connection, 'UPDATE skus SET held = ?, sold = ? WHERE sale_id = ? AND sku = ?', [
      booked.held,
      booked.sold,
      saleId,
      sku,
    ]);
    await recordAction(connection, {
      actor: SYSTEM,
      reason: null,
      action: 'counters_corrected',
      subject: `sale ${saleId} ${sku}`,
      detail: { before, after: booked },
    });
    return { kind: 'corrected' };
  });
}

/** The sums of the ledger, by movement and SKU. */
function readSums(reader: Executor, saleId: string) {
  return selectRows(
    reader,
    sumRow,
    'SELECT movement, sku, SUM(quantity) AS units FROM stock_ledger WHERE sale_id = ? GROUP BY movement, sku',
    [saleId],
  );
}

function toCounts(sums: readonly z.infer<typeof sumRow>[]): Counts {
  const units = (movement: string) =>
    sums.filter((sum) => sum.movement === movement).reduce((all, sum) => all + sum.units, 0);
  return {
    held: units('hold') - units('sell') - units('release'),
    sold: units('sell') - units('return'),
  };
}

function isEqual(one: Counts, other: Counts): boolean {
  return one.held === other.held && one.sold === other.sold;
}

function show({ held, sold }: Counts): string {
  return `${held} held and ${sold} sold`;
}

/** Order numbers or users in one statement, and rows of a page: some milliseconds. */
const READ_AT_ONCE = 500;
/** Less than a step may take. 300,000 held orders take a quarter of it on a machine that is busy. */
const LOOK_MAX_MS = 4 * 60_000;
/** An order's number is made before its reservation, by a clock that may differ by less. */
const NUMBER_AGE_MS = 60_000;

const saleRow = z.object({ epoch: z.int(), change_no: z.int(), pending: z.coerce.boolean() });
const skuRow = z.object({ sku: z.string(), total: z.int(), held: z.int(), sold: z.int() });
const orderNoRow = z.object({ order_no: z.string() });
const lineRow = z.object({ order_no: z.string(), sku: z.string(), quantity: z.int() });
const laterRow = lineRow.extend({ reserved_at: z.date() });
const returnedRow = lineRow.extend({ part: z.string(), entry_id: z.int() });
const movementRow = z.object({ order_no: z.string(), movement: z.enum(['hold', 'sell', 'release']) });
const ownedRow = lineRow.extend({ user_id: z.string(), reserved_at: z.date() });
const orderedRow = z.object({ order_no: z.string(), user_id: z.string(), sku: z.string() });

/** Units that left or entered the stock for an order. */
interface BookedLine {
  orderNo: string;
  sku: string;
  quantity: number;
}

/** Of an order that was reserved after the look. */
interface LaterLine extends BookedLine {
  reservedAtMs: number;
}

/** Units that were put back on sale, by this part of what the order gives back. */
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
  /** Units of orders that were reserved after the given moment and are booked as sold. */
  soldSince: LaterLine[];
  /** What the given users bought. */
  owned: OwnedLine[];
  /** Units that were put back on sale, page by page. */
  listReturned: () => AsyncIterable<ReturnedLine[]>;
  /** Open orders, by row and bookings alike, that were reserved before that moment, page by page. */
  listOpen: () => AsyncIterable<string[]>;
  /** What is booked of these orders, but returns. */
  readBooked: (orderNos: readonly string[]) => Promise<Map<string, BookedState>>;
  /** Those of these orders that are stored. */
  readStored: (orderNos: readonly string[]) => Promise<Set<string>>;
  /** The orders with these numbers, whole. */
  readOrders: (orderNos: readonly string[]) => Promise<StoredOrder[]>;
}

/** What the bookings of an order say of its units. */
export type BookedState = 'open' | 'sold' | 'released';

export interface BooksQuery {
  /** The moment of Redis that they are compared with, by its clock (Unix ms). */
  atMs: number;
  users: readonly string[];
}

/**
 * Runs `use` over the books as they are now; its reads are of the same moment.
 * @returns undefined when there is no such sale
 */
export function read<T>(
  pool: Pool,
  saleId: string,
  query: BooksQuery,
  use: (books: SaleBooks) => Promise<T>,
): Promise<T | undefined> {
  return inSnapshot(
    pool,
    async (connection) => {
      const books = await readBooks(connection, saleId, query);
      return books && use(books);
    },
    LOOK_MAX_MS,
  );
}

/**
 * Runs `work` while the order is kept from ending: its row is locked meanwhile.
 * @returns undefined when it has ended, or is not stored
 */
export function whileOpen<T>(
  pool: Pool,
  orderNo: string,
  work: (stored: StoredOrder) => Promise<T>,
): Promise<T | undefined> {
  return inTransaction(pool, async (connection) => {
    const stored = await lockOrder(connection, orderNo);
    return stored && !isFinal(stored.state.status) ? work(stored) : undefined;
  });
}

/**
 * Users and what they ordered, by the lines of some orders of the sale.
 * @param after an orderNo; empty: from the first on
 */
export async function listOrdered(
  pool: Pool,
  saleId: string,
  after: string,
  limit: number,
): Promise<{ orderNo: string; userId: string; sku: string }[]> {
  const rows = await selectRows(
    pool,
    orderedRow,
    `SELECT o.order_no, o.user_id, i.sku
     FROM orders o FORCE INDEX (PRIMARY) STRAIGHT_JOIN order_items i ON i.order_no = o.order_no
     WHERE o.sale_id = ? AND o.order_no > ? AND o.order_no < ? ORDER BY o.order_no LIMIT ?`,
    [saleId, ...boundsOfSale(saleId, after), limit],
  );
  return rows.map((row) => ({ orderNo: row.order_no, userId: row.user_id, sku: row.sku }));
}

async function readBooks(
  reader: Executor,
  saleId: string,
  { atMs, users }: BooksQuery,
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
    soldSince: await readSoldSince(reader, saleId, sale.epoch, atMs),
    owned: await readOwned(reader, saleId, users),
    listReturned: () =>
      listReturned(
        reader,
        saleId,
        skus.map(({ sku }) => sku),
      ),
    listOpen: () => listOpen(reader, saleId, atMs),
    readBooked: (orderNos) => readBooked(reader, orderNos),
    async readStored(orderNos) {
      const rows = await inPages(orderNos, (page) =>
        selectRows(reader, orderNoRow, 'SELECT order_no FROM orders WHERE order_no IN (?)', [page]),
      );
      return new Set(rows.map((row) => row.order_no));
    },
    readOrders: (orderNos) => inPages(orderNos, (page) => readOrders(reader, page)),
  };
}

async function inPages<T>(
  ids: readonly string[],
  readPage: (page: readonly string[]) => Promise<T[]>,
): Promise<T[]> {
  const found: T[] = [];
  for (let from = 0; from < ids.length; from += READ_AT_ONCE) {
    for (const row of await readPage(ids.slice(from, from + READ_AT_ONCE))) found.push(row);
  }
  return found;
}

/** A tombstone has none. */
async function readBooked(reader: Executor, orderNos: readonly string[]): Promise<Map<string, BookedState>> {
  const rows = await inPages(orderNos, (page) =>
    selectRows(
      reader,
      movementRow,
      `SELECT DISTINCT order_no, movement FROM stock_ledger
       WHERE order_no IN (?) AND movement IN ('hold', 'sell', 'release')`,
      [page],
    ),
  );
  const booked = new Map<string, BookedState>();
  for (const { order_no: orderNo, movement } of rows) {
    if (movement === 'sell') booked.set(orderNo, 'sold');
    else if (movement === 'release') booked.set(orderNo, 'released');
    else if (!booked.has(orderNo)) booked.set(orderNo, 'open');
  }
  return booked;
}

/** By the range of order numbers that were made since: no other index leads to them. */
async function readSoldSince(
  reader: Executor,
  saleId: string,
  epoch: number,
  atMs: number,
): Promise<LaterLine[]> {
  const since = encodeTime(atMs - NUMBER_AGE_MS, 10);
  const first = formatOrderNo({ saleId, shard: 0, epoch, ulid: `${since}${'0'.repeat(16)}` });
  const last = formatOrderNo({ saleId, shard: 0, epoch, ulid: 'Z'.repeat(26) });
  const rows = await selectRows(
    reader,
    laterRow,
    // In this order: MySQL would now and then read the whole ledger first.
    `SELECT STRAIGHT_JOIN l.order_no, l.sku, l.quantity, o.reserved_at FROM orders o
     JOIN stock_ledger l ON l.order_no = o.order_no AND l.movement = 'sell'
     WHERE o.order_no BETWEEN ? AND ? AND o.reserved_at >= ?`,
    [first, last, new Date(atMs)],
  );
  return rows.map(({ order_no: orderNo, reserved_at: reservedAt, sku, quantity }) => ({
    orderNo,
    sku,
    quantity,
    reservedAtMs: reservedAt.getTime(),
  }));
}

async function* listOpen(reader: Executor, saleId: string, atMs: number): AsyncGenerator<string[]> {
  for (let after: string | undefined = ''; after !== undefined;) {
    const rows: { order_no: string }[] = await selectRows(
      reader,
      orderNoRow,
      `SELECT o.order_no FROM orders o FORCE INDEX (orders_of_sale_status)
       WHERE o.sale_id = ? AND o.status = 'awaiting_payment' AND o.order_no > ? ORDER BY o.order_no LIMIT ?`,
      [saleId, after, READ_AT_ONCE],
    );
    after = rows.length === READ_AT_ONCE ? rows.at(-1)?.order_no : undefined;
    yield await readOpenOf(
      reader,
      rows.map((row) => row.order_no),
      atMs,
    );
  }
}

async function readOpenOf(reader: Executor, orderNos: readonly string[], atMs: number): Promise<string[]> {
  if (orderNos.length === 0) return [];
  const rows = await selectRows(
    reader,
    orderNoRow,
    `SELECT o.order_no FROM orders o WHERE o.order_no IN (?) AND o.reserved_at < ?
       AND NOT EXISTS (SELECT 1 FROM stock_ledger l
         WHERE l.order_no = o.order_no AND l.movement IN ('sell', 'release'))`,
    [orderNos, new Date(atMs)],
  );
  return rows.map((row) => row.order_no);
}

async function readOwned(reader: Executor, saleId: string, users: readonly string[]): Promise<OwnedLine[]> {
  const rows = await inPages(users, (page) =>
    selectRows(
      reader,
      ownedRow,
      // Without the hint MariaDB reads all requests of the sale for each page of users.
      `SELECT o.order_no, o.user_id, o.reserved_at, l.sku, l.quantity
       FROM orders o FORCE INDEX (orders_request) JOIN stock_ledger l ON l.order_no = o.order_no AND l.movement = 'sell'
       WHERE o.sale_id = ? AND o.user_id IN (?)`,
      [saleId, page],
    ),
  );
  const inParts = await readLimitParts(reader, [...new Set(rows.map((row) => row.order_no))]);
  return rows.map(({ order_no: orderNo, sku, quantity, ...row }) => ({
    orderNo,
    userId: row.user_id,
    reservedAtMs: row.reserved_at.getTime(),
    limitReturned: inParts.get(`${orderNo} ${sku}`) ?? [],
    sku,
    quantity,
  }));
}

/** The units whose limit was given back by refunds of these orders, by order and SKU. */
async function readLimitParts(
  reader: Executor,
  orderNos: readonly string[],
): Promise<Map<string, OwnedLine['limitReturned']>> {
  const refunds = await inPages(orderNos, (page) =>
    selectRefunds(reader, 'order_no IN (?) AND limit_given', [page]),
  );
  const parts = new Map<string, OwnedLine['limitReturned']>();
  for (const { orderNo, items, ...refund } of refunds) {
    for (const { sku, quantity } of items ?? []) {
      const line = `${orderNo} ${sku}`;
      parts.set(line, [...(parts.get(line) ?? []), { part: partOf(refund), quantity }]);
    }
  }
  return parts;
}

/** In the order of the index that the sums are read from. */
async function* listReturned(
  reader: Executor,
  saleId: string,
  skus: readonly string[],
): AsyncGenerator<ReturnedLine[]> {
  for (const sku of skus) {
    for (let after: { quantity: number; entryId: number } | undefined = { quantity: 0, entryId: 0 }; after;) {
      const { quantity, entryId }: { quantity: number; entryId: number } = after;
      const rows: z.infer<typeof returnedRow>[] = await selectRows(
        reader,
        returnedRow,
        `SELECT order_no, sku, quantity, part, entry_id FROM stock_ledger
         WHERE sale_id = ? AND movement = 'return' AND sku = ? AND quantity >= ? AND (quantity > ? OR entry_id > ?)
         ORDER BY quantity, entry_id LIMIT ?`,
        [saleId, sku, quantity, quantity, entryId, READ_AT_ONCE],
      );
      yield rows.map(({ order_no: orderNo, ...row }) => ({
        orderNo,
        sku,
        quantity: row.quantity,
        part: row.part,
      }));
      const last = rows.length === READ_AT_ONCE ? rows.at(-1) : undefined;
      after = last && { quantity: last.quantity, entryId: last.entry_id };
    }
  }
}
