/** Connections, transactions and SELECT lists, for MySQL 8 and MariaDB 10.11. */

import { setTimeout as delay } from 'node:timers/promises';
import { createPool, type Pool as Mysql2Pool, type PoolConnection } from 'mysql2/promise';
import { z } from 'zod';
import { MYSQL_CONNECTIONS } from '../limits.ts';
import { storeFailed, waitedForMysql } from '../metrics.ts';

/** How long this process waits for MySQL, and MySQL for a client that says nothing. */
export interface Bounds {
  /** For a new connection to be made. */
  connectMs: number;
  /** For a connection of the pool. All are busy for so long only when MySQL is. */
  waitMs: number;
  /** For the work on it. Then it is cut off: a stopped server blocks no caller and no connection for ever. */
  workMs: number;
  /**
   * MariaDB ends a transaction that is idle for longer. A living client commits or gives up within `workMs`,
   * which is less. MySQL has no such limit: there a transaction ends with its connection.
   */
  idleTransactionSeconds: number;
  /**
   * The server ends a connection that is idle for longer. A client that vanishes without closing, as when
   * its host loses power, leaves its transaction and its locks to the server, and TCP notices only after two
   * hours. The pool closes an idle connection after half of this time, so it never uses one that the server
   * ends.
   */
  idleSeconds: number;
}

export const BOUNDS: Bounds = {
  connectMs: 5_000,
  waitMs: 2_000,
  workMs: 8_000,
  idleTransactionSeconds: 10,
  idleSeconds: 20,
};

/** Row locks are held for milliseconds. A transaction that waits longer is rolled back and repeated. */
const LOCK_WAIT_SECONDS = 3;
/** For one packet that is half read or half written. */
const PACKET_SECONDS = 10;

/**
 * Sent ahead of a connection's first statement. READ COMMITTED takes no gap locks, so batches do not block
 * each other. MariaDB reads what is in the comment, and MySQL does not.
 */
function sessionSettings({ idleSeconds, idleTransactionSeconds }: Bounds): string[] {
  return [
    'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
    `SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
     innodb_lock_wait_timeout = ${LOCK_WAIT_SECONDS}, wait_timeout = ${idleSeconds},
     net_read_timeout = ${PACKET_SECONDS}, net_write_timeout = ${PACKET_SECONDS}
     /*M! , idle_transaction_timeout = ${idleTransactionSeconds} */`,
  ];
}

const mysqlError = z.object({
  errno: z.int().optional(),
  code: z.string().optional(),
  fatal: z.boolean().optional(),
});

/** The server's error number; undefined for errors of the connection or of Holdfast's own. */
function errnoOf(error: unknown): number | undefined {
  // Node's system errors (ECONNREFUSED …) carry a negative errno.
  const errno = mysqlError.safeParse(error).data?.errno;
  return errno !== undefined && errno > 0 ? errno : undefined;
}

/** What stands in quotes may be a name, or a value, which may have quotes inside. */
const QUOTED = /'(.*)'/s;

/**
 * Takes the values out of an error of a statement: mysql2 adds the statement with all of them, and the server
 * quotes some in its message. Errors go to logs and to the histories of workflows, where no shopper's data
 * belong.
 * @param sql the statement with its placeholders
 */
function withoutValues(error: unknown, sql: string): unknown {
  if (!(error instanceof Error) || !('sql' in error)) return error;
  const { message, stack } = error;
  // A name that the statement itself has, such as a column's, is no value.
  const names = new Set(sql.match(/\w+/g));
  const shown = message.replace(QUOTED, (quoted, inside: string) => (names.has(inside) ? quoted : "'…'"));
  error.message = shown;
  if (stack !== undefined) error.stack = stack.replace(message, () => shown);
  return Object.assign(error, { sql }, 'sqlMessage' in error ? { sqlMessage: shown } : {});
}

/** A lock was held by others for longer than this transaction waits. */
function isLockTimeout(error: unknown): boolean {
  return errnoOf(error) === 1205;
}

/** A deadlock, or a lock wait timeout. */
function isLockConflict(error: unknown): boolean {
  return errnoOf(error) === 1213 || isLockTimeout(error);
}

/** CHECK violated: 3819 in MySQL, 4025 in MariaDB. */
export function isCheckViolation(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 3819 || errno === 4025;
}

/** A column (1060) or key (1061) of that name exists already. */
export function isDefinedAlready(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 1060 || errno === 1061;
}

