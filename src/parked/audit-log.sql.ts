/** The audit log as staff read it: by subject, by actor and by time, the newest first. */

import { z } from 'zod';
import { selectList, selectRows, type Pool } from '../mysql/connection.ts';
import { jsonText } from '../orders/content.ts';

const entryRow = z.object({
  entryId: z.int(),
  actor: z.string(),
  action: z.string(),
  subject: z.string(),
  reason: z.string().nullable(),
  detail: jsonText(z.record(z.string(), z.unknown())),
  occurredAt: z.date(),
});
const ENTRY = selectList(entryRow);

export type AuditEntry = z.infer<typeof entryRow>;

interface AuditSearch {
  subject?: string | undefined;
  actor?: string | undefined;
  /** From the first time on, and before the second. */
  since?: Date | undefined;
  until?: Date | undefined;
  /** The last entry of the page before. */
  after?: number | undefined;
}

/** The next entries, up to `limit`: a range of one index, read from its end. */
export async function list(pool: Pool, search: AuditSearch, limit: number): Promise<AuditEntry[]> {
  const { subject, actor, since, until, after } = search;
  const last = after === undefined ? undefined : await readTime(pool, after);
  // Entries of one moment are told apart by their numbers.
  const conditions: Record<string, unknown[]> = {
    ...(subject !== undefined && { 'subject = ?': [subject] }),
    ...(actor !== undefined && { 'actor = ?': [actor] }),
    ...(since && { 'occurred_at >= ?': [since] }),
    ...(until && { 'occurred_at < ?': [until] }),
    ...(last && { 'occurred_at <= ? AND (occurred_at < ? OR entry_id < ?)': [last, last, after] }),
  };
  const index = subject === undefined ? (actor === undefined ? 'by_time' : 'of_actor') : 'of_subject';
  return selectRows(
    pool,
    entryRow,
    `SELECT ${ENTRY} FROM audit_log FORCE INDEX (audit_log_${index})
     WHERE ${Object.keys(conditions).join(' AND ') || 'TRUE'}
     ORDER BY occurred_at DESC, entry_id DESC LIMIT ?`,
    [...Object.values(conditions).flat(), limit],
  );
}

/** Entries are never deleted, so a page whose last entry is unknown was never given: the list begins anew. */
async function readTime(pool: Pool, entryId: number): Promise<Date | undefined> {
  const [row] = await selectRows(
    pool,
    entryRow.pick({ occurredAt: true }),
    'SELECT occurred_at AS occurredAt FROM audit_log WHERE entry_id = ?',
    [entryId],
  );
  return row?.occurredAt;
}
