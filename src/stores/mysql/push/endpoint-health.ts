/** How an endpoint fares: its failures in a row, whether it counts as down, and whether it is gone. */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { fromNow } from '../leases.ts';
import { park } from '../rows/parked.ts';
import type { ClaimedDelivery } from './delivery-claims.ts';
import { claimOf, cutError, hurryWaiting, OF_CLAIM } from './delivery-rows.ts';

/** After so many failures with no success between, an endpoint counts as down. */
export const DOWN_AFTER_FAILURES = 5;

const failuresRow = z.object({ failures: z.int(), failed_probes: z.int() });

/**
 * Notes that the endpoint answers.
 * @returns whether it had counted as down; then all that waits is due, else what has failed
 */
export function noteSuccess(pool: Pool, endpointId: number): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const before = await lockFailures(connection, endpointId);
    await modify(
      connection,
      `UPDATE push_endpoints SET failures = 0, failed_probes = 0, failing_since = NULL, probe_at = NULL,
             last_success_at = NOW(3) WHERE endpoint_id = ?`,
      [endpointId],
    );
    if (before.failures === 0) return false;
    const wasDown = before.failures >= DOWN_AFTER_FAILURES;
    await hurryWaiting(connection, endpointId, wasDown ? 'all' : 'fresh');
    return wasDown;
  });
}

/**
 * The endpoint answered that it is gone: nothing is sent to it until an operator enables it. Gives the
 * claim back.
 */
export function disableGone(pool: Pool, delivery: ClaimedDelivery): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const { endpointId, endpointName } = delivery;
    await lockFailures(connection, endpointId);
    const isHeld = await modify(
      connection,
      `UPDATE push_deliveries SET claimed_until = NULL ${OF_CLAIM}`,
      claimOf(delivery),
    );
    if (isHeld === 0) return;
    const disabled = await modify(
      connection,
      `UPDATE push_endpoints SET disabled_for = 'gone'
           WHERE endpoint_id = ? AND disabled_for IS NULL AND removed_at IS NULL`,
      [endpointId],
    );
    if (disabled === 0) return;
    await park(connection, 'delivery', endpointName, 'the endpoint answered 410: it is gone', {
      cause: 'endpoint_gone',
      inputs: { endpoint: endpointName },
    });
  });
}

/**
 * Counts a failure, in the transaction that has locked the endpoint's row.
 * @param before as the row was found
 * @param probePauseMs how long until the next probe, from the number of those that failed
 * @returns whether it counts as down from now on
 */
export async function countFailure(
  connection: PoolConnection,
  before: EndpointFailures,
  { endpointId, isProbe, isDue }: Pick<ClaimedDelivery, 'endpointId' | 'isProbe' | 'isDue'>,
  error: string,
  probePauseMs: (failedProbes: number) => number,
): Promise<boolean> {
  const wasDown = before.failures >= DOWN_AFTER_FAILURES;
  // A probe ahead of the schedule is to find the endpoint back sooner, and never to have it count as down.
  const failures = before.failures + (isProbe && !isDue && !wasDown ? 0 : 1);
  const failedProbes = before.failed_probes + (isProbe ? 1 : 0);
  await modify(
    connection,
    `UPDATE push_endpoints SET failures = ?, failed_probes = ?, last_error = ?,
       failing_since = COALESCE(failing_since, NOW(3)), probe_at = ? WHERE endpoint_id = ?`,
    [failures, failedProbes, cutError(error), fromNow(probePauseMs(failedProbes)), endpointId],
  );
  return failures >= DOWN_AFTER_FAILURES && !wasDown;
}

type EndpointFailures = z.infer<typeof failuresRow>;

/** Locks the endpoint's row: its deliveries are locked after it, as when they are claimed. */
export async function lockFailures(
  connection: PoolConnection,
  endpointId: number,
): Promise<EndpointFailures> {
  const [row] = await selectRows(
    connection,
    failuresRow,
    'SELECT failures, failed_probes FROM push_endpoints WHERE endpoint_id = ? FOR UPDATE',
    [endpointId],
  );
  return row ?? { failures: 0, failed_probes: 0 };
}
