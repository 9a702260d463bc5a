/**
 * Claims of payments whose refund workflow is due to be started or signalled: taken, completed or released.
 */

import { z } from 'zod';
import { REFUND_REASONS } from '../../../domain/payment.ts';
import { inTransaction, modify, selectRows, type Pool } from '../connection.ts';
import { takeLease } from '../leases.ts';
import { selectList } from '../select-list.ts';

/** How long a claim lasts. A relay completes it within seconds; after this time another relay may take it. */
const CLAIM_MS = 30_000;
const LEASED = { table: 'payments', key: 'payment_id', until: 'engine_due_at' };

const openRow = z.object({
  paymentId: z.int(),
  provider: z.string(),
  providerPaymentId: z.string(),
  /** Nothing is due or claimed: its workflow alone will go on. */
  isWaiting: z.coerce.boolean(),
});

const OPEN = selectList(openRow, { isWaiting: 'engine_due_at IS NULL' });

/** A payment that is to go back, as a walk over them sees it. */
export type OpenRefund = z.infer<typeof openRow>;

const dueRow = z.object({
  paymentId: z.int(),
  provider: z.string(),
  providerPaymentId: z.string(),
  orderNo: z.string(),
  /** Minor units. */
  amount: z.int(),
  currency: z.string(),
  /** Null: no refund was requested here. The workflow then gives back the limit or stock. */
  reason: z.enum(REFUND_REASONS).nullable(),
});

const DUE = selectList(dueRow, { reason: 'refund_reason' });

/** A payment whose refund workflow is to be started or signalled, claimed by one relay. */
export interface DueRefund extends z.infer<typeof dueRow> {
  /** When the claim runs out, by MySQL's clock (Unix ms). It distinguishes this claim from the next one. */
  claimedUntilMs: number;
}

const idRow = dueRow.pick({ paymentId: true });

/** Ends only the caller's own claims. A payment that became due again has another time, and stays due. */
async function endClaims(pool: Pool, claimed: readonly DueRefund[], dueAt: 'NULL' | 'NOW(3)'): Promise<void> {
  if (claimed.length === 0) return;
  const ids = claimed.map(({ paymentId }) => paymentId);
  const claims = claimed.map(({ paymentId, claimedUntilMs }) => [paymentId, new Date(claimedUntilMs)]);
  await inTransaction(pool, (connection) =>
    // The ids are given once more because only they lead through the index.
    modify(
      connection,
      `UPDATE payments SET engine_due_at = ${dueAt}
         WHERE payment_id IN (?) AND (payment_id, engine_due_at) IN (?)`,
      [ids, claims],
    ),
  );
}

/**
 * Claims up to `limit` payments, the longest due first. Each is the caller's until `complete` or
 * `release`, or until the claim runs out.
 */
export function take(pool: Pool, limit: number): Promise<DueRefund[]> {
  return inTransaction(pool, async (connection) => {
    const due = await selectRows(
      connection,
      dueRow,
      `SELECT ${DUE} FROM payments
           WHERE engine_due_at <= NOW(3) ORDER BY engine_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
      [limit],
    );
    if (due.length === 0) return [];
    const ids = due.map(({ paymentId }) => paymentId);
    const until = await takeLease(connection, LEASED, ids, CLAIM_MS);
    return due.map((refund) => ({ ...refund, claimedUntilMs: until.getTime() }));
  });
}

/** Ends the claims of payments whose workflow was started or signalled. */
export function complete(pool: Pool, claimed: readonly DueRefund[]): Promise<void> {
  return endClaims(pool, claimed, 'NULL');
}

/**
 * Ends the claims of payments whose workflow could not be started or signalled; they are due again at
 * once.
 */
export function release(pool: Pool, claimed: readonly DueRefund[]): Promise<void> {
  return endClaims(pool, claimed, 'NOW(3)');
}

/** Up to `limit` payments that are to go back, after this one, by their ids. */
export function listOpen(
  pool: Pool,
  after: Pick<OpenRefund, 'paymentId'> | undefined,
  limit: number,
): Promise<OpenRefund[]> {
  return selectRows(
    pool,
    openRow,
    `SELECT ${OPEN}
         FROM payments FORCE INDEX (payments_by_status) WHERE status = 'refund_due' AND payment_id > ?
         ORDER BY payment_id LIMIT ?`,
    [after?.paymentId ?? 0, limit],
  );
}

/**
 * Makes refunds due whose workflow has been lost, unless they are due or claimed by now.
 * @returns those that are due by this call
 */
export function requeue(pool: Pool, paymentIds: readonly number[]): Promise<number[]> {
  return paymentIds.length === 0
    ? Promise.resolve([])
    : inTransaction(pool, async (connection) => {
        const rows = await selectRows(
          connection,
          idRow,
          `SELECT payment_id AS paymentId FROM payments
               WHERE payment_id IN (?) AND status = 'refund_due' AND engine_due_at IS NULL FOR UPDATE`,
          [paymentIds],
        );
        const lost = rows.map(({ paymentId }) => paymentId);
        if (lost.length > 0)
          await modify(connection, 'UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id IN (?)', [
            lost,
          ]);
        return lost;
      });
}
