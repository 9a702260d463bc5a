/** Rows of `refunds`: what staff decided to send back of an order's payment, one row a decision. */

import { z } from 'zod';
import type { OrderUnits } from '../../../domain/order.ts';
import { modify, selectRows, type Executor, type PoolConnection } from '../connection.ts';

/**
 * requested → succeeded: the payer has the money back | failed: staff withdrew it before. One that succeeded
 * is requested again when its refund fails at the provider after all.
 */
const REFUND_STATUSES = ['requested', 'succeeded', 'failed'] as const;

const itemsJson = z
  .string()
  .transform((text) => JSON.parse(text) as unknown)
  .pipe(z.array(z.object({ sku: z.string(), quantity: z.int() })));

const refundRow = z.object({
  refund_id: z.int(),
  order_no: z.string(),
  payment_id: z.int(),
  amount: z.int(),
  target: z.int(),
  items: itemsJson.nullable(),
  charges: z.coerce.boolean(),
  restock: z.coerce.boolean(),
  restores_limit: z.coerce.boolean(),
  stock_given: z.coerce.boolean(),
  limit_given: z.coerce.boolean(),
  reason: z.string().nullable(),
  actor: z.string(),
  idempotency_key: z.string().nullable(),
  fingerprint: z.string().nullable(),
  status: z.enum(REFUND_STATUSES),
  created_at: z.date(),
  ended_at: z.date().nullable(),
});

/** The refunds of a payment whose money is back, and whose units are to be given back. */
export const IS_GIVE_BACK_DUE = `status = 'succeeded' AND NOT given_back AND items IS NOT NULL`;

export interface Refund {
  refundId: number;
  orderNo: string;
  paymentId: number;
  /** Minor units. */
  amount: number;
  /** Minor units that are refunded of the payment, by this and those before, once this one has ended. */
  target: number;
  /** The units that it is about; null: it is about money alone. */
  items: OrderUnits[] | null;
  /** It covers the order's charges. */
  charges: boolean;
  /** Its units are to be sold again. */
  restock: boolean;
  /** Its units no longer count against the user's limit. */
  restoresLimit: boolean;
  /** Its units are on sale again, or no longer count against the limit: MySQL has booked it. */
  isStockGiven: boolean;
  isLimitGiven: boolean;
  reason: string | null;
  actor: string;
  /** Null: it was not requested by order. */
  idempotencyKey: string | null;
  /** Of the request under this key. */
  fingerprint: string | null;
  status: z.infer<typeof refundRow>['status'];
  createdAt: Date;
  endedAt: Date | null;
}

export type NewRefund = Omit<
  Refund,
  'refundId' | 'isStockGiven' | 'isLimitGiven' | 'status' | 'createdAt' | 'endedAt'
>;

/** @param condition everything after WHERE, including an order or a lock */
export async function selectRefunds(
  reader: Executor,
  condition: string,
  values: unknown[],
): Promise<Refund[]> {
  const rows = await selectRows(
    reader,
    refundRow,
    `SELECT refund_id, order_no, payment_id, amount, target, items, charges, restock, restores_limit, stock_given,
       limit_given, reason, actor, idempotency_key, fingerprint, status, created_at, ended_at
     FROM refunds WHERE ${condition}`,
    values,
  );
  return rows.map((row) => ({
    refundId: row.refund_id,
    orderNo: row.order_no,
    paymentId: row.payment_id,
    amount: row.amount,
    target: row.target,
    items: row.items,
    charges: row.charges,
    restock: row.restock,
    restoresLimit: row.restores_limit,
    isStockGiven: row.stock_given,
    isLimitGiven: row.limit_given,
    reason: row.reason,
    actor: row.actor,
    idempotencyKey: row.idempotency_key,
    fingerprint: row.fingerprint,
    status: row.status,
    createdAt: row.created_at,
    endedAt: row.ended_at,
  }));
}

/** The refunds of an order, the oldest first. */
export function readRefundsOf(reader: Executor, orderNo: string): Promise<Refund[]> {
  return selectRefunds(reader, 'order_no = ? ORDER BY refund_id', [orderNo]);
}

export async function insertRefund(connection: PoolConnection, refund: NewRefund): Promise<void> {
  await modify(
    connection,
    `INSERT INTO refunds (order_no, payment_id, amount, target, items, charges, restock, restores_limit, reason,
       actor, idempotency_key, fingerprint, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'requested')`,
    [
      refund.orderNo,
      refund.paymentId,
      refund.amount,
      refund.target,
      refund.items && JSON.stringify(refund.items),
      refund.charges,
      refund.restock,
      refund.restoresLimit,
      refund.reason,
      refund.actor,
      refund.idempotencyKey,
      refund.fingerprint,
    ],
  );
}

/** Ends those refunds of a payment whose money is back, and takes up those again whose money is not. */
export async function settleRefundRows(
  connection: PoolConnection,
  paymentId: number,
  refunded: number,
): Promise<void> {
  await modify(
    connection,
    `UPDATE refunds SET ended_at = IF(target <= ?, COALESCE(ended_at, NOW(3)), NULL),
       status = IF(target <= ?, 'succeeded', 'requested')
     WHERE payment_id = ? AND status <> 'failed'`,
    [refunded, refunded, paymentId],
  );
}

/** Whether staff refunded units of the payment's order, and so decided about the limit of each. */
export async function hasRefundOfUnits(reader: Executor, paymentId: number): Promise<boolean> {
  const condition = `payment_id = ? AND items IS NOT NULL AND status <> 'failed' LIMIT 1`;
  return (await selectRefunds(reader, condition, [paymentId])).length > 0;
}
