/** A rebuild in MySQL: the sale's epoch and its lock, and all that is made again in Redis. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { LOST_AFTER_MS, WATCHED_AFTER_CLOSE_MS } from '../limits.ts';
import { GIVE_BACK_KINDS, partOf } from '../money/rows.sql.ts';
import {
  inTransaction,
  lockName,
  modify,
  selectRows,
  takeConnection,
  within,
  type Pool,
  type PoolConnection,
  beginSnapshot,
} from '../mysql/connection.ts';
import { boundsOfSale, type OrderUnits } from '../orders/order.ts';
import { selectOrders, type StoredOrder } from '../orders/rows.sql.ts';
import { recordAction, type Decision } from '../parked/parked.sql.ts';
import { decideInMysql } from '../sales/changes.sql.ts';
import { IS_WATCHED, readSale } from '../sales/rows.sql.ts';
import type { Sale, StockCount } from '../sales/sale.ts';

// The epochs of sales: which of their data in Redis are watched, and the steps of a rebuild in MySQL. Each
// rebuild has an epoch of its own, and one connection with a lock for all its steps.

/** A page of a big sale takes well below a second; a server that hangs must not be waited for. */
const STATEMENT_MAX_MS = 60_000;
/**
 * While Redis is written, the lock's connection has nothing to do for longer than the server leaves an idle
 * transaction (`connection.ts`), and it must not be taken for one whose client is gone.
 */
const BEAT_EVERY_MS = 2_000;

const watchedRow = z.object({ sale_id: z.string(), epoch: z.int(), rebuilding: z.coerce.boolean() });
const requestedRow = watchedRow.extend({ watched: z.coerce.boolean() });
const epochRow = z.object({ epoch: z.int() });
const begunRow = z.object({ epoch: z.int(), undecided_from: z.int() });
const lockRow = z.object({ acquired: z.int().nullable() });
const lifeRow = z.object({
  epoch: z.int(),
  currency: z.string(),
  payment_window_ms: z.int(),
  watched: z.coerce.boolean(),
  settled: z.coerce.boolean(),
  created_at: z.date(),
  now: z.date(),
});

export interface WatchedSale {
  saleId: string;
  epoch: number;
  /** A rebuild has begun and is not finished. */
  isRebuilding: boolean;
}

/** By this an order that no store has is known as lost or not. */
export interface SaleEpoch {
  epoch: number;
  currency: string;
  paymentWindowMs: number;
  /** Its data in Redis are to be there. */
  isWatched: boolean;
  /** No relay brings an order of an earlier epoch back any more. */
  isSettled: boolean;
  /** Unix ms. Not when it was put into Redis: MySQL may learn of that late. */
  createdAtMs: number;
  /** By MySQL's clock (Unix ms). */
  nowMs: number;
}

/** The lock of one sale's rebuild. Every call fails once the connection, and so the lock, is gone. */
export interface RebuildLock {
  connection: PoolConnection;
  /** Runs statements on the lock's connection, for a bounded time. */
  run: <T>(work: (connection: PoolConnection) => Promise<T>) => Promise<T>;
}

/** See `SaleEpoch.isSettled`. Its value is `LOST_AFTER_MS`. */
const IS_SETTLED =
  'rebuilding_since IS NULL AND COALESCE(rebuilt_at < NOW(3) - INTERVAL ? * 1000 MICROSECOND, TRUE)';

/** The sales whose data in Redis are to be there. */
export async function listWatched(pool: Pool): Promise<WatchedSale[]> {
  const rows = await selectRows(
    pool,
    watchedRow,
    `SELECT sale_id, epoch, rebuilding_since IS NOT NULL AS rebuilding FROM sales WHERE ${IS_WATCHED}`,
    [WATCHED_AFTER_CLOSE_MS],
  );
  return rows.map((row) => ({ saleId: row.sale_id, epoch: row.epoch, isRebuilding: row.rebuilding }));
}

const rebuiltRow = z.object({
  saleId: z.string(),
  /** Unix ms by MySQL's clock; null: not yet. */
  rebuiltAtMs: z
    .date()
    .transform((date) => date.getTime())
    .nullable(),
  isSettled: z.coerce.boolean(),
});

/** Those of these sales whose data in Redis are made again, or were at any time. */
export async function listRebuilt(
  pool: Pool,
  saleIds: readonly string[],
): Promise<z.infer<typeof rebuiltRow>[]> {
  if (saleIds.length === 0) return [];
  return selectRows(
    pool,
    rebuiltRow,
    `SELECT sale_id AS saleId, rebuilt_at AS rebuiltAtMs, ${IS_SETTLED} AS isSettled FROM sales
     WHERE sale_id IN (?) AND (rebuilding_since IS NOT NULL OR rebuilt_at IS NOT NULL)`,
    [LOST_AFTER_MS, saleIds],
  );
}

