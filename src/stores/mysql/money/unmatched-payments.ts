/** Money held for orders that are not stored: maybe they come, maybe they can be restored, maybe nobody knows them. */

import { z } from 'zod';
import type { RefundReason } from '../../../domain/payment.ts';
import { inTransaction, selectRows, type Pool } from '../connection.ts';
import { park, unpark } from '../rows/parked.ts';
import { lockPaymentAndOrder, makeRefundDue, selectPayments } from '../rows/payment-rows.ts';

/** The overflow of a burst is stored within seconds; money that waited longer for its order is looked into. */
const UNMATCHED_AFTER_SECONDS = 60;

const unmatchedRow = z.object({
  payment_id: z.int(),
  provider_payment_id: z.string(),
  order_no: z.string(),
  received_at: z.date(),
  signed_order: z.string().nullable(),
});

export interface UnmatchedPayment {
  paymentId: number;
  providerPaymentId: string;
  orderNo: string;
  /** Unix time in ms. */
  receivedAtMs: number;
  /** The order's essentials as the payment session carried them, to be verified; null: none came with the money. */
  signedOrder: string | null;
}

export type UnmatchedPayments = ReturnType<typeof createUnmatchedPayments>;

export function createUnmatchedPayments(pool: Pool) {
  return {
    /** In no order: those that have to wait for something must not keep the others from their turn. */
    async list(limit: number): Promise<UnmatchedPayment[]> {
      const rows = await selectRows(
        pool,
        unmatchedRow,
        `SELECT p.payment_id, p.provider_payment_id, p.order_no, p.received_at, p.signed_order FROM payments p
         LEFT JOIN orders o ON o.order_no = p.order_no
         LEFT JOIN parked k ON k.kind = 'payment' AND k.reference = p.provider_payment_id AND k.resolved_at IS NULL
         WHERE p.status = 'received' AND o.order_no IS NULL AND k.parked_id IS NULL
           AND p.received_at < NOW(3) - INTERVAL ? SECOND ORDER BY RAND() LIMIT ?`,
        [UNMATCHED_AFTER_SECONDS, limit],
      );
      return rows.map((row) => ({
        paymentId: row.payment_id,
        providerPaymentId: row.provider_payment_id,
        orderNo: row.order_no,
        receivedAtMs: row.received_at.getTime(),
        signedOrder: row.signed_order,
      }));
    },

    /** Sends held money back; an order that is stored after all has decided about it before, and nothing happens. */
    refund: (paymentId: number, reason: RefundReason): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const money = await lockPaymentAndOrder(connection, paymentId);
        if (!money || money.stored || money.payment.status !== 'received') return;
        await makeRefundDue(connection, paymentId, reason);
        await unpark(connection, 'payment', money.payment.providerPaymentId);
      }),

    /** Shows held money to a person. It stays `received`, so an order stored late still gets it. */
    park: (providerPaymentId: string, reason: string): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const condition = `provider_payment_id = ? AND status = 'received'`;
        for (const { paymentId } of await selectPayments(connection, condition, [providerPaymentId])) {
          const money = await lockPaymentAndOrder(connection, paymentId);
          if (money?.payment.status !== 'received' || money.stored) continue;
          await park(connection, 'payment', providerPaymentId, reason);
        }
      }),
  };
}
