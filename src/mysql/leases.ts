/**
 * Leases: work that is due in a table is one process' for a while. Times that MySQL is to compare with its
 * own clock come from that clock, so that no other clock matters, however far it is off.
 */

import assert from 'node:assert/strict';
import { raw } from 'mysql2';
import { z } from 'zod';
import { modify, selectRows, type PoolConnection } from './connection.ts';

/** A value of a statement that MySQL computes. */
export type Moment = ReturnType<typeof raw>;

/**
 * Where the rows of due work have their key, and when they are due: while they are leased, the lease's end.
 * since: where a row keeps since when it was due, so that what ends the lease can give its place back.
 */
interface LeasedTable {
  table: string;
  key: string;
  until: string;
  since?: string;
}

const clockRow = z.object({ at: z.date() });

/** So many ms from now, by MySQL's clock. */
export function fromNow(ms: number): Moment {
  return raw(`(NOW(3) + INTERVAL ${Math.round(ms)} * 1000 MICROSECOND)`);
}

export const now: Moment = raw('NOW(3)');

/**
 * Leases rows that the caller's transaction has locked.
 * @returns until when, as it is in the rows: it distinguishes this lease from the next one of the same row
 */
export async function takeLease(
  connection: PoolConnection,
  { table, key, until, since }: LeasedTable,
  ids: readonly (string | number)[],
  forMs: number,
): Promise<Date> {
  const at = await readMoment(connection, fromNow(forMs));
  // Of a lease that ran out the first time stays.
  const kept = since === undefined ? '' : `${since} = COALESCE(${since}, ${until}), `;
  await modify(connection, `UPDATE ${table} SET ${kept}${until} = ? WHERE ${key} IN (?)`, [at, ids]);
  return at;
}

// Work that Temporal is to learn of, in `orders` and `payments`, whose columns for it are alike.

/**
 * So often in a row a start or signal may fail before others go first. Most failures are Temporal's and not
 * the work's own, and end with the next try. One that always fails delays the others by as many pauses of the
 * gate, and then by one each time that its turn comes.
 */
const FAILURES_MAX = 3;
/** Ends the lease of work that was not tried: it has its place again. */
export const KEEP_PLACE = 'engine_due_at = COALESCE(engine_since, NOW(3)), engine_since = NULL';
// Each assignment sees those before it.
/** Ends the lease of work that failed: it keeps its place, until so many failures in a row put it last. */
export const COUNT_FAILURE = `engine_failures = LEAST(engine_failures + 1, ${FAILURES_MAX}),
  engine_due_at = IF(engine_failures = ${FAILURES_MAX}, NOW(3), COALESCE(engine_since, NOW(3))),
  engine_since = NULL`;
/** Of work that has not failed so often in a row. */
export const FAILED_SELDOM = `engine_failures < ${FAILURES_MAX}`;
/** For work that is due by something new: what was before does not count. */
export const ANEW = 'engine_since = NULL, engine_failures = 0';

/** MySQL's clock (Unix ms). */
export async function readClockMs(connection: PoolConnection): Promise<number> {
  return (await readMoment(connection, now)).getTime();
}

async function readMoment(connection: PoolConnection, moment: Moment): Promise<Date> {
  const [row] = await selectRows(connection, clockRow, 'SELECT CAST(? AS DATETIME(3)) AS at', [moment]);
  assert(row, 'MySQL gives the time');
  return row.at;
}
