/** The deliveries that are due at an endpoint, in turns: no sale waits for all that another sale has. */

import { z } from 'zod';
import { selectRows, type PoolConnection } from '../mysql/connection.ts';
import { takeTurns } from '../turns.ts';

const turnRow = z.object({ turn: z.string().nullable() });
const dueRow = z
  .object({
    delivery_id: z.int(),
    event_id: z.string(),
    sequence: z.int().nullable(),
    line: z.string(),
    attempts: z.int(),
    created_at: z.date(),
    is_due: z.coerce.boolean(),
  })
  .transform((row) => ({
    deliveryId: row.delivery_id,
    eventId: row.event_id,
    /** Null for a test. */
    sequence: row.sequence,
    line: row.line,
    /** How often it was tried, by its schedule. */
    attempts: row.attempts,
    createdAtMs: row.created_at.getTime(),
    /** False: it is tried ahead of its schedule, because the endpoint is back or may be. */
    isDue: row.is_due,
  }));

export type DueDelivery = z.infer<typeof dueRow>;

/**
 * Locks deliveries that nobody has claimed. Each call begins with the sale after the one that had the last
 * turn, which has as much of the limit as it can use; the sales after it have the rest.
 * @param which waiting: also those that are not due yet
 * @param after the sale that had the last turn; empty: none
 */
export async function selectInTurns(
  connection: PoolConnection,
  endpointId: number,
  which: 'due' | 'waiting',
  limit: number,
  after: string,
): Promise<{ due: DueDelivery[]; lastTurn: string }> {
  const due: DueDelivery[] = [];
  let lastTurn = after;
  if (limit <= 0) return { due, lastTurn };
  const findNext = (from: string) => findTurn(connection, endpointId, from);
  for await (const turn of takeTurns(findNext, after)) {
    lastTurn = turn;
    due.push(...(await selectDue(connection, endpointId, turn, which, limit - due.length)));
    if (due.length === limit) break;
  }
  return { due, lastTurn };
}

/** The next sale that has deliveries, after the last one the first again. */
async function findTurn(
  connection: PoolConnection,
  endpointId: number,
  after: string,
): Promise<string | undefined> {
  const waiting = `SELECT turn FROM push_deliveries FORCE INDEX (push_deliveries_turn)
    WHERE endpoint_id = ? AND status = 'waiting'`;
  const [row] = await selectRows(
    connection,
    turnRow,
    `SELECT COALESCE((${waiting} AND turn > ? ORDER BY turn LIMIT 1), (${waiting} ORDER BY turn LIMIT 1)) AS turn`,
    [endpointId, after, endpointId],
  );
  return row?.turn ?? undefined;
}

/** Of one sale; the longest due first. */
function selectDue(
  connection: PoolConnection,
  endpointId: number,
  turn: string,
  which: 'due' | 'waiting',
  limit: number,
): Promise<DueDelivery[]> {
  return selectRows(
    connection,
    dueRow,
    `SELECT delivery_id, event_id, sequence, line, attempts, created_at,
       COALESCE(scheduled_at, due_at) <= NOW(3) AS is_due
     FROM push_deliveries FORCE INDEX (push_deliveries_turn)
     WHERE endpoint_id = ? AND status = 'waiting' AND turn = ?
       AND due_at ${which === 'due' ? '<= NOW(3)' : 'IS NOT NULL'}
       AND (claimed_until IS NULL OR claimed_until <= NOW(3))
     ORDER BY due_at, delivery_id LIMIT ? FOR UPDATE SKIP LOCKED`,
    [endpointId, turn, limit],
  );
}
