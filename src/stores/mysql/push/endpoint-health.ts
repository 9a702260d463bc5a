/** How an endpoint fares: its failures in a row, whether it counts as down, and whether it is gone. */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { park } from '../rows/parked.ts';
import type { ClaimedDelivery } from './delivery-claims.ts';
import { cutError, hurryWaiting } from './delivery-rows.ts';

/** After so many failures with no success between, an endpoint counts as down. */
export const DOWN_AFTER_FAILURES = 5;

const failuresRow = z.object({ failures: z.int(), failed_probes: z.int() });

export type EndpointHealth = ReturnType<typeof createEndpointHealth>;

export function createEndpointHealth(pool: Pool) {
  return {
    /**
     * Notes that the endpoint answers.
     * @returns whether it had counted as down; then all that waits is due
     */
    noteSuccess: (endpointId: number): Promise<boolean> =>
      inTransaction(pool, async (connection) => {
        const before = await readFailures(connection, endpointId);
        await modify(
          connection,
          `UPDATE push_endpoints SET failures = 0, failed_probes = 0, failing_since = NULL, probe_at = NULL,
             last_success_at = NOW(3) WHERE endpoint_id = ?`,
          [endpointId],
        );
        if (before.failures < DOWN_AFTER_FAILURES) return false;
        await hurryWaiting(connection, endpointId);
        return true;
      }),

    /**
     * Notes that the endpoint failed.
     * @param probePauseMs how long until the next probe, from the number of those that failed
     * @returns whether it counts as down from now on
     */
    noteFailure: (
      { endpointId, isProbe }: Pick<ClaimedDelivery, 'endpointId' | 'isProbe'>,
      error: string,
      probePauseMs: (failedProbes: number) => number,
    ): Promise<boolean> =>
      inTransaction(pool, async (connection) => {
        const before = await readFailures(connection, endpointId);
        const failedProbes = before.failed_probes + (isProbe ? 1 : 0);
        const isDown = before.failures + 1 >= DOWN_AFTER_FAILURES;
        await modify(
          connection,
          `UPDATE push_endpoints SET failures = failures + 1, failed_probes = ?, last_error = ?,
             failing_since = COALESCE(failing_since, NOW(3)), probe_at = ? WHERE endpoint_id = ?`,
          [
            failedProbes,
            cutError(error),
            isDown ? new Date(Date.now() + probePauseMs(failedProbes)) : null,
            endpointId,
          ],
        );
        return isDown && before.failures < DOWN_AFTER_FAILURES;
      }),

    /** The endpoint answered that it is gone: nothing is sent to it until an operator enables it. */
    disableGone: ({ endpointId, endpointName }: ClaimedDelivery): Promise<void> =>
      inTransaction(pool, async (connection) => {
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
      }),
  };
}

async function readFailures(connection: PoolConnection, endpointId: number) {
  const [row] = await selectRows(
    connection,
    failuresRow,
    'SELECT failures, failed_probes FROM push_endpoints WHERE endpoint_id = ? FOR UPDATE',
    [endpointId],
  );
  return row ?? { failures: 0, failed_probes: 0 };
}
