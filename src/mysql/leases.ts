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

/** Where the rows of due work have their key, and until when they are leased. */
interface LeasedTable {
  table: string;
  key: string;
  until: string;
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
  { table, key, until }: LeasedTable,
  ids: readonly (string | number)[],
  forMs: number,
): Promise<Date> {
  const at = await readMoment(connection, fromNow(forMs));
  await modify(connection, `UPDATE ${table} SET ${until} = ? WHERE ${key} IN (?)`, [at, ids]);
  return at;
}

/** MySQL's clock (Unix ms). */
export async function readClockMs(connection: PoolConnection): Promise<number> {
  return (await readMoment(connection, now)).getTime();
}

async function readMoment(connection: PoolConnection, moment: Moment): Promise<Date> {
  const [row] = await selectRows(connection, clockRow, 'SELECT CAST(? AS DATETIME(3)) AS at', [moment]);
  assert(row, 'MySQL gives the time');
  return row.at;
}
