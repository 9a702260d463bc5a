/** The places at which walks over many rows or keys go on in their next run. */

import { z } from 'zod';
import { modify, selectRows, type Pool } from '../connection.ts';

const placeRow = z.object({ place: z.string() });

/** Undefined when the walk begins. */
export async function read(pool: Pool, walk: string): Promise<string | undefined> {
  const [row] = await selectRows(pool, placeRow, 'SELECT place FROM reconcile_places WHERE walk = ?', [walk]);
  return row?.place;
}

/** @param place undefined: the walk has come to its end, and begins anew */
export async function save(pool: Pool, walk: string, place: string | undefined): Promise<void> {
  if (place === undefined) {
    await modify(pool, 'DELETE FROM reconcile_places WHERE walk = ?', [walk]);
    return;
  }
  await modify(
    pool,
    'INSERT INTO reconcile_places (walk, place) VALUES (?, ?) ON DUPLICATE KEY UPDATE place = VALUES(place)',
    [walk, place],
  );
}
