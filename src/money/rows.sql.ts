/** Rows of `payments` and `refunds`: read, locked, changed, and made due. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { modify, selectRows, type Executor, type PoolConnection, selectList } from '../mysql/connection.ts';
import { ANEW } from '../mysql/leases.ts';
import { jsonText } from '../orders/content.ts';
import type { OrderUnits } from '../orders/order.ts';
import { lockOrder, type StoredOrder } from '../orders/rows.sql.ts';
import {
  PAYMENT_STATUSES,
  REFUND_REASONS,
  refusalSchema,
  type PaymentStatus,
  type RefundReason,
} from './payment.ts';

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
  /** What it said when it last did; null: it did not, or has accepted since. */
  refusal: jsonText(refusalSchema).nullable(),
  /** Minor units that are to be refunded in all, by all requests; 0: none was made here. */
  refundTarget: z.int(),
  /** Whether it paid for its order, also when it went back later. */
  wasApplied: z.coerce.boolean(),
});
const PAYMENT = selectList(paymentRow, {
  reason: 'refund_reason',
  refusals: 'refund_refusals',
  refusal: 'refund_refusal',
  wasApplied: 'applied_at IS NOT NULL',
});

export type Payment = z.infer<typeof paymentRow>;

/** A locked payment, with its locked order where that is stored. */
export interface LockedPayment {
  payment: Payment;
  stored: StoredOrder | undefined;
}

/**
 * @param condition everything after WHERE, including a LIMIT or a lock
 * @param hint of the index, after a space, where the server would take another one
 */
