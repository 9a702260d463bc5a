/** Reads for the audit, from MySQL: payments with their reversals, and what is parked. */

import { z } from 'zod';
import { parseOrderNo } from '../../domain/order.ts';
import {
  PAYMENT_STATUSES,
  REFUND_REASONS,
  type PaymentStatus,
  type RefundReason,
  type Reversal,
} from '../../domain/payment.ts';
import { selectRows, type Pool } from '../mysql/connection.ts';
import { selectRefunds, type Refund } from '../mysql/money/refund.ts';
import { reversalColumns } from '../mysql/money/reversals.ts';

/** Payments read by one statement, so that its answer stays small. */
const PAYMENTS_AT_ONCE = 5_000;

/** A refund that staff requested; see `Refund`. */
type AuditedRefund = Pick<Refund, 'refundId' | 'amount' | 'status' | 'items' | 'isStockGiven'>;

/** A payment as MySQL has recorded it. Amounts in minor units. */
export interface AuditedPayment {
  paymentId: number;
  provider: string;
  providerPaymentId: string;
  orderNo: string;
  amount: number;
  currency: string;
  status: PaymentStatus;
  /** Whether it paid for its order, also when it went back later. */
  wasApplied: boolean;
  /** Why it is refunded; null: no refund was requested here. */
  reason: RefundReason | null;
  /** Minor units that are to be refunded in all, by all requests; 0: none was made here. */
  refundTarget: number;
  /** What staff requested of it. */
  refunds: AuditedRefund[];
  /** A relay is to start or signal its refund workflow. */
  isDue: boolean;
  /** Its recorded refunds and disputes. */
  reversals: Pick<Reversal, 'kind' | 'amount' | 'currency' | 'status'>[];
}

const paymentRow = z.object({
  payment_id: z.int(),
  provider: z.string(),
  provider_payment_id: z.string(),
  order_no: z.string(),
  amount: z.int(),
  currency: z.string(),
  status: z.enum(PAYMENT_STATUSES),
  applied: z.coerce.boolean(),
  refund_reason: z.enum(REFUND_REASONS).nullable(),
  refund_target: z.int(),
  due: z.coerce.boolean(),
});

const reversalRow = z.object({ payment_id: z.int(), ...reversalColumns });

/** The payments that name an order of the sale, stored or not. */
export async function readSaleMoney(pool: Pool, saleId: string): Promise<{ payments: AuditedPayment[] }> {
  const payments = await readPayments(pool, 'p.order_no LIKE ?', [`${saleId}-%`]);
  // The pattern also matches sales whose id continues after a dash.
  return { payments: payments.filter(({ orderNo }) => parseOrderNo(orderNo)?.saleId === saleId) };
}

/** The payments that name no stored order, and what is parked. */
export async function readStrayMoney(pool: Pool) {
  const [payments, parked] = await Promise.all([
    readPayments(pool, 'NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_no = p.order_no)', []),
    readParked(pool),
  ]);
  return { payments, ...parked };
}

/**
 * The references of parked orders, payments and refunds: `parked` are parked now, or an operator has settled
 * the money by hand; `everParked` are or were parked.
 */
export async function readParked(pool: Pool): Promise<{ parked: Set<string>; everParked: Set<string> }> {
  const rows = await selectRows(
    pool,
    z.object({ reference: z.string(), shown: z.coerce.boolean() }),
    `SELECT reference, resolved_at IS NULL OR (settled_by = 'operator' AND kind <> 'order') AS shown
     FROM parked WHERE kind IN ('order', 'payment', 'refund')`,
  );
  return {
    parked: new Set(rows.filter(({ shown }) => shown).map(({ reference }) => reference)),
    everParked: new Set(rows.map(({ reference }) => reference)),
  };
}

/** @param condition about `payments p` */
async function readPayments(
  pool: Pool,
  condition: string,
  values: readonly unknown[],
): Promise<AuditedPayment[]> {
  const payments: AuditedPayment[] = [];
  for (let after = 0; ;) {
    const page = await selectRows(
      pool,
      paymentRow,
      `SELECT p.payment_id, p.provider, p.provider_payment_id, p.order_no, p.amount, p.currency, p.status,
         p.applied_at IS NOT NULL AS applied, p.refund_reason, p.engine_due_at IS NOT NULL AS due, p.refund_target
       FROM payments p WHERE p.payment_id > ? AND ${condition} ORDER BY p.payment_id LIMIT ?`,
      [after, ...values, PAYMENTS_AT_ONCE],
    );
    const last = page.at(-1)?.payment_id;
    if (last === undefined) return payments;
    const paymentIds = page.map((row) => row.payment_id);
    const reversals = await readReversals(pool, paymentIds);
    const refunds = await readRefunds(pool, paymentIds);
    for (const row of page) {
      payments.push({
        paymentId: row.payment_id,
        provider: row.provider,
        providerPaymentId: row.provider_payment_id,
        orderNo: row.order_no,
        amount: row.amount,
        currency: row.currency,
        status: row.status,
        wasApplied: row.applied,
        reason: row.refund_reason,
        refundTarget: row.refund_target,
        refunds: refunds.get(row.payment_id) ?? [],
        isDue: row.due,
        reversals: reversals.get(row.payment_id) ?? [],
      });
    }
    after = last;
  }
}

/** @returns the reversals by the id of their payment */
async function readReversals(
  pool: Pool,
  paymentIds: readonly number[],
): Promise<Map<number, AuditedPayment['reversals']>> {
  const rows = await selectRows(
    pool,
    reversalRow,
    `SELECT p.payment_id, r.kind, r.amount, r.currency, r.status FROM payments p
     JOIN reversals r ON r.provider = p.provider AND r.provider_payment_id = p.provider_payment_id
     WHERE p.payment_id IN (?)`,
    [paymentIds],
  );
  const byPayment = new Map<number, AuditedPayment['reversals']>();
  for (const { payment_id: paymentId, ...reversal } of rows) {
    byPayment.set(paymentId, [...(byPayment.get(paymentId) ?? []), reversal]);
  }
  return byPayment;
}

/** @returns the refunds by the id of their payment */
async function readRefunds(
  pool: Pool,
  paymentIds: readonly number[],
): Promise<Map<number, AuditedPayment['refunds']>> {
  const byPayment = new Map<number, AuditedPayment['refunds']>();
  for (const refund of await selectRefunds(pool, 'payment_id IN (?) ORDER BY refund_id', [paymentIds])) {
    byPayment.set(refund.paymentId, [...(byPayment.get(refund.paymentId) ?? []), refund]);
  }
  return byPayment;
}
