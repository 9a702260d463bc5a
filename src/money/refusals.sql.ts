/** What the provider has refused to refund: recorded with its words, and put behind what it may accept. */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import type { Refusal } from './payment.ts';
import type { RefundTask } from './refunds.sql.ts';
import { applyReversals } from './reversals.sql.ts';
import { clearRefusal, lockPaymentAndOrder, type LockedPayment } from './rows.sql.ts';

const refusedRow = z.object({ refundId: z.int(), amount: z.int() });

/** A refund that the provider refused: up to which target it was asked for, and what the provider said. */
interface RefusedRefund {
  target: number;
  refusal: Refusal;
}

/**
 * Counts a refusal, which changes the key of the next request: the same key gets the same answer. What staff
 * requested goes behind their other requests of the payment, so that it holds up none.
 * @param refused undefined: the provider has only repeated an earlier answer
 */
export async function recordRefusal(
  pool: Pool,
  { paymentId, providerPaymentId }: Pick<RefundTask, 'paymentId' | 'providerPaymentId'>,
  refused?: RefusedRefund,
): Promise<void> {
  await inTransaction(pool, async (connection) => {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (locked?.payment.providerPaymentId !== providerPaymentId) return;
    const said = refused ? JSON.stringify(refused.refusal) : null;
    await modify(
      connection,
      `UPDATE payments SET refund_refusals = refund_refusals + 1, refund_refusal = COALESCE(?, refund_refusal)
       WHERE payment_id = ?`,
      [said, paymentId],
    );
    if (!refused || locked.payment.status !== 'refund_due') return;
    const [row] = await selectRows(
      connection,
      refusedRow,
      `SELECT refund_id AS refundId, amount FROM refunds
       WHERE payment_id = ? AND target = ? AND amount > 0 AND status = 'requested'`,
      [paymentId, refused.target],
    );
    if (!row) return;
    await modify(connection, 'UPDATE refunds SET refusal = ? WHERE refund_id = ?', [said, row.refundId]);
    await moveBehind(connection, locked, { ...row, target: refused.target });
  });
}

/** The targets of the requests after it go down by its amount, and its own is the last. */
async function moveBehind(
  connection: PoolConnection,
  locked: LockedPayment,
  { refundId, amount, target }: z.infer<typeof refusedRow> & { target: number },
): Promise<void> {
  const { paymentId, refundTarget } = locked.payment;
  if (target >= refundTarget) return;
  await modify(
    connection,
    `UPDATE refunds SET target = IF(refund_id = ?, ?, target - ?)
     WHERE payment_id = ? AND target >= ? AND kind = 'request' AND status <> 'failed'`,
    [refundId, refundTarget, amount, paymentId, target],
  );
  // One without money may have waited for it alone.
  await applyReversals(connection, locked, [], 'workflow');
}

/** The provider has accepted the refund up to this target, which it had refused before. */
export function forgetRefusal(pool: Pool, paymentId: number, target: number): Promise<void> {
  return inTransaction(pool, async (connection) => {
    await modify(connection, 'UPDATE refunds SET refusal = NULL WHERE payment_id = ? AND target = ?', [
      paymentId,
      target,
    ]);
    await clearRefusal(connection, paymentId);
  });
}
