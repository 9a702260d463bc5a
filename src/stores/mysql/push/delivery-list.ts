/** Shows what became of an endpoint's deliveries. */

import { z } from 'zod';
import { DELIVERY_STATUSES, type DeliveryStatus } from '../../../domain/push.ts';
import { selectRows, type Pool } from '../connection.ts';

const listedRow = z
  .object({
    delivery_id: z.int(),
    event_id: z.string(),
    sequence: z.int().nullable(),
    status: z.enum(DELIVERY_STATUSES),
    attempts: z.int(),
    due_at: z.date().nullable(),
    last_error: z.string().nullable(),
    created_at: z.date(),
    ended_at: z.date().nullable(),
  })
  .transform((row) => ({
    deliveryId: row.delivery_id,
    eventId: row.event_id,
    sequence: row.sequence,
    status: row.status,
    attempts: row.attempts,
    /** Null: it has ended, or waits for another one. */
    dueAt: row.due_at,
    lastError: row.last_error,
    createdAt: row.created_at,
    endedAt: row.ended_at,
  }));

export type Delivery = z.infer<typeof listedRow>;

/** The deliveries of this status, or those of one order or sale. */
export type DeliveryQuery = { status: DeliveryStatus } | { line: string };

/** In the order in which they were added. @param after the delivery at which the page before ended */
export function list(
  pool: Pool,
  endpointId: number,
  query: DeliveryQuery,
  { after, limit }: { after: number; limit: number },
): Promise<Delivery[]> {
  const [condition, value] =
    'line' in query ? ['line = ? AND status IN (?)', query.line] : ['status = ?', query.status];
  return selectRows(
    pool,
    listedRow,
    `SELECT delivery_id, event_id, sequence, status, attempts, due_at, last_error, created_at, ended_at
         FROM push_deliveries WHERE endpoint_id = ? AND ${condition} AND delivery_id > ?
         ORDER BY delivery_id LIMIT ?`,
    [endpointId, value, ...('line' in query ? [DELIVERY_STATUSES] : []), after, limit],
  );
}
