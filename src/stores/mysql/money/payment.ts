/** Reads and locks rows of `payments`, sets their status, and makes refunds due. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import {
  PAYMENT_STATUSES,
  REFUND_REASONS,
  type PaymentStatus,
  type RefundReason,
} from '../../../domain/payment.ts';
import { modify, selectRows, type Executor, type PoolConnection } from '../connection.ts';
import { lockOrder, type StoredOrder } from '../rows/order-rows.ts';
import { selectList } from '../select-list.ts';

/** A time of MySQL as Unix ms. */
export const timeMs = z.date().transform((time) => time.getTime());

const paymentRow = z.object({
  paymentId: z.int(),
  provider: z.string(),
  providerPaymentId: z.string(),
  /** The provider's reference: an orderNo, or any other text where the payment is for no order of ours. */
  orderNo: z.string(),
  /** Minor units. */
  amount: z.int(),
  currency: z.string(),
  status: z.enum(PAYMENT_STATUSES),
  /** Why it is refunded; null: no refund was requested here. */
  reason: z.enum(REFUND_REASONS).nullable(),
  /** How often the provider refused to refund it. */
  refusals: z.int(),
  /** Minor units that are to be refunded in all, by all requests; 0: none was made here. */
  refundTarget: z.int(),
  /** Whether it paid for its order, also when it went back later. */
  wasApplied: z.coerce.boolean(),
});
const PAYMENT = selectList(paymentRow, {
  reason: 'refund_reason',
  refusals: 'refund_refusals',
  wasApplied: 'applied_at IS NOT NULL',
});

export type Payment = z.infer<typeof paymentRow>;

/** A locked payment, with its locked order where that is stored. */
export interface LockedPayment {
  payment: Payment;
  stored: StoredOrder | undefined;
}

/** @param condition everything after WHERE, including a LIMIT or a lock */
export function selectPayments(reader: Executor, condition: string, values: unknown[]): Promise<Payment[]> {
  return selectRows(reader, paymentRow, `SELECT ${PAYMENT} FROM payments WHERE ${condition}`, values);
}

/** A payment by its number, or by its name where that is known, whatever number it has now. */
export interface PaymentRef {
  paymentId: number;
  provider?: string | undefined;
  providerPaymentId?: string | undefined;
}

/** Undefined when there is no such payment. */
export async function readPayment(
  reader: Executor,
  { paymentId, provider, providerPaymentId }: PaymentRef,
): Promise<Payment | undefined> {
  const isNamed = provider !== undefined && providerPaymentId !== undefined;
  const [payment] = isNamed
    ? await selectPayments(reader, 'provider = ? AND provider_payment_id = ?', [provider, providerPaymentId])
    : await selectPayments(reader, 'payment_id = ?', [paymentId]);
  return payment;
}

/**
 * Locks the payment's order, where it is stored, and then the payment. Under the payment's lock the order is
 * looked for again, because it may have been stored since; a transaction that is storing it waits for this
 * one or this one for it.
 * @returns undefined when there is no such payment
 */
export async function lockPaymentAndOrder(
  connection: PoolConnection,
  paymentId: number,
): Promise<LockedPayment | undefined> {
  const seen = await readPayment(connection, { paymentId });
  if (!seen) return undefined;
  const stored = await lockOrder(connection, seen.orderNo);
  const [payment] = await selectPayments(connection, 'payment_id = ? FOR UPDATE', [paymentId]);
  assert(payment, `payment ${paymentId} was there a moment ago`);
  return { payment, stored: stored ?? (await lockOrder(connection, payment.orderNo)) };
}

export async function setPaymentStatus(
  connection: PoolConnection,
  paymentId: number,
  status: PaymentStatus,
): Promise<void> {
  await modify(connection, 'UPDATE payments SET status = ? WHERE payment_id = ?', [status, paymentId]);
}

/** Gives the payment the status `refund_due`, all of it, and makes its refund workflow due to start. */
export async function makeRefundDue(
  connection: PoolConnection,
  paymentId: number,
  reason: RefundReason,
): Promise<void> {
  await modify(
    connection,
    `UPDATE payments SET status = 'refund_due', refund_reason = ?, refund_target = amount,
       engine_due_at = NOW(3) WHERE payment_id = ?`,
    [reason, paymentId],
  );
}

/** As `makeRefundDue`, up to so many minor units in all, because an operator requests it. */
export async function makePartDue(
  connection: PoolConnection,
  paymentId: number,
  target: number,
): Promise<void> {
  await modify(
    connection,
    `UPDATE payments SET status = 'refund_due', refund_reason = 'operator_request',
       refund_target = ?, engine_due_at = NOW(3) WHERE payment_id = ?`,
    [target, paymentId],
  );
}

/** Sets what is to be refunded in all, in minor units. */
export async function setRefundTarget(
  connection: PoolConnection,
  paymentId: number,
  target: number,
): Promise<void> {
  await modify(connection, 'UPDATE payments SET refund_target = ? WHERE payment_id = ?', [target, paymentId]);
}

/** Has the relay start or signal the payment's refund workflow. */
export async function makeRefundSignalDue(connection: PoolConnection, paymentId: number): Promise<void> {
  await modify(connection, 'UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id = ?', [paymentId]);
}

/** As `makeRefundSignalDue`, unless the workflow is due or claimed already. */
export async function makeIdleRefundSignalDue(connection: PoolConnection, paymentId: number): Promise<void> {
  await modify(
    connection,
    'UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id = ? AND engine_due_at IS NULL',
    [paymentId],
  );
}
