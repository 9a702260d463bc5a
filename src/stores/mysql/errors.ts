/** The classification of errors of MySQL 8 and MariaDB 10.11. */

import { z } from 'zod';

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
export function withoutValues(error: unknown, sql: string): unknown {
  if (!(error instanceof Error) || !('sql' in error)) return error;
  const { message, stack } = error;
  // A name that the statement itself has, such as a column's, is no value.
  const names = new Set(sql.match(/\w+/g));
  const shown = message.replace(QUOTED, (quoted, inside: string) => (names.has(inside) ? quoted : "'…'"));
  error.message = shown;
  if (stack !== undefined) error.stack = stack.replace(message, () => shown);
  return Object.assign(error, { sql }, 'sqlMessage' in error ? { sqlMessage: shown } : {});
}

/** 1213 deadlock, 1205 lock wait timeout. */
export function isLockConflict(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 1213 || errno === 1205;
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
    [1021, 1040, 1053, 1114, 1203, 1290, 1792, 1927].includes(errno)
  );
}
