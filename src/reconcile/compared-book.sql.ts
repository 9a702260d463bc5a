/** How far the provider's list of payments has been compared with MySQL, by each of the walks over it. */

import { z } from 'zod';
import type { Pool } from '../mysql/connection.ts';
import { read as readCursor, save as saveCursor } from './cursors.sql.ts';

/** near: over payments that may have been collected since the last walk. far: over older ones of a day. */
export type BookWalk = 'near' | 'far';

/** All times are Unix times in ms. */
const walkState = z.object({
  /** The walk under way: payments begun before `at` are compared, those up to `until` are not. */
  at: z.number(),
  until: z.number(),
  startedAt: z.number(),
  /** From when on a payment could not be compared in this walk; null: all could. */
  failedFrom: z.number().nullable(),
  /** When the last finished walk started; 0: none has finished. */
  finished: z.number(),
  /** As `finished`, of the last walk that compared all: what was collected before is known. */
  complete: z.number(),
});
export type BookWalkState = z.infer<typeof walkState>;

const NEVER: BookWalkState = { at: 0, until: 0, startedAt: 0, failedFrom: null, finished: 0, complete: 0 };

export async function read(pool: Pool, provider: string, walk: BookWalk): Promise<BookWalkState> {
  const cursor = await readCursor(pool, nameOf(provider, walk));
  return cursor === undefined ? NEVER : walkState.parse(JSON.parse(cursor));
}

export function save(pool: Pool, provider: string, walk: BookWalk, state: BookWalkState): Promise<void> {
  return saveCursor(pool, nameOf(provider, walk), JSON.stringify(state));
}

/** Unix time in ms: every payment that was collected before is known. */
export async function knownUntilMs(pool: Pool, provider: string): Promise<number> {
  return (await read(pool, provider, 'near')).complete;
}

function nameOf(provider: string, walk: BookWalk): string {
  return `provider book ${provider} ${walk}`;
}
