/** In which namespaces of Temporal the schedule was made, and which of them have lost their data since. */

import { z } from 'zod';
import { modify, selectRows, type Pool } from '../mysql/connection.ts';

const namespaceRow = z.object({ lost: z.coerce.boolean() });

/** made: the schedule was made there. lost: it was missing later, and what was lost is being made due. */
export type NamespaceMark = 'made' | 'lost';

/** Undefined where no schedule was ever made. */
export async function read(pool: Pool, namespace: string): Promise<NamespaceMark | undefined> {
  const [row] = await selectRows(
    pool,
    namespaceRow,
    'SELECT lost_at IS NOT NULL AS lost FROM temporal_namespaces WHERE namespace = ?',
    [namespace],
  );
  return row && (row.lost ? 'lost' : 'made');
}

export async function markLost(pool: Pool, namespace: string): Promise<void> {
  await modify(
    pool,
    'UPDATE temporal_namespaces SET lost_at = COALESCE(lost_at, NOW(3)) WHERE namespace = ?',
    [namespace],
  );
}

/** Also when it was lost: everything is due again. */
export async function markMade(pool: Pool, namespace: string): Promise<void> {
  await modify(
    pool,
    `INSERT INTO temporal_namespaces (namespace) VALUES (?)
         ON DUPLICATE KEY UPDATE schedule_made_at = NOW(3), lost_at = NULL`,
    [namespace],
  );
}
