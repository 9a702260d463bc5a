/** The rows of endpoints: how they are read and locked, and what it takes to try one afresh. */

import { z } from 'zod';
import { modify, selectRows, type Executor, type PoolConnection } from '../connection.ts';
import { unpark } from '../rows/parked.ts';
import { hurryWaiting } from './delivery-rows.ts';
import { parseTypes } from './endpoint-feed.ts';
import { DOWN_AFTER_FAILURES } from './endpoint-health.ts';

const endpointRow = z
  .object({
    endpoint_id: z.int(),
    name: z.string(),
    url: z.string(),
    types: z.string().nullable(),
    sale_id: z.string().nullable(),
    description: z.string(),
    disabled_for: z.enum(['operator', 'gone']).nullable(),
    former_until: z.date().nullable(),
    fed_sequence: z.int(),
    last_sequence: z.int(),
    replaying: z.coerce.boolean(),
    failures: z.int(),
    failing_since: z.date().nullable(),
    last_success_at: z.date().nullable(),
    last_error: z.string().nullable(),
    waiting: z.int(),
    waiting_since: z.date().nullable(),
    created_at: z.date(),
    now: z.date(),
  })
  .transform((row) => ({
    endpointId: row.endpoint_id,
    name: row.name,
    url: row.url,
    types: parseTypes(row.types),
    saleId: row.sale_id,
    description: row.description,
    disabledFor: row.disabled_for,
    /** Until then the former secret signs too. */
    rotatingUntil: row.former_until,
    createdAt: row.created_at,
    /** When it was read, by MySQL's clock, as are all of its times. */
    readAt: row.now,
    fedSequence: row.fed_sequence,
    isReplaying: row.replaying,
    health: {
      isDown: row.failures >= DOWN_AFTER_FAILURES,
      failures: row.failures,
      failingSince: row.failing_since,
      lastSuccessAt: row.last_success_at,
      lastError: row.last_error,
      waiting: row.waiting,
      waitingSince: row.waiting_since,
      /** Events of the feed that were not looked at for it yet. */
      behind: Math.max(0, row.last_sequence - row.fed_sequence),
    },
  }));
const idRow = z.object({ endpoint_id: z.int(), former_active: z.coerce.boolean() });

/** An endpoint and how it fares, without its secrets. */
export type Endpoint = z.infer<typeof endpointRow>;

/** Undefined when there is none of this name. */
export async function readEndpoint(executor: Executor, name: string): Promise<Endpoint | undefined> {
  return (await selectEndpoints(executor, 'name = ?', [name]))[0];
}

export function selectEndpoints(
  executor: Executor,
  condition: string,
  values: unknown[],
): Promise<Endpoint[]> {
  return selectRows(
    executor,
    endpointRow,
    `SELECT endpoint_id, name, url, types, sale_id, description, disabled_for, fed_sequence, failures,
       failing_since, last_success_at, last_error, created_at, NOW(3) AS now,
       IF(former_until > NOW(3), former_until, NULL) AS former_until, replay_until IS NOT NULL AS replaying,
       (SELECT last_sequence FROM event_dispatch) AS last_sequence,
       (SELECT COUNT(*) FROM push_deliveries d
        WHERE d.endpoint_id = e.endpoint_id AND d.status = 'waiting') AS waiting,
       (SELECT created_at FROM push_deliveries d WHERE d.endpoint_id = e.endpoint_id AND d.status = 'waiting'
        ORDER BY d.delivery_id LIMIT 1) AS waiting_since
     FROM push_endpoints e WHERE removed_at IS NULL AND ${condition}`,
    values,
  );
}

/** Undefined when there is none of this name. */
export async function lockEndpoint(connection: PoolConnection, name: string) {
  const [row] = await selectRows(
    connection,
    idRow,
    `SELECT endpoint_id, COALESCE(former_until > NOW(3), FALSE) AS former_active FROM push_endpoints
     WHERE name = ? FOR UPDATE`,
    [name],
  );
  return row;
}

/** The caller holds the lock of its row. */
export async function enableEndpoint(
  connection: PoolConnection,
  endpointId: number,
  name: string,
): Promise<void> {
  await modify(connection, 'UPDATE push_endpoints SET disabled_for = NULL WHERE endpoint_id = ?', [
    endpointId,
  ]);
  await unpark(connection, 'delivery', name);
  await startAfresh(connection, endpointId);
}

/** Its failures are forgotten, and all that waits is due. */
export async function startAfresh(connection: PoolConnection, endpointId: number): Promise<void> {
  await modify(
    connection,
    `UPDATE push_endpoints SET failures = 0, failed_probes = 0, failing_since = NULL, probe_at = NULL
     WHERE endpoint_id = ?`,
    [endpointId],
  );
  await hurryWaiting(connection, endpointId, 'all');
}
