/** Claims of deliveries that are due: taken by one worker at a time, then delivered, failed or given back. */

import { z } from 'zod';
import { MAX_PUSHES_IN_FLIGHT } from '../../../domain/limits.ts';
import { parseOrderNo } from '../../../domain/order.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { park } from '../rows/parked.ts';
import { cutError, parkedReference, promoteNext } from './delivery-rows.ts';
import { DOWN_AFTER_FAILURES } from './endpoint-health.ts';

/**
 * How long a claim lasts: far longer than an attempt with what records it. After this time another worker may
 * take it.
 */
const PUSH_CLAIM_MS = 60_000;

const endpointRow = z.object({
  name: z.string(),
  url: z.string(),
  secret: z.string(),
  former_secret: z.string().nullable(),
  down: z.coerce.boolean(),
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
  /** False: it is not due by its schedule, and tries out whether the endpoint is back. */
  isDue: boolean;
  /** The endpoint counts as down, and nothing else is tried meanwhile. */
  isProbe: boolean;
  claimedUntil: Date;
}

/** Where and how the claimed deliveries go. */
export interface Claim {
  url: string;
  /** The current one first; while rotating also the one before. */
  secrets: string[];
  deliveries: ClaimedDelivery[];
}

export type DeliveryClaims = ReturnType<typeof createDeliveryClaims>;

export function createDeliveryClaims(pool: Pool) {
  return {
    /**
     * Claims what is due at this endpoint, as far as there is room beside what all workers are delivering to
     * it. Of an endpoint that is down it claims a single delivery, when a probe is due.
     * @returns undefined: nothing is due, or the endpoint is disabled or gone
     */
    take: (endpointId: number): Promise<Claim | undefined> =>
      inTransaction(pool, async (connection) => {
        const endpoint = await lockEndpoint(connection, endpointId);
        if (!endpoint) return undefined;
        const room = endpoint.down
          ? Number(endpoint.probe_due && endpoint.in_flight === 0)
          : MAX_PUSHES_IN_FLIGHT - endpoint.in_flight;
        if (room <= 0) return undefined;
        const rows = await selectDue(connection, endpointId, endpoint.down, room);
        if (rows.length === 0) return undefined;
        const claimedUntil = new Date(Date.now() + PUSH_CLAIM_MS);
        await modify(connection, 'UPDATE push_deliveries SET claimed_until = ? WHERE delivery_id IN (?)', [
          claimedUntil,
          rows.map((row) => row.delivery_id),
        ]);
        const { name: endpointName, down: isProbe } = endpoint;
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
      }),

    /** The endpoint has taken it. The next of its line is due, also where its claim had run out. */
    complete: ({ deliveryId, endpointId, line }: ClaimedDelivery): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const ended = await modify(
          connection,
          `UPDATE push_deliveries SET status = 'delivered', due_at = NULL, claimed_until = NULL,
             attempts = attempts + 1, last_error = NULL, ended_at = NOW(3)
           WHERE delivery_id = ? AND status = 'waiting'`,
          [deliveryId],
        );
        if (ended > 0) await promoteNext(connection, endpointId, line);
      }),

    /** It failed, and is due again then. A try that was not due leaves its schedule as it was. */
    async postpone(delivery: ClaimedDelivery, error: string, dueAt: Date): Promise<void> {
      await modify(
        pool,
        `UPDATE push_deliveries SET claimed_until = NULL, last_error = ?, attempts = attempts + ?,
           due_at = IF(?, ?, due_at) ${OF_CLAIM}`,
        [cutError(error), delivery.isDue ? 1 : 0, delivery.isDue, dueAt, ...claimOf(delivery)],
      );
    },

    /** Its last try failed: an operator is to see to it, and the next of its line is due. */
    park: (delivery: ClaimedDelivery, error: string): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const ended = await modify(
          connection,
          `UPDATE push_deliveries SET status = 'parked', due_at = NULL, claimed_until = NULL,
             attempts = attempts + 1, last_error = ?, ended_at = NOW(3) ${OF_CLAIM}`,
          [cutError(error), ...claimOf(delivery)],
        );
        if (ended === 0) return;
        const { endpointId, endpointName, eventId, line, sequence } = delivery;
        await promoteNext(connection, endpointId, line);
        // The caller who asked for a test watches it.
        if (sequence === null) return;
        const reason = `no try of the schedule reached the endpoint; the last: ${error}`;
        await park(connection, 'delivery', parkedReference(endpointName, eventId), reason, {
          cause: 'delivery_failing',
          inputs: { endpoint: endpointName, eventId, ...(parseOrderNo(line) && { orderNo: line }) },
        });
      }),

    /** Gives a claim back; the delivery is due as it was before. */
    async release(delivery: ClaimedDelivery): Promise<void> {
      await modify(pool, `UPDATE push_deliveries SET claimed_until = NULL ${OF_CLAIM}`, claimOf(delivery));
    },
  };
}

/** The lock makes the claims of all workers one after the other, so that together they keep the bound. */
async function lockEndpoint(connection: PoolConnection, endpointId: number) {
  const [endpoint] = await selectRows(
    connection,
    endpointRow,
    `SELECT name, url, secret, IF(former_until > NOW(3), former_secret, NULL) AS former_secret,
       failures >= ${DOWN_AFTER_FAILURES} AS down, COALESCE(probe_at <= NOW(3), TRUE) AS probe_due,
       (SELECT COUNT(*) FROM push_deliveries d
        WHERE d.endpoint_id = e.endpoint_id AND d.claimed_until > NOW(3)) AS in_flight
     FROM push_endpoints e WHERE endpoint_id = ? AND disabled_for IS NULL AND removed_at IS NULL FOR UPDATE`,
    [endpointId],
  );
  return endpoint;
}

/** The longest due first. To probe also what is not due yet, where nothing else is. */
function selectDue(connection: PoolConnection, endpointId: number, isDown: boolean, limit: number) {
  return selectRows(
    connection,
    deliveryRow,
    `SELECT delivery_id, event_id, sequence, line, attempts, created_at, due_at <= NOW(3) AS is_due
     FROM push_deliveries WHERE endpoint_id = ? AND due_at ${isDown ? 'IS NOT NULL' : '<= NOW(3)'}
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

/** Only while the claim is the caller's: another worker may have it by now. */
const OF_CLAIM = `WHERE delivery_id = ? AND claimed_until = ? AND status = 'waiting'`;
const claimOf = ({ deliveryId, claimedUntil }: ClaimedDelivery) => [deliveryId, claimedUntil];
