/** A walk over what refunds give back, by which the reconciliation compares it with Redis. */

import { z } from 'zod';
import { WATCHED_AFTER_CLOSE_MS } from '../limits.ts';
import { inTransaction, modify, selectRows, type Pool, selectList } from '../mysql/connection.ts';
import { IS_WATCHED } from '../sales/rows.sql.ts';
import { GIVE_BACK_KINDS, partOf, IS_GIVE_BACK_DUE } from './rows.sql.ts';

const listedRow = z.object({ refundId: z.int(), paymentId: z.int() });
const paymentRow = z.object({
  paymentId: z.int(),
  provider: z.string(),
  providerPaymentId: z.string(),
  orderNo: z.string(),
  saleId: z.string(),
});
const PAYMENT = selectList(paymentRow, { orderNo: 'p.order_no', saleId: 'o.sale_id' });
const partRow = z.object({
  paymentId: z.int(),
  refundId: z.int(),
  kind: z.enum(GIVE_BACK_KINDS),
  isDue: z.coerce.boolean(),
  isLimitGiven: z.coerce.boolean(),
  isStockGiven: z.coerce.boolean(),
});
const PART = selectList(partRow, {
  isDue: IS_GIVE_BACK_DUE,
  isLimitGiven: 'limit_given',
  isStockGiven: 'stock_given',
});

/** A payment whose money is back, all or a part of it, and for which no start of its workflow is due. */
export interface ReturningPayment extends z.infer<typeof paymentRow> {
  /** All that its refunds give back is booked in MySQL. */
  isBooked: boolean;
  /** What is booked, and is to be in Redis; `part` as in `GiveBack`. */
  returns: { what: 'stock' | 'limit'; part: string }[];
}

/** Up to `limit` refunds, after this one, by their ids. */
export function list(
  pool: Pool,
  after: { refundId: number } | undefined,
  limit: number,
): Promise<z.infer<typeof listedRow>[]> {
  return selectRows(
    pool,
    listedRow,
    `SELECT ${selectList(listedRow)} FROM refunds WHERE refund_id > ? ORDER BY refund_id LIMIT ?`,
    [after?.refundId ?? 0, limit],
  );
}

/**
 * Those of these payments that have paid for an order of a sale whose data are to be in Redis. One whose
 * money is still to go back is left out.
 */
export async function read(pool: Pool, paymentIds: readonly number[]): Promise<ReturningPayment[]> {
  if (paymentIds.length === 0) return [];
  const payments = await selectRows(
    pool,
    paymentRow,
    // In this order: where there are few sales, the server would begin with them.
    `SELECT STRAIGHT_JOIN ${PAYMENT}
         FROM payments p JOIN orders o ON o.order_no = p.order_no JOIN sales s ON s.sale_id = o.sale_id
         WHERE p.payment_id IN (?) AND p.status IN ('applied', 'refunded') AND p.engine_due_at IS NULL
           AND p.applied_at IS NOT NULL AND ${IS_WATCHED}`,
    [paymentIds, WATCHED_AFTER_CLOSE_MS],
  );
  const parts = await selectRows(pool, partRow, `SELECT ${PART} FROM refunds WHERE payment_id IN (?)`, [
    paymentIds,
  ]);
  return payments.map((payment) => {
    const own = parts.filter(({ paymentId }) => paymentId === payment.paymentId);
    const returns = own.flatMap(({ isStockGiven, isLimitGiven, ...refund }) => [
      ...(isStockGiven ? [{ what: 'stock' as const, part: partOf(refund) }] : []),
      ...(isLimitGiven ? [{ what: 'limit' as const, part: partOf(refund) }] : []),
    ]);
    return { ...payment, isBooked: own.every(({ isDue }) => !isDue), returns };
  });
}

/**
 * Makes the workflow of such a payment due, unless it is due or claimed by now.
 * @returns whether it is due by this call
 */
export function requeue(pool: Pool, paymentId: number): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const changed = await modify(
      connection,
      `UPDATE payments SET engine_due_at = NOW(3)
           WHERE payment_id = ? AND status IN ('applied', 'refunded') AND engine_due_at IS NULL`,
      [paymentId],
    );
    return changed > 0;
  });
}
