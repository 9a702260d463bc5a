/** A pool that measures each statement: how many rows the server read for it, and by which plan. */

import { z } from 'zod';
import type { Pool, PoolConnection } from '../../../src/mysql/connection.ts';
import { replaceMethod } from '../../money/pausing-pool.ts';

export interface Measured {
  sql: string;
  /** Rows read, by an index or not, and rows sorted. */
  rows: number;
  /** The tables in the order in which they are read: how, and by which index. */
  plan: string;
}

const statusRows = z.array(z.object({ Variable_name: z.string(), Value: z.coerce.number() }));
const planRows = z.array(
  z.object({
    table: z.string().nullable(),
    type: z.string().nullable(),
    key: z.string().nullable(),
    Extra: z.string().nullish(),
  }),
);

/** @param seen is called with each statement that has run */
export function measuredPool(pool: Pool, seen: (measured: Measured) => void): Pool {
  return replaceMethod(pool, 'getConnection', async () => {
    const connection = await pool.getConnection();
    return replaceMethod(connection, 'query', async (_, real, args) => {
      const sql = String(args[0]);
      const plan = await explain(connection, sql, Array.isArray(args[1]) ? args[1] : []);
      const before = await readEffort(connection);
      const result = await real(...args);
      const after = await readEffort(connection);
      // To read the status is work that counts in it, so a second reading shows how much.
      const own = (await readEffort(connection)) - after;
      seen({ sql: sql.replaceAll(/\s+/g, ' ').slice(0, 120), rows: after - before - own, plan });
      return result;
    });
  });
}

async function readEffort(connection: PoolConnection): Promise<number> {
  const [rows] = await connection.query(
    `SHOW SESSION STATUS WHERE Variable_name LIKE 'Handler_read%' OR Variable_name = 'Sort_rows'`,
  );
  return statusRows.parse(rows).reduce((sum, { Value }) => sum + Value, 0);
}

async function explain(connection: PoolConnection, sql: string, values: unknown[]): Promise<string> {
  if (!/^[\s(]*(SELECT|UPDATE|DELETE)\b/i.test(sql)) return '';
  const [rows] = await connection.query(`EXPLAIN /*!80000 FORMAT = TRADITIONAL */ ${sql}`, values);
  return planRows
    .parse(rows)
    .map(({ table, type, key, Extra }) => [table, type, key, Extra].map((part) => part ?? '-').join(' '))
    .join('; ');
}
