/** MySQL's record of the deployment: its id, its format, and the Redis by which it sells. */

import { z } from 'zod';
import { skipUnknownNumbers } from '../events/events.sql.ts';
import { inTransaction, modify, selectRows, type Pool } from '../mysql/connection.ts';
import { skipUnknownEpochs } from '../reconcile/rebuild.sql.ts';

const recordRow = z.object({
  id: z.string(),
  name: z.string().nullable(),
  format: z.int(),
  redisId: z.string().nullable(),
  redisSeenAt: z.date().nullable(),
  now: z.date(),
});
export type DeploymentRecord = z.infer<typeof recordRow>;

const formatRow = z.object({ format: z.int() });
const saleRow = z.object({ saleId: z.string() });

/** Its clock is read before anything that the caller reads afterwards. */
export async function readDeployment(pool: Pool): Promise<DeploymentRecord> {
  const [row] = await selectRows(
    pool,
    recordRow,
    `SELECT deployment_id AS id, name, format, redis_id AS redisId, redis_seen_at AS redisSeenAt, NOW(3) AS now
     FROM deployment WHERE only_row = 1`,
  );
  if (!row) throw new Error('the table `deployment` of MySQL has lost its row');
  return row;
}

/** Undefined in a database that has no record of a deployment yet. */
export async function readFormat(pool: Pool): Promise<number | undefined> {
  const tables = `SELECT 0 AS format FROM information_schema.tables
     WHERE table_schema = DATABASE() AND table_name = 'deployment'`;
  if ((await selectRows(pool, formatRow, tables)).length === 0) return undefined;
  return (await selectRows(pool, formatRow, 'SELECT format FROM deployment WHERE only_row = 1'))[0]?.format;
}

export async function writeName(pool: Pool, name: string): Promise<void> {
  await modify(pool, 'UPDATE deployment SET name = ? WHERE only_row = 1', [name]);
}

/** Which of these sales MySQL does not have. */
export async function findUnknownSales(pool: Pool, saleIds: readonly string[]): Promise<string[]> {
  if (saleIds.length === 0) return [];
  const found = await selectRows(pool, saleRow, 'SELECT sale_id AS saleId FROM sales WHERE sale_id IN (?)', [
    saleIds,
  ]);
  const known = new Set(found.map(({ saleId }) => saleId));
  return saleIds.filter((saleId) => !known.has(saleId));
}

/**
 * The Redis was there after `asOf`, a time of MySQL. The mark goes ahead, and back where the clock was; one
 * of the last second is left, so that many processes write no more than one.
 */
export async function confirmRedis(pool: Pool, redisId: string, asOf: Date): Promise<void> {
  await modify(
    pool,
    `UPDATE deployment SET redis_seen_at = ? WHERE only_row = 1 AND redis_id = ?
       AND (redis_seen_at < ? - INTERVAL 1 SECOND OR redis_seen_at > NOW(3))`,
    [asOf, redisId, asOf],
  );
}

/**
 * @param isBlind what would tell that MySQL has lost commits was lost with the former Redis: what readers of
 *   the feed, shoppers and the provider may know of them is not given again
 * @returns whether the Redis and its mark were as `found` until now
 */
export function replaceRedis(
  pool: Pool,
  found: Pick<DeploymentRecord, 'redisId' | 'redisSeenAt'>,
  redisId: string,
  isBlind: boolean,
): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const changed = await modify(
      connection,
      `UPDATE deployment SET redis_id = ?, redis_seen_at = NOW(3)
       WHERE only_row = 1 AND redis_id <=> ? AND redis_seen_at <=> ?`,
      [redisId, found.redisId, found.redisSeenAt],
    );
    if (changed === 0) return false;
    if (isBlind) {
      await skipUnknownEpochs(connection);
      await skipUnknownNumbers(connection);
    }
    return true;
  });
}
