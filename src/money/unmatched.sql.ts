/** Unmatched payments: received for an order that is not stored. The relay finds the order or refunds. */

import { z } from 'zod';
import { inTransaction, selectRows, type Pool, selectList } from '../mysql/connection.ts';
import { type ParkedFacts, park as parkWork, unpark } from '../parked/parked.sql.ts';
import type { RefundReason } from './payment.ts';
import { lockPaymentAndOrder, makeRefundDue, selectPayments, timeMs } from './rows.sql.ts';

/** The overflow of a burst is stored within seconds. A payment that waits longer counts as unmatched. */
const UNMATCHED_AFTER_SECONDS = 60;
/** A payment that is parked because nothing could be decided is looked at again: its sale may be back. */
const UNDECIDED_AGAIN_SECONDS = 10 * 60;

const unmatchedRow = z.object({
  paymentId: z.int(),
  providerPaymentId: z.string(),
  orderNo: z.string(),
  /** Unix time in ms. */
  receivedAtMs: timeMs,
  /** The signed order as the payment session carried it, unverified; null: the payment came without one. */
  signedOrder: z.string().nullable(),
});
const UNMATCHED = selectList(unmatchedRow, { orderNo: 'p.order_no' });

export type UnmatchedPayment = z.infer<typeof unmatchedRow>;

/**
 * Not those that are parked, or that an operator has settled by hand. In random order, so that payments
 * which have to wait never keep the others from their turn.
 */
export function list(pool: Pool, limit: number): Promise<UnmatchedPayment[]> {
  return selectRows(
    pool,
    unmatchedRow,
    `SELECT ${UNMATCHED} FROM payments p
         LEFT JOIN orders o ON o.order_no = p.order_no
         LEFT JOIN parked k ON k.kind = 'payment' AND k.reference = p.provider_payment_id
           AND (k.resolved_at IS NULL OR k.settled_by = 'operator')
           AND NOT (k.cause = 'undecided' AND k.resolved_at IS NULL
             AND k.last_seen_at < NOW(3) - INTERVAL ? SECOND)
         WHERE p.status = 'received' AND o.order_no IS NULL AND k.parked_id IS NULL
           AND p.received_at < NOW(3) - INTERVAL ? SECOND ORDER BY RAND() LIMIT ?`,
    [UNDECIDED_AGAIN_SECONDS, UNMATCHED_AFTER_SECONDS, limit],
  );
}

/** Whether there is money for this order, by which it may be restored. */
export async function hasUndecided(pool: Pool, orderNo: string): Promise<boolean> {
  const rows = await selectRows(
    pool,
    z.object({ payment_id: z.int() }),
    `SELECT payment_id FROM payments WHERE order_no = ? AND status = 'received' LIMIT 1`,
    [orderNo],
  );
  return rows.length > 0;
}

/** Makes a payment's refund due; unless its order was stored meanwhile, and so has decided about it. */
export function refund(pool: Pool, paymentId: number, reason: RefundReason): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (!locked || locked.stored || locked.payment.status !== 'received') return;
    await makeRefundDue(connection, paymentId, reason);
    await unpark(connection, 'payment', locked.payment.providerPaymentId);
  });
}

/** Parks a payment for an operator. It stays `received`, so that an order stored later still gets it. */
export function park(
  pool: Pool,
  providerPaymentId: string,
  reason: string,
  cause: ParkedFacts['cause'],
): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const condition = `provider_payment_id = ? AND status = 'received'`;
    for (const { paymentId } of await selectPayments(connection, condition, [providerPaymentId])) {
      const locked = await lockPaymentAndOrder(connection, paymentId);
      if (locked?.payment.status !== 'received' || locked.stored) continue;
      const { provider, orderNo, amount, currency } = locked.payment;
      const inputs = { provider, orderNo, amount, currency };
      await parkWork(connection, 'payment', providerPaymentId, reason, { cause, inputs });
    }
  });
}