/** The sale's present epoch; undefined when there is no such sale. */
export async function readLife(pool: Pool, saleId: string): Promise<SaleEpoch | undefined> {
  const [row] = await selectRows(
    pool,
    lifeRow,
    `SELECT epoch, currency, payment_window_ms, ${IS_WATCHED} AS watched, ${IS_SETTLED} AS settled, created_at,
       NOW(3) AS now FROM sales WHERE sale_id = ?`,
    [WATCHED_AFTER_CLOSE_MS, LOST_AFTER_MS, saleId],
  );
  if (!row) return undefined;
  return {
    epoch: row.epoch,
    currency: row.currency,
    paymentWindowMs: row.payment_window_ms,
    isWatched: row.watched,
    isSettled: row.settled,
    createdAtMs: row.created_at.getTime(),
    nowMs: row.now.getTime(),
  };
}

/**
 * Runs `work` while no other process rebuilds the sale. The lock ends with its connection.
 * @param beatEveryMs how often the lock's connection shows that its process lives
 * @returns undefined when another process has the lock
 */
export async function withLock<T>(
  pool: Pool,
  saleId: string,
  work: (lock: RebuildLock) => Promise<T>,
  beatEveryMs = BEAT_EVERY_MS,
): Promise<T | undefined> {
  const connection = await takeConnection(pool);
  const lock = { connection, run: bounded(connection) };
  const beating = beat(connection, beatEveryMs);
  try {
    const isAcquired = await lock.run(() => acquire(connection, saleId));
    const result = isAcquired ? await work(lock) : undefined;
    if (isAcquired) await lock.run(() => connection.query(`DO RELEASE_LOCK(${LOCK_NAME})`, [saleId]));
    connection.release();
    return result;
  } catch (error) {
    // Its transaction and its lock end with it.
    connection.destroy();
    throw error;
  } finally {
    clearInterval(beating);
  }
}

/** Epochs that are left out where it is not known how many there were: more than a sale is rebuilt. */
const LEFT_OUT_EPOCHS = 1_000;

/** From then on orders of earlier epochs are told as lost. */
const UNDECIDED_FROM = `IF(${IS_SETTLED}, epoch, undecided_from)`;

/**
 * MySQL may have lost commits, and Redis does not have the sales: epochs that are not known here may have
 * had orders. The next ones are far above them, so that each of those counts as lost, and what was paid for
 * it can be reserved again. In the transaction of what was found; each sale that Redis is to have is made
 * again.
 */
export async function skipUnknownEpochs(connection: PoolConnection): Promise<void> {
  await modify(
    connection,
    `UPDATE sales SET undecided_from = ${UNDECIDED_FROM},
       rebuilding_since = COALESCE(rebuilding_since, NOW(3)), epoch = epoch + ? WHERE ${IS_WATCHED}`,
    [LOST_AFTER_MS, LEFT_OUT_EPOCHS, WATCHED_AFTER_CLOSE_MS],
  );
  // It may have been put into Redis, and sold, since.
  await modify(connection, 'UPDATE sales SET epoch = epoch + ? WHERE warmed_up_at IS NULL', [
    LEFT_OUT_EPOCHS,
  ]);
}

const BEGIN_REBUILD = `UPDATE sales SET undecided_from = ${UNDECIDED_FROM},
  rebuilding_since = COALESCE(rebuilding_since, NOW(3))`;

/** not-watched: Redis is not to have the sale, so that no worker rebuilds it. */
type RebuildRequested = { kind: 'requested'; epoch: number } | { kind: 'unknown' } | { kind: 'not-watched' };

/**
 * Staff want a rebuild. It counts as begun, so a worker takes it up within a second, as one whose process
 * died. A rebuild that goes on is the one that was asked for.
 */
export function request(pool: Pool, saleId: string, decision: Decision): Promise<RebuildRequested> {
  return inTransaction(pool, async (connection) => {
    const [sale] = await selectRows(
      connection,
      requestedRow,
      `SELECT sale_id, epoch, ${IS_WATCHED} AS watched, rebuilding_since IS NOT NULL AS rebuilding
       FROM sales WHERE sale_id = ? FOR UPDATE`,
      [WATCHED_AFTER_CLOSE_MS, saleId],
    );
    if (!sale) return { kind: 'unknown' };
    if (!sale.watched) return { kind: 'not-watched' };
    await modify(connection, `${BEGIN_REBUILD} WHERE sale_id = ?`, [LOST_AFTER_MS, saleId]);
    const { epoch, rebuilding } = sale;
    await recordAction(connection, {
      ...decision,
      action: 'rebuild_requested',
      subject: `sale ${saleId}`,
      detail: { epoch, rebuilding },
    });
    return { kind: 'requested', epoch };
  });
}

