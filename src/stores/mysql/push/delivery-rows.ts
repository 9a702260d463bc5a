/** The rows of deliveries: how they are added, and how those of one line follow each other. */

import { z } from 'zod';
import { modify, selectRows, type PoolConnection } from '../connection.ts';
import { now } from '../leases.ts';
import { unpark } from '../rows/parked.ts';

/** What is to be delivered. */
export interface NewDelivery {
  eventId: string;
  /** Its place in the feed; null for a test. */
  sequence: number | null;
  /** Deliveries of one line go one after the other. */
  line: string;
}

/** A delivery that was claimed. */
interface HeldDelivery {
  deliveryId: number;
  /** By MySQL's clock. It tells this claim from the next one. */
  claimedUntil: Date;
}

/** An endpoint, as far as its deliveries are concerned. */
export interface DeliveryOwner {
  endpointId: number;
  name: string;
}

/** The width of the column. */
const MAX_ERROR_CHARS = 255;

const nextRow = z.object({ delivery_id: z.int() });
const lineRow = z.object({ line: z.string() });
const endedRow = z.object({ event_id: z.string(), status: z.string() });

/** How parked work names a delivery. */
export function parkedReference(endpointName: string, eventId: string): string {
  return `${endpointName}/${eventId}`;
}

/**
 * Adds deliveries at the ends of their lines. One that has ended begins anew; one that waits stays where it
 * is. The caller holds the lock of the endpoint's row.
 */
export async function addDeliveries(
  connection: PoolConnection,
  endpoint: DeliveryOwner,
  deliveries: readonly NewDelivery[],
): Promise<void> {
  if (deliveries.length === 0) return;
  await removeEnded(connection, endpoint, deliveries);
  const occupied = await lockLines(connection, endpoint, deliveries);
  const rows = deliveries.map(({ eventId, sequence, line }) => {
    const isHead = !occupied.has(line);
    occupied.add(line);
    return [endpoint.endpointId, eventId, sequence, line, 'waiting', isHead ? now : null];
  });
  await modify(
    connection,
    `INSERT INTO push_deliveries (endpoint_id, event_id, sequence, line, status, due_at) VALUES ?
     ON DUPLICATE KEY UPDATE event_id = push_deliveries.event_id`,
    [rows],
  );
}

async function removeEnded(
  connection: PoolConnection,
  { endpointId, name }: DeliveryOwner,
  deliveries: readonly NewDelivery[],
): Promise<void> {
  const ended = await selectRows(
    connection,
    endedRow,
    `SELECT event_id, status FROM push_deliveries WHERE endpoint_id = ? AND event_id IN (?)
       AND status <> 'waiting' FOR UPDATE`,
    [endpointId, deliveries.map(({ eventId }) => eventId)],
  );
  if (ended.length === 0) return;
  for (const row of ended)
    if (row.status === 'parked') await unpark(connection, 'delivery', parkedReference(name, row.event_id));
  await modify(connection, 'DELETE FROM push_deliveries WHERE endpoint_id = ? AND event_id IN (?)', [
    endpointId,
    ended.map((row) => row.event_id),
  ]);
}

/**
 * The lines in which something waits. They stay so until the caller commits: the delivery of what waits there
 * finds the next one only after that.
 */
async function lockLines(
  connection: PoolConnection,
  { endpointId }: DeliveryOwner,
  deliveries: readonly NewDelivery[],
): Promise<Set<string>> {
  const rows = await selectRows(
    connection,
    lineRow,
    `SELECT line FROM push_deliveries WHERE endpoint_id = ? AND line IN (?) AND status = 'waiting' FOR UPDATE`,
    [endpointId, [...new Set(deliveries.map(({ line }) => line))]],
  );
  return new Set(rows.map((row) => row.line));
}

/** The next of the line is due: the caller's transaction has ended the one before it. */
export async function promoteNext(
  connection: PoolConnection,
  endpointId: number,
  line: string,
): Promise<void> {
  // Not one UPDATE with a limit: MariaDB reads and sorts the whole line for it.
  const [next] = await selectRows(
    connection,
    nextRow,
    `SELECT delivery_id FROM push_deliveries WHERE endpoint_id = ? AND line = ? AND status = 'waiting'
     ORDER BY delivery_id LIMIT 1 FOR UPDATE`,
    [endpointId, line],
  );
  if (!next) return;
  await modify(
    connection,
    'UPDATE push_deliveries SET due_at = COALESCE(due_at, NOW(3)) WHERE delivery_id = ?',
    [next.delivery_id],
  );
}

/**
 * What waits is due at once, for the endpoint is back. What is behind another stays there. Such a try is
 * ahead of the schedule and no part of it: an endpoint that comes and goes would use it up within minutes.
 * @param which fresh: what was not tried so since the last try of its schedule
 */
export async function hurryWaiting(
  connection: PoolConnection,
  endpointId: number,
  which: 'all' | 'fresh',
): Promise<void> {
  await modify(
    connection,
    `UPDATE push_deliveries SET scheduled_at = COALESCE(scheduled_at, due_at), due_at = NOW(3)
     WHERE endpoint_id = ? AND due_at > NOW(3) ${which === 'fresh' ? 'AND scheduled_at IS NULL' : ''}`,
    [endpointId],
  );
}

/**
 * Only while the claim is the caller's: a process that stood still for longer knows nothing of the endpoint,
 * and another may have the delivery by now.
 */
export const OF_CLAIM = `WHERE delivery_id = ? AND claimed_until = ? AND claimed_until > NOW(3)
  AND status = 'waiting'`;
export const claimOf = ({ deliveryId, claimedUntil }: HeldDelivery) => [deliveryId, claimedUntil];

export function cutError(error: string): string {
  return error.slice(0, MAX_ERROR_CHARS);
}
