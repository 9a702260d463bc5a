/** Claims of deliveries that are due: taken by one worker at a time, then delivered, failed or given back. */

import { z } from 'zod';
import { MAX_PUSHES_IN_FLIGHT } from '../../../domain/limits.ts';
import { parseOrderNo } from '../../../domain/order.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { fromNow, takeLease } from '../leases.ts';
import { park as parkWork } from '../rows/parked.ts';
import { claimOf, cutError, OF_CLAIM, parkedReference, promoteNext } from './delivery-rows.ts';
import { countFailure, DOWN_AFTER_FAILURES, lockFailures } from './endpoint-health.ts';

/**
 * How long a claim lasts: far longer than an attempt with what records it. After this time another worker may
 * take it.
 */
const PUSH_CLAIM_MS = 60_000;
const LEASED = { table: 'push_deliveries', key: 'delivery_id', until: 'claimed_until' };

const endpointRow = z.object({
  name: z.string(),
  url: z.string(),
  secret: z.string(),
  former_secret: z.string().nullable(),
  down: z.coerce.boolean(),
  failing: z.coerce.boolean(),
  probe_due: z.coerce.boolean(),
  in_flight: z.int(),
});
const deliveryRow = z.object({
  delivery_id: z.int(),
  event_id: z.string(),
  sequence: z.int().nullable(),
  line: z.string(),
  attempts: z.int(),
  created_at: z.date(),
  is_due: z.coerce.boolean(),
});

/** A delivery that is the caller's until its claim runs out. */
export interface ClaimedDelivery {
  deliveryId: number;
  endpointId: number;
  endpointName: string;
  eventId: string;
  /** Null for a test. */
  sequence: number | null;
  line: string;
  /** How often it was tried, by its schedule. */
  attempts: number;
  createdAtMs: number;
  /** False: it is tried ahead of its schedule, because the endpoint is back or may be. */
  isDue: boolean;
  /** It tries out whether an endpoint is back that has failed, and nothing else is tried meanwhile. */
  isProbe: boolean;
  /** By MySQL's clock. It tells this claim from the next one. */
  claimedUntil: Date;
}

/** Where and how the claimed deliveries go. */
export interface Claim {
  url: string;
  /** The current one first; while rotating also the one before. */
  secrets: string[];
  deliveries: ClaimedDelivery[];
}

/**
 * Claims what is due at this endpoint, as far as there is room beside what all workers are delivering to
 * it. Of an endpoint that is down, or has failed and has nothing due, it claims a single delivery, when a
 * probe is due.
 * @returns undefined: nothing is due, or the endpoint is disabled or gone
 */
export function take(pool: Pool, endpointId: number): Promise<Claim | undefined> {
  return inTransaction(pool, async (connection) => {
    const endpoint = await lockEndpoint(connection, endpointId);
    if (!endpoint) return undefined;
    const room = endpoint.down ? 0 : MAX_PUSHES_IN_FLIGHT - endpoint.in_flight;
    let rows = room > 0 ? await selectDue(connection, endpointId, 'due', room) : [];
    const isProbe = rows.length === 0 && endpoint.failing && endpoint.probe_due && endpoint.in_flight === 0;
    if (isProbe) rows = await selectDue(connection, endpointId, 'waiting', 1);
    if (rows.length === 0) return undefined;
    const ids = rows.map((row) => row.delivery_id);
    const claimedUntil = await takeLease(connection, LEASED, ids, PUSH_CLAIM_MS);
    const { name: endpointName } = endpoint;
    return {
      url: endpoint.url,
      secrets: [endpoint.secret, ...(endpoint.former_secret === null ? [] : [endpoint.former_secret])],
      deliveries: rows.map((row) => ({
        ...toDelivery(row),
        endpointId,
        endpointName,
        isProbe,
        claimedUntil,
      })),
    };
  });
}

/**
 * The endpoint has taken it. The next of its line is due, also where its claim had run out.
 * @returns whether the claim was still the caller's
 */
export function complete(pool: Pool, delivery: ClaimedDelivery): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const { deliveryId, endpointId, line } = delivery;
    const isHeld = (await modify(connection, `${END_DELIVERED} ${OF_CLAIM}`, claimOf(delivery))) > 0;
    const hasEnded =
      isHeld ||
      (await modify(connection, `${END_DELIVERED} WHERE delivery_id = ? AND status = 'waiting'`, [
        deliveryId,
      ])) > 0;
    if (hasEnded) await promoteNext(connection, endpointId, line);
    return isHeld;
  });
}

/**
 * It failed, and so did the endpoint: it is due again by its schedule, or parked after the last try.
 * Where the claim has run out the attempt counts for neither, and it is due anyway.
 * @returns whether the endpoint counts as down from now on
 */
export function fail(
  pool: Pool,
  delivery: ClaimedDelivery,
  error: string,
  pauses: FailurePauses,
): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const before = await lockFailures(connection, delivery.endpointId);
    const { retryMs } = pauses;
    // A try ahead of the schedule is no part of it, so it is never the last one either.
    const isHeld = await (retryMs === undefined && delivery.isDue
      ? parkHeld(connection, delivery, error)
      : postponeHeld(connection, delivery, error, { ...pauses, retryMs: retryMs ?? 0 }));
    return isHeld && countFailure(connection, before, delivery, error, pauses.probeMs);
  });
}