/** Marks that a rebuild has begun: should it die, it is done again. @returns undefined: no such sale */
export function announce(
  { run }: RebuildLock,
  saleId: string,
): Promise<{ epoch: number; undecidedFrom: number } | undefined> {
  return run(async (connection) => {
    await modify(connection, `${BEGIN_REBUILD} WHERE sale_id = ? AND warmed_up_at IS NOT NULL`, [
      LOST_AFTER_MS,
      saleId,
    ]);
    const [row] = await selectRows(
      connection,
      begunRow,
      'SELECT epoch, undecided_from FROM sales WHERE sale_id = ? AND rebuilding_since IS NOT NULL',
      [saleId],
    );
    return row && { epoch: row.epoch, undecidedFrom: row.undecided_from };
  });
}

/**
 * Begins the next epoch. Orders of earlier epochs are no longer stored from here on, and those that are
 * being stored are waited for. A change of the sale that Redis has yet to decide is decided here.
 * @param above an epoch that Redis has
 */
export function advance({ run }: RebuildLock, saleId: string, above: number): Promise<number> {
  return run(async (connection) => {
    await connection.beginTransaction();
    const [row] = await selectRows(
      connection,
      epochRow,
      'SELECT epoch FROM sales WHERE sale_id = ? FOR UPDATE',
      [saleId],
    );
    const epoch = Math.max(row?.epoch ?? 0, above) + 1;
    await modify(connection, 'UPDATE sales SET epoch = ? WHERE sale_id = ?', [epoch, saleId]);
    await decideInMysql(connection, saleId);
    await connection.commit();
    return epoch;
  });
}

/** Ends the rebuild and records it, in one transaction. A rebuild that was overtaken ends nothing. */
export function finish(
  { run }: RebuildLock,
  saleId: string,
  epoch: number,
  decision: Decision,
  detail: Record<string, unknown>,
): Promise<void> {
  return run(async (connection) => {
    await connection.beginTransaction();
    const ended = await modify(
      connection,
      'UPDATE sales SET rebuilding_since = NULL, rebuilt_at = NOW(3) WHERE sale_id = ? AND epoch = ?',
      [saleId, epoch],
    );
    const subject = `sale ${saleId}`;
    if (ended === 1) await recordAction(connection, { ...decision, action: 'sale_rebuilt', subject, detail });
    await connection.commit();
  });
}

/** Databases on one server may have sales of the same name. */
const LOCK_NAME = lockName('rebuild', "CONCAT(DATABASE(), '.', ?)");

async function acquire(connection: PoolConnection, saleId: string): Promise<boolean> {
  const [row] = await selectRows(connection, lockRow, `SELECT GET_LOCK(${LOCK_NAME}, 0) AS acquired`, [
    saleId,
  ]);
  return row?.acquired === 1;
}

/** A process that is frozen does not beat, and the server ends its transaction and its lock. */
function beat(connection: PoolConnection, everyMs: number): NodeJS.Timeout {
  let isAnswered = true;
  const ask = async () => {
    isAnswered = false;
    await connection.query('DO 0');
    isAnswered = true;
  };
  return setInterval(() => {
    // One at a time: a long statement is no idle connection. Where this one fails, the next statement of the
    // rebuild fails as well.
    if (isAnswered) ask().catch(() => {});
  }, everyMs);
}

function bounded(connection: PoolConnection): RebuildLock['run'] {
  return (work) => within(STATEMENT_MAX_MS, work(connection), () => connection.destroy());
}

// Reads for a rebuild: all of a sale as MySQL has it at one moment, page by page.

/** Orders of one page: a big sale has hundreds of thousands, and an answer should stay small. */
const PAGE_SIZE = 1_000;

const returnRow = z.object({
  order_no: z.string(),
  refund_id: z.int(),
  kind: z.enum(GIVE_BACK_KINDS),
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
  const orders = await selectOrders(
    connection,
    'sale_id = ? AND order_no > ? AND order_no < ? ORDER BY order_no LIMIT ?',
    [saleId, ...boundsOfSale(saleId, after), PAGE_SIZE],
    ' FORCE INDEX (PRIMARY)',
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
    `SELECT order_no, refund_id, kind, limit_given, stock_given FROM refunds
     WHERE order_no IN (?) AND (limit_given OR stock_given)`,
    [orderNos],
  );
  const returns = new Map<string, SnapshotOrder['returns']>();
  for (const { order_no: orderNo, refund_id: refundId, kind, ...given } of rows) {
    const part = partOf({ refundId, kind });
    const marks = returns.get(orderNo) ?? [];
    if (given.stock_given) marks.push({ part, what: 'stock' });
    if (given.limit_given) marks.push({ part, what: 'limit' });
    returns.set(orderNo, marks);
  }
  return returns;
}