export function selectPayments(
  reader: Executor,
  condition: string,
  values: unknown[],
  hint = '',
): Promise<Payment[]> {
  return selectRows(reader, paymentRow, `SELECT ${PAYMENT} FROM payments${hint} WHERE ${condition}`, values);
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
       engine_due_at = NOW(3), ${ANEW} WHERE payment_id = ?`,
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
       refund_target = ?, engine_due_at = NOW(3), ${ANEW} WHERE payment_id = ?`,
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

/** Forgets what the provider said, once no refund of the payment is refused. */
export async function clearRefusal(connection: PoolConnection, paymentId: number): Promise<void> {
  await modify(
    connection,
    `UPDATE payments SET refund_refusal = NULL WHERE payment_id = ? AND refund_refusal IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM refunds r
         WHERE r.payment_id = payments.payment_id AND r.status = 'requested' AND r.refusal IS NOT NULL)`,
    [paymentId],
  );
}

/** Has the relay start or signal the payment's refund workflow. */
export async function makeRefundSignalDue(connection: PoolConnection, paymentId: number): Promise<void> {
  await modify(connection, `UPDATE payments SET engine_due_at = NOW(3), ${ANEW} WHERE payment_id = ?`, [
    paymentId,
  ]);
}

/** As `makeRefundSignalDue`, unless the workflow is due or claimed already. */
export async function makeIdleRefundSignalDue(connection: PoolConnection, paymentId: number): Promise<void> {
  await modify(
    connection,
    'UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id = ? AND engine_due_at IS NULL',
    [paymentId],
  );
}

/**
 * requested → succeeded: the payer has the money back | failed: staff withdrew it before. One that succeeded
 * is requested again when its refund fails at the provider after all.
 */
export const REFUND_STATUSES = ['requested', 'succeeded', 'failed'] as const;

const itemsJson = jsonText(z.array(z.object({ sku: z.string(), quantity: z.int() })));

/** request: staff want money back, or units | return: an operator puts units on sale | rule: the sale's. */
export const GIVE_BACK_KINDS = ['request', 'return', 'rule'] as const;

const refundRow = z.object({
  refundId: z.int(),
  kind: z.enum(GIVE_BACK_KINDS),
  orderNo: z.string(),
  paymentId: z.int(),
  /** Minor units. */
  amount: z.int(),
  /** Minor units that are refunded of the payment, by this and those before, once this one has ended. */
  target: z.int(),
  /** The units that it is about; null: it is about money alone. */
  items: itemsJson.nullable(),
  /** It covers the order's charges. */
  charges: z.coerce.boolean(),
  /** Its units are to be sold again. */
  restock: z.coerce.boolean(),
  /** Its units no longer count against the user's limit. */
  restoresLimit: z.coerce.boolean(),
  /** Its units are on sale again, or no longer count against the limit: MySQL has booked it. */
  isStockGiven: z.coerce.boolean(),
  isLimitGiven: z.coerce.boolean(),
  reason: z.string().nullable(),
  actor: z.string(),
  /** Null: it was not requested by order. */
  idempotencyKey: z.string().nullable(),
  /** Of the request under this key. */
  fingerprint: z.string().nullable(),
  status: z.enum(REFUND_STATUSES),
  /** The provider's words at its last refusal; null: it did not refuse, or has accepted since. */
  refusal: jsonText(refusalSchema).nullable(),
  createdAt: z.date(),
  endedAt: z.date().nullable(),
});
const EXPRESSIONS = { isStockGiven: 'stock_given', isLimitGiven: 'limit_given' };
const REFUND = selectList(refundRow, EXPRESSIONS);

export type Refund = z.infer<typeof refundRow>;

/** The refunds whose money is back, and whose units are to be given back. */
export const IS_GIVE_BACK_DUE = `status = 'succeeded' AND given_back = FALSE AND items IS NOT NULL`;

/**
 * What its give-back is known by in Redis and in the ledger. Beside all requests an order has one of a kind,
 * which keeps its name where MySQL has lost the row and the same is decided again.
 */
export function partOf({ kind, refundId }: Pick<Refund, 'kind' | 'refundId'>): string {
  return kind === 'request' ? String(refundId) : kind;
}

export type NewRefund = Omit<
  Refund,
  'refundId' | 'kind' | 'isStockGiven' | 'isLimitGiven' | 'status' | 'refusal' | 'createdAt' | 'endedAt'
> & {
  /** Of its payment, by requests before this one. */
  refusalsBefore: number;
};

/** @param condition everything after WHERE, including an order or a lock */
export function selectRefunds(reader: Executor, condition: string, values: unknown[]): Promise<Refund[]> {
  return selectRows(reader, refundRow, `SELECT ${REFUND} FROM refunds WHERE ${condition}`, values);
}

/** The refunds that staff requested of an order, the oldest first. */
export function readRefundsOf(reader: Executor, orderNo: string): Promise<Refund[]> {
  return selectRefunds(reader, `order_no = ? AND kind = 'request' ORDER BY refund_id`, [orderNo]);
}

const listedRow = refundRow.extend({ currency: z.string() });
const LISTED = selectList(listedRow, {
  ...EXPRESSIONS,
  currency: '(SELECT p.currency FROM payments p WHERE p.payment_id = refunds.payment_id)',
});

/**
 * The refunds of this state that staff requested: those on their way from the oldest on, others from the
 * newest on.
 * @param after the last refund of the page before
 */
export function listRefunds(
  reader: Executor,
  status: Refund['status'],
  after: number | undefined,
  limit: number,
): Promise<z.infer<typeof listedRow>[]> {
  const [isAfter, order] = status === 'requested' ? ['>', ''] : ['<', 'DESC'];
  return selectRows(
    reader,
    listedRow,
    `SELECT ${LISTED} FROM refunds FORCE INDEX (refunds_of_status) WHERE kind = 'request' AND status = ?
       ${after === undefined ? '' : `AND refund_id ${isAfter} ?`} ORDER BY refund_id ${order} LIMIT ?`,
    [status, ...(after === undefined ? [] : [after]), limit],
  );
}

/** The units of an order that were not refunded before. */
export function unitsLeft(
  { items }: { items: readonly OrderUnits[] },
  earlier: readonly Refund[],
): OrderUnits[] {
  const left = new Map(items.map(({ sku, quantity }) => [sku, quantity]));
  for (const refund of earlier) {
    // One that failed after all may have given its units back before.
    if (refund.status === 'failed' && !refund.isStockGiven && !refund.isLimitGiven) continue;
    for (const { sku, quantity } of refund.items ?? []) left.set(sku, (left.get(sku) ?? 0) - quantity);
  }
  return [...left].flatMap(([sku, quantity]) => (quantity > 0 ? [{ sku, quantity }] : []));
}

export async function insertRefund(connection: PoolConnection, refund: NewRefund): Promise<void> {
  await modify(
    connection,
    `INSERT INTO refunds (order_no, payment_id, amount, target, items, charges, restock, restores_limit,
       refusals_before, reason, actor, idempotency_key, fingerprint, status)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'requested')`,
    [
      refund.orderNo,
      refund.paymentId,
      refund.amount,
      refund.target,
      refund.items && JSON.stringify(refund.items),
      refund.charges,
      refund.restock,
      refund.restoresLimit,
      refund.refusalsBefore,
      refund.reason,
      refund.actor,
      refund.idempotencyKey,
      refund.fingerprint,
    ],
  );
}

/**
 * Adds to `refunds` what is given back beside all requests, without money: `return` by an operator, `rule` by
 * the sale's rule. It is booked at once.
 */
export async function insertGiveBack(
  connection: PoolConnection,
  kind: 'return' | 'rule',
  refund: Pick<Refund, 'orderNo' | 'paymentId' | 'reason' | 'actor'> & { items: OrderUnits[] },
): Promise<void> {
  const [stock, limit] = [kind === 'return', kind === 'rule'];
  await modify(
    connection,
    `INSERT INTO refunds (order_no, payment_id, kind, amount, target, items, restock, restores_limit, given_back,
       stock_given, limit_given, reason, actor, status, ended_at)
     VALUES (?, ?, ?, 0, 0, ?, ?, ?, TRUE, ?, ?, ?, ?, 'succeeded', NOW(3))`,
    [
      refund.orderNo,
      refund.paymentId,
      kind,
      JSON.stringify(refund.items),
      stock,
      limit,
      stock,
      limit,
      refund.reason,
      refund.actor,
    ],
  );
}

/** Whether the order has given back so beside all requests. */
export async function hasGiveBack(
  reader: Executor,
  kind: 'return' | 'rule',
  orderNo: string,
): Promise<boolean> {
  return (await selectRefunds(reader, 'order_no = ? AND kind = ? LIMIT 1', [orderNo, kind])).length > 0;
}

/**
 * Ends those refunds of a payment whose money is back, and takes up those again whose money is not.
 * @param refunded minor units of refunds that succeeded
 * @param refunding with those that are pending: the provider has accepted them
 */
export async function finishRefundRows(
  connection: PoolConnection,
  paymentId: number,
  refunded: number,
  refunding: number,
): Promise<void> {
  await modify(
    connection,
    `UPDATE refunds SET ended_at = IF(target <= ?, COALESCE(ended_at, NOW(3)), NULL), accepted = target <= ?,
       refusal = IF(target <= ?, NULL, refusal), status = IF(target <= ?, 'succeeded', 'requested')
     WHERE payment_id = ? AND status <> 'failed'`,
    [refunded, Math.max(refunded, refunding), refunded, refunded, paymentId],
  );
}

/** Whether staff refunded units of the payment's order, and so decided about the limit of each. */
export async function hasRefundOfUnits(reader: Executor, paymentId: number): Promise<boolean> {
  const condition = `payment_id = ? AND kind = 'request' AND items IS NOT NULL AND status <> 'failed' LIMIT 1`;
  return (await selectRefunds(reader, condition, [paymentId])).length > 0;
}
