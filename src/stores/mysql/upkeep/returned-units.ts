/** What refunds whose money is back give back of their orders, as a walk over them compares it with Redis. */

import { z } from 'zod';
import { WATCHED_AFTER_CLOSE_MS } from '../../../domain/limits.ts';
import { inTransaction, modify, selectRows, type Pool } from '../connection.ts';
import { IS_GIVE_BACK_DUE } from '../rows/refund-rows.ts';
import { IS_WATCHED } from '../rows/sale-rows.ts';

const paymentIdRow = z.object({ payment_id: z.int() });
const partIdRow = paymentIdRow.extend({ refund_id: z.int() });
const paymentRow = paymentIdRow.extend({
  provider: z.string(),
  provider_payment_id: z.string(),
  order_no: z.string(),
  sale_id: z.string(),
  limit_returned: z.coerce.boolean(),
  stock_returned: z.coerce.boolean(),
});
const partRow = partIdRow.extend({
  due: z.coerce.boolean(),
  limit_given: z.coerce.boolean(),
  stock_given: z.coerce.boolean(),
});

/** A payment whose money is back, all or a part of it, and for which no start of its workflow is due. */
export interface ReturningPayment {
  paymentId: number;
  provider: string;
  providerPaymentId: string;
  orderNo: string;
  saleId: string;
  /** All that its refunds give back is booked in MySQL. */
  isBooked: boolean;
  /** What is booked, and is to be in Redis; `part` as in `GiveBack`. */
  returns: { what: 'stock' | 'limit'; part: string }[];
}

export type ReturnedUnits = ReturnType<typeof createReturnedUnits>;

export function createReturnedUnits(pool: Pool) {
  return {
    /** Up to `limit` payments that went back whole, after this one, by their ids. */
    async listWhole(after: { id: number } | undefined, limit: number) {
      const rows = await selectRows(
        pool,
        paymentIdRow,
        `SELECT payment_id FROM payments FORCE INDEX (payments_by_status)
         WHERE status = 'refunded' AND payment_id > ? ORDER BY payment_id LIMIT ?`,
        [after?.id ?? 0, limit],
      );
      return rows.map((row) => ({ id: row.payment_id, paymentId: row.payment_id }));
    },

    /** Up to `limit` refunds that staff requested, after this one, by their ids. */
    async listParts(after: { id: number } | undefined, limit: number) {
      const rows = await selectRows(
        pool,
        partIdRow,
        'SELECT refund_id, payment_id FROM refunds WHERE refund_id > ? ORDER BY refund_id LIMIT ?',
        [after?.id ?? 0, limit],
      );
      return rows.map((row) => ({ id: row.refund_id, paymentId: row.payment_id }));
    },

    /**
     * Those of these payments that have paid for an order of a sale whose data are to be in Redis. One whose
     * money is still to go back is left out.
     */
    async read(paymentIds: readonly number[]): Promise<ReturningPayment[]> {
      if (paymentIds.length === 0) return [];
      const payments = await selectRows(
        pool,
        paymentRow,
        // In this order: where there are few sales, the server would begin with them.
        `SELECT STRAIGHT_JOIN p.payment_id, p.provider, p.provider_payment_id, p.order_no, o.sale_id,
           o.limit_returned, o.stock_returned
         FROM payments p JOIN orders o ON o.order_no = p.order_no JOIN sales s ON s.sale_id = o.sale_id
         WHERE p.payment_id IN (?) AND p.status IN ('applied', 'refunded') AND p.engine_due_at IS NULL
           AND p.applied_at IS NOT NULL AND ${IS_WATCHED}`,
        [paymentIds, WATCHED_AFTER_CLOSE_MS],
      );
      const parts = await selectRows(
        pool,
        partRow,
        `SELECT refund_id, payment_id, ${IS_GIVE_BACK_DUE} AS due, limit_given, stock_given FROM refunds
         WHERE payment_id IN (?)`,
        [paymentIds],
      );
      return payments.map(({ payment_id: paymentId, ...row }) => {
        const own = parts.filter((part) => part.payment_id === paymentId);
        const given = [
          ...own.map((part) => ({ ...part, part: String(part.refund_id) })),
          { part: '', limit_given: row.limit_returned, stock_given: row.stock_returned },
        ];
        const returns = given.flatMap(({ part, limit_given: limit, stock_given: stock }) => [
          ...(stock ? [{ what: 'stock' as const, part }] : []),
          ...(limit ? [{ what: 'limit' as const, part }] : []),
        ]);
        const isBooked = own.every(({ due }) => !due);
        const { provider, provider_payment_id: providerPaymentId, order_no: orderNo, sale_id: saleId } = row;
        return { paymentId, provider, providerPaymentId, orderNo, saleId, isBooked, returns };
      });
    },

    /**
     * Makes the workflow of such a payment due, unless it is due or claimed by now.
     * @returns whether it is due by this call
     */
    requeue: (paymentId: number): Promise<boolean> =>
      inTransaction(pool, async (connection) => {
        const changed = await modify(
          connection,
          `UPDATE payments SET engine_due_at = NOW(3)
           WHERE payment_id = ? AND status IN ('applied', 'refunded') AND engine_due_at IS NULL`,
          [paymentId],
        );
        return changed > 0;
      }),
  };
}
