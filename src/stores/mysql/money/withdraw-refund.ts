/** Staff withdraw a refund that they requested. */

import { modify, type PoolConnection } from '../connection.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import { makeRefundSignalDue, setRefundTarget } from '../rows/payment-rows.ts';
import { readRefundsOf } from '../rows/refund-rows.ts';
import { lockOwnPayment } from './own-payment.ts';
import type { RequestedRefund } from './request-refund.ts';
import { settleReversals } from './settle-reversals.ts';

/** on-its-way: the money may be back already. */
export type WithdrawOutcome =
  | ({ kind: 'withdrawn' } & RequestedRefund)
  | { kind: 'unknown' | 'no-such-refund' | 'on-its-way' };

/**
 * Withdraws a refund whose money is not on its way, say because the provider refuses it. Where a request to
 * the provider is under way at this very moment, its money counts as sent back by provider staff.
 */
export async function withdrawRefund(
  connection: PoolConnection,
  orderNo: string,
  refundId: number,
  decision: Decision,
): Promise<WithdrawOutcome> {
  const own = await lockOwnPayment(connection, orderNo);
  if (own === 'unknown') return { kind: 'unknown' };
  const refund = own === 'not-paid' ? undefined : own.refunds.find((one) => one.refundId === refundId);
  if (own === 'not-paid' || !refund) return { kind: 'no-such-refund' };
  const { currency } = own.payment;
  if (refund.status === 'failed') return { kind: 'withdrawn', refund, currency };
  const { paymentId, refundTarget } = own.payment;
  // A request is one refund up to its target. What provider staff send counts towards it, and stays.
  if (refund.status === 'succeeded' || own.refunding >= refund.target) return { kind: 'on-its-way' };
  const target = Math.max(refundTarget - refund.amount, Math.min(own.refunding, refundTarget));
  await setRefundTarget(connection, paymentId, target);
  await modify(
    connection,
    `UPDATE refunds SET status = IF(refund_id = ?, 'failed', status), ended_at = IF(refund_id = ?, NOW(3), ended_at),
       target = target - IF(refund_id = ?, 0, ?) WHERE payment_id = ? AND refund_id >= ? AND kind = 'request' AND status <> 'failed'`,
    [refundId, refundId, refundId, refundTarget - target, paymentId, refundId],
  );
  const payment = { ...own.payment, refundTarget: target };
  await settleReversals(connection, { payment, stored: own.stored }, [], 'workflow');
  await makeRefundSignalDue(connection, paymentId);
  const detail = { refundId, amount: refund.amount, before: 'requested', after: 'withdrawn' };
  await recordAction(connection, { ...decision, action: 'refund_withdrawn', subject: orderNo, detail });
  const [after = refund] = (await readRefundsOf(connection, orderNo)).filter(
    (one) => one.refundId === refundId,
  );
  return { kind: 'withdrawn', refund: after, currency };
}