/** It cannot be sent at all: an operator is to see to it, and the next of its line is due. */
export function park(pool: Pool, delivery: ClaimedDelivery, error: string): Promise<boolean> {
  return inTransaction(pool, (connection) => parkHeld(connection, delivery, error));
}

/** How long to wait after a failure, in ms. */
export interface FailurePauses {
  /** Until the next try of the schedule; undefined: this was the last. */
  retryMs: number | undefined;
  /** What the endpoint asked for; 0: nothing. */
  askedMs: number;
  /** Until the endpoint is probed, from the number of probes that failed. */
  probeMs: (failedProbes: number) => number;
}

const END_DELIVERED = `UPDATE push_deliveries SET status = 'delivered', due_at = NULL, claimed_until = NULL,
  attempts = attempts + 1, last_error = NULL, ended_at = NOW(3)`;

/** A try ahead of the schedule leaves that as it was. @returns whether the claim was the caller's */
async function postponeHeld(
  connection: PoolConnection,
  delivery: ClaimedDelivery,
  error: string,
  { retryMs, askedMs }: { retryMs: number; askedMs: number },
): Promise<boolean> {
  // Each assignment sees those before it: what the endpoint asked to have later is not tried sooner.
  const [assignments, values] = delivery.isDue
    ? [
        'attempts = attempts + 1, due_at = ?, scheduled_at = IF(?, due_at, NULL)',
        [fromNow(retryMs), askedMs > 0],
      ]
    : ['due_at = GREATEST(COALESCE(scheduled_at, due_at), ?)', [fromNow(askedMs)]];
  const postponed = await modify(
    connection,
    `UPDATE push_deliveries SET claimed_until = NULL, last_error = ?, ${assignments} ${OF_CLAIM}`,
    [cutError(error), ...values, ...claimOf(delivery)],
  );
  return postponed > 0;
}

/** @returns whether the claim was the caller's */
async function parkHeld(
  connection: PoolConnection,
  delivery: ClaimedDelivery,
  error: string,
): Promise<boolean> {
  const ended = await modify(
    connection,
    `UPDATE push_deliveries SET status = 'parked', due_at = NULL, claimed_until = NULL,
       attempts = attempts + 1, last_error = ?, ended_at = NOW(3) ${OF_CLAIM}`,
    [cutError(error), ...claimOf(delivery)],
  );
  if (ended === 0) return false;
  const { endpointId, endpointName, eventId, line, sequence } = delivery;
  await promoteNext(connection, endpointId, line);
  // The caller who asked for a test watches it.
  if (sequence === null) return true;
  const reason = `no try of the schedule reached the endpoint; the last: ${error}`;
  await parkWork(connection, 'delivery', parkedReference(endpointName, eventId), reason, {
    cause: 'delivery_failing',
    inputs: { endpoint: endpointName, eventId, ...(parseOrderNo(line) && { orderNo: line }) },
  });
  return true;
}

/** The lock makes the claims of all workers one after the other, so that together they keep the bound. */
async function lockEndpoint(connection: PoolConnection, endpointId: number) {
  const [endpoint] = await selectRows(
    connection,
    endpointRow,
    `SELECT name, url, secret, IF(former_until > NOW(3), former_secret, NULL) AS former_secret,
       failures >= ${DOWN_AFTER_FAILURES} AS down, failures > 0 AS failing,
       COALESCE(probe_at <= NOW(3), TRUE) AS probe_due,
       (SELECT COUNT(*) FROM push_deliveries d
        WHERE d.endpoint_id = e.endpoint_id AND d.claimed_until > NOW(3)) AS in_flight
     FROM push_endpoints e WHERE endpoint_id = ? AND disabled_for IS NULL AND removed_at IS NULL FOR UPDATE`,
    [endpointId],
  );
  return endpoint;
}

/** The longest due first. waiting: also what is not due yet, where nothing else is. */
function selectDue(connection: PoolConnection, endpointId: number, which: 'due' | 'waiting', limit: number) {
  return selectRows(
    connection,
    deliveryRow,
    `SELECT delivery_id, event_id, sequence, line, attempts, created_at,
       COALESCE(scheduled_at, due_at) <= NOW(3) AS is_due
     FROM push_deliveries WHERE endpoint_id = ? AND due_at ${which === 'due' ? '<= NOW(3)' : 'IS NOT NULL'}
       AND (claimed_until IS NULL OR claimed_until <= NOW(3))
     ORDER BY due_at, delivery_id LIMIT ? FOR UPDATE SKIP LOCKED`,
    [endpointId, limit],
  );
}

function toDelivery(row: z.infer<typeof deliveryRow>) {
  return {
    deliveryId: row.delivery_id,
    eventId: row.event_id,
    sequence: row.sequence,
    line: row.line,
    attempts: row.attempts,
    createdAtMs: row.created_at.getTime(),
    isDue: row.is_due,
  };
}
