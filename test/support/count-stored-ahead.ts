/** Orders that are stored, and whose workflow is yet to be started. */

import { z } from 'zod';
import { selectRows, type Pool } from '../../src/mysql/connection.ts';

const row = z.object({ sale_id: z.string(), waiting: z.int() });

/** @returns how many, by sale id; a sale that has none is absent */
export async function countStoredAhead(pool: Pool): Promise<Map<string, number>> {
  const sql = `SELECT sale_id, COUNT(*) AS waiting FROM orders
    WHERE engine_due_at IS NOT NULL AND workflow_started_at IS NULL GROUP BY sale_id`;
  const rows = await selectRows(pool, row, sql);
  return new Map(rows.map(({ sale_id: saleId, waiting }) => [saleId, waiting]));
}
