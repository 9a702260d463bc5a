/** The payment that paid for an order, under its lock, with what of it is requested and has gone back. */

import { z } from 'zod';
import { sumRefunds, sumReversals } from '../../../domain/reversals.ts';
import { selectRows, type PoolConnection } from '../connection.ts';
import type { StoredOrder } from '../rows/order-rows.ts';
import { lockPaymentAndOrder, selectPayments, type Payment } from '../rows/payment-rows.ts';
import { readRefundsOf, type Refund } from '../rows/refund-rows.ts';
import { lockReversals } from '../rows/reversal-rows.ts';

const orderNoRow = z.object({ order_no: z.string() });

export interface OwnPayment {
  payment: Payment;
  stored: StoredOrder;
  /** What staff requested of it, the oldest first. */
  refunds: Refund[];
  /** Minor units of refunds that succeeded, and with those that are pending. */
  succeeded: number;
  refunding: number;
  /** Minor units that may go back in all: what was paid, less what is disputed or was charged back. */
  refundable: number;
  isMixed: boolean;
}

/** unknown: the order is not stored. not-paid: no payment has paid for it. */
export async function lockOwnPayment(
  connection: PoolConnection,
  orderNo: string,
): Promise<OwnPayment | 'unknown' | 'not-paid'> {
  const seen = (await selectPayments(connection, 'order_no = ?', [orderNo])).find(
    ({ wasApplied }) => wasApplied,
  );
  const locked = seen && (await lockPaymentAndOrder(connection, seen.paymentId));
  if (!locked?.stored) {
    const known = await selectRows(connection, orderNoRow, 'SELECT order_no FROM orders WHERE order_no = ?', [
      orderNo,
    ]);
    return known.length > 0 ? 'not-paid' : 'unknown';
  }
  const { payment, stored } = locked;
  const reversals = await lockReversals(connection, [payment.provider, payment.providerPaymentId]);
  const totals = sumReversals(payment.currency, reversals);
  const { succeeded, pending } = sumRefunds(payment.currency, reversals);
  const refunding = succeeded + pending;
  const chargedBack = totals.succeeded + totals.pending - refunding;
  return {
    payment,
    stored,
    refunds: await readRefundsOf(connection, orderNo),
    succeeded,
    refunding,
    refundable: payment.status === 'refunded' ? 0 : payment.amount - chargedBack,
    isMixed: totals.isMixed,
  };
}
