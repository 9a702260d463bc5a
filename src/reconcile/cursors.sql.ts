/** Cursors: where walks over many rows or keys go on in their next run. */

import { z } from 'zod';
import { modify, selectRows, type Pool } from '../mysql/connection.ts';

const cursorRow = z.object({ position: z.string() });

/** Undefined when the walk begins. */
export async function read(pool: Pool, walk: string): Promise<string | undefined> {
  const [row] = await selectRows(pool, cursorRow, 'SELECT position FROM reconcile_cursors WHERE walk = ?', [
    walk,
  ]);
  return row?.position;
}

/** @param position undefined: the walk has come to its end, and begins anew */
export async function save(pool: Pool, walk: string, position: string | undefined): Promise<void> {
  if (position === undefined) {
    await modify(pool, 'DELETE FROM reconcile_cursors WHERE walk = ?', [walk]);
    return;
  }
  await modify(
    pool,
    `INSERT INTO reconcile_cursors (walk, position) VALUES (?, ?)
     ON DUPLICATE KEY UPDATE position = VALUES(position)`,
    [walk, position],
  );
}
