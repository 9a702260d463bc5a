/** Where each endpoint stands in the feed of events, and which lanes have something to do. */

import { z } from 'zod';
import { EVENT_TYPES, type EventType } from '../../../domain/event.ts';
import { PUSH_WINDOW } from '../../../domain/limits.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { addDeliveries, type NewDelivery, DOWN_AFTER_FAILURES } from './deliveries.ts';

/** Rows of a removed endpoint that one statement deletes: few enough to hold their locks for milliseconds. */
const REMOVED_BATCH = 500;

const busyRow = z.object({ endpoint_id: z.int() });
const placeRow = z
  .object({
    name: z.string(),
    types: z.string().nullable(),
    sale_id: z.string().nullable(),
    fed_sequence: z.int(),
    replay_after: z.int().nullable(),
    replay_until: z.int().nullable(),
    replay_since: z.date().nullable(),
    replay_before: z.date().nullable(),
    waiting: z.int(),
  })
  .transform((row) => ({
    name: row.name,
    filter: { types: parseTypes(row.types), saleId: row.sale_id },
    fed: row.fed_sequence,
    replay: replayOf(row),
    room: PUSH_WINDOW - row.waiting,
  }));
const sequencesRow = z.object({ fed_sequence: z.int(), replay_after: z.int().nullable(), name: z.string() });

const typesJson = z.array(z.enum(EVENT_TYPES));

/** Null: every type, every sale. */
export interface EndpointFilter {
  types: readonly EventType[] | null;
  saleId: string | null;
}

/** Events that are to be delivered again: those of these sequences that occurred within this time. */
export interface ReplayRange {
  after: number;
  until: number;
  /** Unix ms. */
  sinceMs: number;
  /** Unix ms. */
  beforeMs: number;
}

/** Where an endpoint stands in the feed. */
export type FeedPlace = z.infer<typeof placeRow>;

/** The active endpoints that have events to look at, or something to be delivered now. */
export async function listBusy(pool: Pool): Promise<number[]> {
  const rows = await selectRows(
    pool,
    busyRow,
    `SELECT e.endpoint_id FROM push_endpoints e, event_dispatch f
         WHERE e.removed_at IS NULL AND e.disabled_for IS NULL AND (
           e.fed_sequence < f.last_sequence OR e.replay_until IS NOT NULL
           OR e.failures >= ${DOWN_AFTER_FAILURES} AND COALESCE(e.probe_at <= NOW(3), TRUE)
           OR e.failures < ${DOWN_AFTER_FAILURES} AND EXISTS (
             SELECT 1 FROM push_deliveries d WHERE d.endpoint_id = e.endpoint_id AND d.due_at <= NOW(3)
               AND (d.claimed_until IS NULL OR d.claimed_until <= NOW(3)))
           OR e.failures > 0 AND e.probe_at <= NOW(3) AND EXISTS (
             SELECT 1 FROM push_deliveries d WHERE d.endpoint_id = e.endpoint_id AND d.due_at > NOW(3)))`,
  );
  return rows.map((row) => row.endpoint_id);
}

/** Undefined when it is disabled or gone. */
export async function readPlace(pool: Pool, endpointId: number): Promise<FeedPlace | undefined> {
  const [place] = await selectRows(
    pool,
    placeRow,
    `SELECT name, types, sale_id, fed_sequence, replay_after, replay_until, replay_since, replay_before,
           (SELECT COUNT(*) FROM push_deliveries d
            WHERE d.endpoint_id = e.endpoint_id AND d.status = 'waiting') AS waiting
         FROM push_endpoints e WHERE endpoint_id = ? AND disabled_for IS NULL AND removed_at IS NULL`,
    [endpointId],
  );
  return place;
}

/** Adds what follows in the feed, unless another worker has done so since the place was read. */
export function advance(
  pool: Pool,
  endpointId: number,
  { from, to }: { from: number; to: number },
  deliveries: readonly NewDelivery[],
): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const now = await lockSequences(connection, endpointId);
    if (now?.fed_sequence !== from) return;
    await addDeliveries(connection, { endpointId, name: now.name }, deliveries);
    await modify(connection, 'UPDATE push_endpoints SET fed_sequence = ? WHERE endpoint_id = ?', [
      to,
      endpointId,
    ]);
  });
}

/** As `advance`, for what is to be delivered again. */
export function advanceReplay(
  pool: Pool,
  endpointId: number,
  { from, to, isLast }: { from: number; to: number; isLast: boolean },
  deliveries: readonly NewDelivery[],
): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const now = await lockSequences(connection, endpointId);
    if (now?.replay_after !== from) return;
    await addDeliveries(connection, { endpointId, name: now.name }, deliveries);
    await modify(
      connection,
      `UPDATE push_endpoints SET replay_after = ?, replay_until = IF(?, NULL, replay_until)
           WHERE endpoint_id = ?`,
      [isLast ? null : to, isLast, endpointId],
    );
  });
}

/** Deletes rows of endpoints that were removed. @returns whether there may be more */
export async function deleteRemoved(pool: Pool): Promise<boolean> {
  const [removed] = await selectRows(
    pool,
    busyRow,
    'SELECT endpoint_id FROM push_endpoints WHERE removed_at IS NOT NULL LIMIT 1',
  );
  if (!removed) return false;
  const deleted = await modify(pool, 'DELETE FROM push_deliveries WHERE endpoint_id = ? LIMIT ?', [
    removed.endpoint_id,
    REMOVED_BATCH,
  ]);
  // Nothing is added to it any more, so what was few is all.
  if (deleted < REMOVED_BATCH)
    await modify(pool, 'DELETE FROM push_endpoints WHERE endpoint_id = ?', [removed.endpoint_id]);
  return true;
}

export function parseTypes(json: string | null): EventType[] | null {
  return json === null ? null : typesJson.parse(JSON.parse(json));
}

async function lockSequences(connection: PoolConnection, endpointId: number) {
  const [row] = await selectRows(
    connection,
    sequencesRow,
    `SELECT name, fed_sequence, replay_after FROM push_endpoints
     WHERE endpoint_id = ? AND removed_at IS NULL FOR UPDATE`,
    [endpointId],
  );
  return row;
}

function replayOf(row: {
  replay_after: number | null;
  replay_until: number | null;
  replay_since: Date | null;
  replay_before: Date | null;
}): ReplayRange | undefined {
  const { replay_after: after, replay_until: until, replay_since: since, replay_before: before } = row;
  if (after === null || until === null || since === null || before === null) return undefined;
  return { after, until, sinceMs: since.getTime(), beforeMs: before.getTime() };
}