/** There is no column or key of that name to drop. */
export function isDroppedAlready(error: unknown): boolean {
  return errnoOf(error) === 1091;
}

/** A value does not fit its column: too long, out of range, null, or of the wrong form. */
export function isInvalidValue(error: unknown): boolean {
  return [1048, 1264, 1292, 1366, 1406].includes(errnoOf(error) ?? 0);
}

/**
 * The server takes no writes: 1290 and 1836 read-only, 1036 read-only storage, 3100 a group of MySQL without
 * a majority, 1047 a Galera node without one. After a failover the old server may live on so.
 */
function isReadOnly(error: unknown): boolean {
  return [1036, 1047, 1290, 1836, 3100].includes(errnoOf(error) ?? 0);
}

/**
 * The failure concerns the server and not a row: it is unreachable, shutting down, full, read-only, out of
 * connections, or has a lock conflict. A later repeat may succeed; splitting a batch does not help.
 */
export function isUnavailable(error: unknown): boolean {
  const parsed = mysqlError.safeParse(error).data;
  const errno = errnoOf(error);
  if (errno === undefined) return parsed?.code !== undefined || parsed?.fatal === true;
  return (
    parsed?.fatal === true ||
    isLockConflict(error) ||
    isReadOnly(error) ||
    [1021, 1040, 1053, 1114, 1203, 1792, 1927].includes(errno)
  );
}

function kindOf(error: unknown): 'unavailable' | 'conflict' | 'refused' {
  if (isLockConflict(error)) return 'conflict';
  return isUnavailable(error) ? 'unavailable' : 'refused';
}

export type Pool = Mysql2Pool & { bounds: Bounds };

export type { Executor, PoolConnection };

/** Requests that may wait for a connection. More are refused, so that their callers come back later. */
const QUEUE_MAX = 500;
/** A deadlock is gone at the second try. One that is left after ten has another cause. */
const TRANSACTION_TRIES = 10;

/** A server that refuses each write gets this pool's connections anew no more often. */
const LEAVE_EVERY_MS = 1_000;

/** When each connection was made, as performance.now(). */
const madeAtMs = new WeakMap<object, number>();
/** Older connections of the pool are made anew: their server has refused a write. As performance.now(). */
const leftAtMs = new WeakMap<Pool, number>();

/** @param connections of this process, at most */
export function createMysqlPool(url: string, connections = MYSQL_CONNECTIONS, bounds = BOUNDS): Pool {
  const pool = createPool({
    uri: url,
    connectionLimit: connections,
    queueLimit: QUEUE_MAX,
    connectTimeout: bounds.connectMs,
    idleTimeout: (bounds.idleSeconds * 1_000) / 2,
    // As many as there are would mean that mysql2 closes none.
    maxIdle: connections - 1,
    gracefulEnd: true,
    timezone: 'Z',
    charset: 'utf8mb4',
    // Count changed rows instead of found ones, which distinguishes a no-op from an insert.
    flags: ['-FOUND_ROWS'],
    // An object among the values would otherwise become a part of the SQL.
    stringifyObjects: true,
  });
  pool.pool.on('connection', (connection) => {
    madeAtMs.set(connection, performance.now());
    for (const setting of sessionSettings(bounds)) connection.query(setting, abortOnError(connection));
  });
  return Object.assign(pool, { bounds });
}

/** Closes a connection without its settings, so that its statement fails and is repeated on another. */
function abortOnError(connection: { destroy(): void }) {
  return (error: unknown) => {
    if (error) connection.destroy();
  };
}

/**
 * Runs `work` in one transaction, and all of it again after a deadlock or lock timeout.
 * @throws what `work` throws, after a rollback
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
      await letOtherGoFirst(attempt);
    }
  }
}

/**
 * As `inTransaction`, for work that its caller can do in another way: it is repeated once after a deadlock,
 * and never after a lock that was held for `waitSeconds`.
 */
export async function inShortTransaction<T>(
  pool: Pool,
  waitSeconds: number,
  work: (connection: PoolConnection) => Promise<T>,
): Promise<T> {
  try {
    return await tryTransaction(pool, work, waitSeconds);
  } catch (error) {
    if (!isLockConflict(error) || isLockTimeout(error)) throw error;
    await letOtherGoFirst(1);
    return tryTransaction(pool, work, waitSeconds);
  }
}

