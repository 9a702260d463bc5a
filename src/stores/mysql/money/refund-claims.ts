/** Payments on their way from MySQL to their refund workflow: which are due, who has claimed them, which have arrived. */

import { z } from 'zod';
import { REFUND_REASONS, type RefundReason } from '../../../domain/payment.ts';
import { inTransaction, modify, selectRows, type Pool } from '../connection.ts';

/** A claimed payment is handed over within seconds; a relay that died leaves it to the next after this time. */
const CLAIM_MS = 30_000;
/** A refund that gets on is written to more often; one that waits for its provider bears being looked at once an hour. */
const STUCK_AFTER_SECONDS = 3_600;
/** The index on the time it is due would find all payments that are not due. */
const IS_STUCK = `status = 'refund_due' AND engine_due_at IS NULL AND updated_at < NOW(3) - INTERVAL ? SECOND`;

/** A payment whose refund workflow is to be started or woken, claimed by one relay. */
export interface DueRefund {
  paymentId: number;
  orderNo: string;
  /** Minor units. */
  amount: number;
  currency: string;
  /** Null: nobody here wanted the money to go back; what it means for the order's limit or stock is to be given back. */
  reason: RefundReason | null;
  /** Unix time in ms at which the claim runs out; it is what tells it from the next one. */
  claimedUntilMs: number;
}

const dueRow = z
  .object({
    payment_id: z.int(),
    order_no: z.string(),
    amount: z.int(),
    currency: z.string(),
    refund_reason: z.enum(REFUND_REASONS).nullable(),
  })
  .transform(({ payment_id: paymentId, order_no: orderNo, refund_reason: reason, ...money }) => ({
    paymentId,
    orderNo,
    ...money,
    reason,
  }));

export type RefundClaims = ReturnType<typeof createRefundClaims>;

export function createRefundClaims(pool: Pool) {
  /** Only what is still the caller's: made due anew meanwhile, it has another time, and stays due. */
  async function endClaims(claimed: readonly DueRefund[], dueAt: 'NULL' | 'NOW(3)'): Promise<void> {
    if (claimed.length === 0) return;
    const ids = claimed.map(({ paymentId }) => paymentId);
    const claims = claimed.map(({ paymentId, claimedUntilMs }) => [paymentId, new Date(claimedUntilMs)]);
    await inTransaction(pool, (connection) =>
      // The ids alone lead through the index.
      modify(
        connection,
        `UPDATE payments SET engine_due_at = ${dueAt}
         WHERE payment_id IN (?) AND (payment_id, engine_due_at) IN (?)`,
        [ids, claims],
      ),
    );
  }

  return {
    /** Takes up to `limit` payments, the longest due first. Each belongs to the caller until `complete`, or until the claim runs out. */
    take: (limit: number): Promise<DueRefund[]> =>
      inTransaction(pool, async (connection) => {
        const due = await selectRows(
          connection,
          dueRow,
          `SELECT payment_id, order_no, amount, currency, refund_reason FROM payments
           WHERE engine_due_at <= NOW(3) ORDER BY engine_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
          [limit],
        );
        if (due.length === 0) return [];
        const claimedUntilMs = Date.now() + CLAIM_MS;
        await modify(connection, 'UPDATE payments SET engine_due_at = ? WHERE payment_id IN (?)', [
          new Date(claimedUntilMs),
          due.map(({ paymentId }) => paymentId),
        ]);
        return due.map((refund) => ({ ...refund, claimedUntilMs }));
      }),

    /** Their workflows run, or were woken. */
    complete: (claimed: readonly DueRefund[]): Promise<void> => endClaims(claimed, 'NULL'),

    /** Gives claims back at once: they could not be handed over now. */
    release: (claimed: readonly DueRefund[]): Promise<void> => endClaims(claimed, 'NOW(3)'),

    /**
     * Money that should have gone back and of which nothing was heard for an hour is due again: its workflow may have been
     * terminated, or Temporal may have lost it. A workflow that runs looks again, and each claim is a sign of life, so none is
     * woken more than once an hour.
     * @returns how many
     */
    async requeueOverdue(limit: number): Promise<number> {
      // Looked for without locks: the payments that are being settled at this moment are none of them.
      const stuck = await selectRows(
        pool,
        z.object({ payment_id: z.int() }),
        `SELECT payment_id FROM payments FORCE INDEX (payments_by_status) WHERE ${IS_STUCK} LIMIT ?`,
        [STUCK_AFTER_SECONDS, limit],
      );
      if (stuck.length === 0) return 0;
      const ids = stuck.map((row) => row.payment_id);
      return inTransaction(pool, (connection) =>
        modify(
          connection,
          `UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id IN (?) AND ${IS_STUCK}`,
          [ids, STUCK_AFTER_SECONDS],
        ),
      );
    },
  };
}
