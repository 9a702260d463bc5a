/** The pool, transactions, and what MySQL's errors mean for us. Works with MySQL 8 and MariaDB 10.11. */

import { setTimeout as delay } from 'node:timers/promises';
import { createPool, type Pool, type PoolConnection } from 'mysql2/promise';
import { z } from 'zod';

export type { Executor, Pool, PoolConnection };

/** Connections of one process: more only queue up inside a small server. */
const CONNECTIONS_MAX = 20;
/** Requests waiting for a connection; beyond it a caller is better told to come back. */
const QUEUE_MAX = 500;
const CONNECT_TIMEOUT_MS = 5_000;
/** Statements that hang so long are cut off, so that a stopped server holds nobody and no connection for ever. */
const STATEMENTS_TIMEOUT_MS = 8_000;
/** Row locks are held for milliseconds; whoever waits longer is in a tangle and starts again. */
const LOCK_WAIT_SECONDS = 3;
/** Deadlocks dissolve at the second try; ten means something else is wrong. */
const TRANSACTION_TRIES = 10;

export function createMysqlPool(url: string): Pool {
  const pool = createPool({
    uri: url,
    connectionLimit: CONNECTIONS_MAX,
    queueLimit: QUEUE_MAX,
    connectTimeout: CONNECT_TIMEOUT_MS,
    timezone: 'Z',
    charset: 'utf8mb4',
    // Rows changed, not rows found: that is how a no-op is told from an insert.
    flags: ['-FOUND_ROWS'],
    // An object among the values must not become SQL of its own.
    stringifyObjects: true,
  });
  // Sent ahead of the connection's first statement. READ COMMITTED: no gap locks, so batches do not block each other.
  pool.pool.on('connection', (connection) => {
    connection.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED', abortOnError(connection));
    connection.query(
      `SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
       innodb_lock_wait_timeout = ${LOCK_WAIT_SECONDS}`,
      abortOnError(connection),
    );
  });
  return pool;
}

/** A session without its settings must not be used: its statement then fails and is tried on another. */
function abortOnError(connection: { destroy(): void }) {
  return (error: unknown) => {
    if (error) connection.destroy();
  };
}

/**
 * Runs `work` in one transaction; on a deadlock or lock timeout the whole of it again.
 * @throws whatever `work` throws, after a rollback
 */
export async function inTransaction<T>(
  pool: Pool,
  work: (connection: PoolConnection) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await tryTransaction(pool, work);
    } catch (error) {
      if (!isLockConflict(error) || attempt === TRANSACTION_TRIES) throw error;
      // Unequal pauses let one of two rivals go first.
      await delay(Math.random() * 10 * attempt);
    }
  }
}

function tryTransaction<T>(pool: Pool, work: (connection: PoolConnection) => Promise<T>): Promise<T> {
  return withConnection(pool, async (connection) => {
    try {
      await connection.beginTransaction();
      const result = await work(connection);
      await connection.commit();
      return result;
    } catch (error) {
      await rollBack(connection);
      throw error;
    }
  });
}

/** A connection that cannot even roll back is closed, which rolls back as well. */
async function rollBack(connection: PoolConnection): Promise<void> {
  try {
    await connection.rollback();
  } catch {
    connection.destroy();
  }
}

/** The store did not answer in time; what was asked may or may not have happened. */
class StoreTimeoutError extends Error {
  override name = 'StoreTimeoutError';
  readonly code = 'STORE_TIMEOUT';
}

/**
 * Runs `work` on a connection of its own, for a bounded time. A destroyed connection of mysql2 never settles what it was
 * asked, so the caller is told by us.
 */
async function withConnection<T>(pool: Pool, work: (connection: PoolConnection) => Promise<T>): Promise<T> {
  const connection = await pool.getConnection();
  const timer = new AbortController();
  const expired = delay(STATEMENTS_TIMEOUT_MS, undefined, { signal: timer.signal }).then(() => {
    connection.destroy();
    throw new StoreTimeoutError(`MySQL did not answer within ${STATEMENTS_TIMEOUT_MS} ms`);
  });
  const done = work(connection);
  try {
    return await Promise.race([done, expired]);
  } finally {
    timer.abort();
    // Whichever came second has nobody waiting for it.
    done.catch(() => {});
    expired.catch(() => {});
    connection.release();
  }
}

/** The pool, or a connection that is in a transaction. */
type Executor = Pool | PoolConnection;

function execute(executor: Executor, sql: string, values: unknown[]): Promise<unknown[]> {
  const query = (connection: PoolConnection): Promise<unknown[]> => connection.query(sql, values);
  return 'getConnection' in executor ? withConnection(executor, query) : query(executor);
}

/** Rows of a SELECT, each parsed. */
export async function selectRows<T extends z.ZodType>(
  executor: Executor,
  row: T,
  sql: string,
  values: unknown[] = [],
): Promise<z.infer<T>[]> {
  const [rows] = await execute(executor, sql, values);
  return z.array(row).parse(rows);
}

/** Runs a writing statement; answers how many rows it touched. */
export async function modify(executor: Executor, sql: string, values: unknown[] = []): Promise<number> {
  const [result] = await execute(executor, sql, values);
  return z.object({ affectedRows: z.int() }).parse(result).affectedRows;
}

const mysqlError = z.object({
  errno: z.int().optional(),
  code: z.string().optional(),
  fatal: z.boolean().optional(),
});

/** The server's error number; undefined for errors of the connection or of our own. */
function errnoOf(error: unknown): number | undefined {
  // Node's system errors (ECONNREFUSED …) carry a negative errno.
  const errno = mysqlError.safeParse(error).data?.errno;
  return errno !== undefined && errno > 0 ? errno : undefined;
}

/** 1213 deadlock, 1205 lock wait timeout. */
function isLockConflict(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 1213 || errno === 1205;
}

/** CHECK violated: 3819 in MySQL, 4025 in MariaDB. */
export function isCheckViolation(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 3819 || errno === 4025;
}

/** A column (1060) or a key (1061) of that name exists, or the column to be renamed (1054) does not any more. */
export function isDefinedAlready(error: unknown): boolean {
  return [1054, 1060, 1061].includes(errnoOf(error) ?? 0);
}

/** Values that the columns do not take: too long, out of range, null, of the wrong form. */
export function isInvalidValue(error: unknown): boolean {
  return [1048, 1264, 1292, 1366, 1406].includes(errnoOf(error) ?? 0);
}

/**
 * The store as a whole is in trouble, not one row: gone, shutting down, full, read-only, out of connections or locked up.
 * Repeating later may work; looking for a culprit in the batch will not.
 */
export function isUnavailable(error: unknown): boolean {
  const parsed = mysqlError.safeParse(error).data;
  const errno = errnoOf(error);
  if (errno === undefined) return parsed?.code !== undefined || parsed?.fatal === true;
  return (
    parsed?.fatal === true ||
    isLockConflict(error) ||
    [1021, 1040, 1053, 1114, 1203, 1290, 1792, 1927].includes(errno)
  );
}