/** A random pause, so that one of two rivals goes first. */
async function letOtherGoFirst(attempt: number): Promise<void> {
  await delay(Math.random() * 10 * attempt);
}

/** Runs `work` in the caller's transaction, or in one of its own where the caller has none. */
export function atomically<T>(
  executor: Executor,
  work: (connection: PoolConnection) => Promise<T>,
): Promise<T> {
  return 'getConnection' in executor ? inTransaction(executor, work) : work(executor);
}

/**
 * Runs `read` on one moment's state of all tables, without locks: what it reads adds up however many
 * statements it takes.
 */
export function inSnapshot<T>(
  pool: Pool,
  read: (connection: PoolConnection) => Promise<T>,
  workMs = pool.bounds.workMs,
): Promise<T> {
  const work = async (connection: PoolConnection) => {
    try {
      await beginSnapshot(connection);
      return await read(connection);
    } finally {
      await rollBack(connection);
    }
  };
  return withConnection(pool, work, { waitMs: pool.bounds.waitMs, workMs });
}

/** Begins a transaction of which each statement sees this moment, not one of its own. */
export async function beginSnapshot(connection: PoolConnection): Promise<void> {
  await connection.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
  await connection.query('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
}

function tryTransaction<T>(
  pool: Pool,
  work: (connection: PoolConnection) => Promise<T>,
  lockWaitSeconds = LOCK_WAIT_SECONDS,
): Promise<T> {
  return withConnection(pool, async (connection) => {
    try {
      if (lockWaitSeconds !== LOCK_WAIT_SECONDS) await setLockWait(connection, lockWaitSeconds);
      await connection.beginTransaction();
      const result = await work(connection);
      await connection.commit();
      return result;
    } catch (error) {
      await rollBack(connection);
      throw error;
    } finally {
      if (lockWaitSeconds !== LOCK_WAIT_SECONDS)
        await setLockWait(connection, LOCK_WAIT_SECONDS).catch(() => connection.destroy());
    }
  });
}

async function setLockWait(connection: PoolConnection, seconds: number): Promise<void> {
  await connection.query('SET SESSION innodb_lock_wait_timeout = ?', [seconds]);
}

/** A connection that cannot roll back is closed, and the server then rolls back. */
async function rollBack(connection: PoolConnection): Promise<void> {
  try {
    await connection.rollback();
  } catch {
    connection.destroy();
  }
}

/** There was no connection in time, or no answer in time. The work may or may not have happened. */
class StoreUnavailableError extends Error {
  override name = 'StoreUnavailableError';
  readonly code = 'STORE_UNAVAILABLE';
}

/**
 * Runs `work` on a connection of its own, for a bounded time. A connection whose work is not done by then is
 * closed.
 * @throws StoreUnavailableError
 */
export async function withConnection<T>(
  pool: Pool,
  work: (connection: PoolConnection) => Promise<T>,
  { waitMs, workMs }: { waitMs: number; workMs: number } = pool.bounds,
): Promise<T> {
  const connection = await takeConnection(pool, waitMs);
  try {
    return await within(workMs, work(connection), () => connection.destroy());
  } catch (error) {
    if (isReadOnly(error)) leaveServer(pool, connection);
    throw error;
  } finally {
    connection.release();
  }
}

/**
 * The address may lead to another server by now, while open connections stay at the old one. Each of them
 * would refuse a write, and answer reads with what the old server has.
 */
function leaveServer(pool: Pool, connection: PoolConnection): void {
  connection.destroy();
  const nowMs = performance.now();
  if (nowMs - (leftAtMs.get(pool) ?? 0) >= LEAVE_EVERY_MS) leftAtMs.set(pool, nowMs);
}

/** Closes the connections to a server that was left, of which the pool has a bounded number. */
async function getConnection(pool: Pool): Promise<PoolConnection> {
  for (;;) {
    const connection = await pool.getConnection();
    const madeMs = madeAtMs.get(connection.connection) ?? Infinity;
    if (madeMs >= (leftAtMs.get(pool) ?? 0)) return connection;
    connection.destroy();
  }
}

/**
 * Waits for a connection for a bounded time; one that comes too late goes back.
 * @throws StoreUnavailableError
 */
export function takeConnection(pool: Pool, waitMs = pool.bounds.waitMs): Promise<PoolConnection> {
  const askedMs = performance.now();
  const coming = getConnection(pool).then(
    (connection) => {
      waitedForMysql(performance.now() - askedMs);
      return connection;
    },
    (cause: unknown) => {
      storeFailed('mysql', 'unavailable');
      throw new StoreUnavailableError('MySQL cannot be reached, or too many wait for it', { cause });
    },
  );
  return within(waitMs, coming, () => {
    coming.then((late) => late.release()).catch(() => {});
  });
}

/**
 * The promises of a destroyed mysql2 connection never settle, so the time-out does not wait for them.
 * @throws StoreUnavailableError
 */
export function within<T>(timeoutMs: number, answer: Promise<T>, onTimeout: () => void): Promise<T> {
  return new Promise((resolve, reject) => {
    let isSettled = false;
    const giveUp = () => {
      if (isSettled) return;
      storeFailed('mysql', 'unavailable');
      onTimeout();
      reject(new StoreUnavailableError(`MySQL did not answer within ${timeoutMs} ms`));
    };
    // An answer that came while this process stalled is read first.
    const timer = setTimeout(() => setImmediate(giveUp), timeoutMs);
    const settle = () => {
      isSettled = true;
      clearTimeout(timer);
    };
    answer.then(resolve, reject).finally(settle);
  });
}

const readOnlyRow = z.object({ isReadOnly: z.int() });

/**
 * Whether MySQL takes writes. A connection to a server that takes none is closed.
 * @throws while it does not answer
 */
export async function takesWrites(
  pool: Pool,
  bounds: { waitMs: number; workMs: number } = pool.bounds,
): Promise<boolean> {
  const probe = async (connection: PoolConnection): Promise<boolean> => {
    // MariaDB names the kinds of read_only from 12 on; a reader of a cloud has the other.
    const sql = `SELECT CAST(@@read_only AS CHAR) NOT IN ('0', 'OFF') OR @@innodb_read_only AS isReadOnly`;
    const [row] = await selectRows(connection, readOnlyRow, sql);
    if (row?.isReadOnly === 0) return true;
    leaveServer(pool, connection);
    return false;
  };
  return withConnection(pool, probe, bounds);
}

/** Whether MySQL takes writes, and says so within so long; as much again may be spent on a connection. */
export function isTakingWrites(pool: Pool, withinMs: number): Promise<boolean> {
  return takesWrites(pool, { waitMs: withinMs, workMs: withinMs }).catch(() => false);
}

/** The pool, or a connection inside a transaction. */
type Executor = Pool | PoolConnection;

function execute(executor: Executor, sql: string, values: unknown[]): Promise<unknown[]> {
  const query = (connection: PoolConnection): Promise<unknown[]> =>
    connection.query(sql, values).catch((error: unknown) => {
      storeFailed('mysql', kindOf(error));
      throw withoutValues(error, sql);
    });
  return 'getConnection' in executor ? withConnection(executor, query) : query(executor);
}

const rowsResult = z.array(z.unknown());

const writeResult = z.object({ affectedRows: z.int() });

/**
 * Runs a SELECT; returns its rows, each parsed.
 * @param row made once, not for each call: that costs more than the statement
 */
export async function selectRows<T extends z.ZodType>(
  executor: Executor,
  row: T,
  sql: string,
  values: unknown[] = [],
): Promise<z.infer<T>[]> {
  const [rows] = await execute(executor, sql, values);
  // The rows one by one, because making a schema costs more than parsing by it.
  return rowsResult.parse(rows).map((found) => row.parse(found));
}

/** Runs a writing statement; returns the number of affected rows. */
export async function modify(executor: Executor, sql: string, values: unknown[] = []): Promise<number> {
  const [result] = await execute(executor, sql, values);
  return writeResult.parse(result).affectedRows;
}

/**
 * An expression for the name of a lock. A lock is the server's, and two deployments may have a database each
 * on one server. A name has at most 64 characters. MySQL 9.7 has no MD5().
 * @param of what the lock is for, as SQL
 */
export function lockName(purpose: string, of = 'DATABASE()'): string {
  return `CONCAT('holdfast_${purpose}_', LEFT(SHA2(${of}, 256), 32))`;
}

export function selectList(
  { shape }: { shape: Record<string, unknown> },
  expressions: Readonly<Record<string, string>> = {},
): string {
  const columnOf = (name: string): string =>
    name.replace(/AtMs$/, 'At').replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.keys(shape)
    .map((name) => `${expressions[name] ?? columnOf(name)} AS \`${name}\``)
    .join(', ');
}
