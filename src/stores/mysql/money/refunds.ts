/** Refunds: what their workflow reads and records, and what operators decide about them. */

import { z } from 'zod';
import type { GiveBack } from '../../../domain/order.ts';
import type { PaymentStatus, Reversal } from '../../../domain/payment.ts';
import { sumReversals } from '../../../domain/reversals.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
} from '../connection.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import { lockOrder, readOrders } from '../rows/order-rows.ts';
import { park, resolveStockDecision, unpark } from '../rows/parked.ts';
import {
  lockPaymentAndOrder,
  makeIdleRefundSignalDue,
  makeRefundDue,
  makeRefundSignalDue,
  readPayment,
  selectPayments,
  type LockedPayment,
} from '../rows/payment-rows.ts';
import { readReversals } from '../rows/reversal-rows.ts';
import { bookMovement } from '../rows/stock-ledger.ts';
import { recordAndSettleReversals, type ReportedBy } from './settle-reversals.ts';

const returnedRow = z.object({ limit_returned: z.coerce.boolean(), stock_returned: z.coerce.boolean() });

/** What the refund workflow needs to know of a payment. */
export interface RefundTask {
  paymentId: number;
  provider: string;
  providerPaymentId: string;
  orderNo: string;
  /** Minor units that were paid. */
  amount: number;
  currency: string;
  status: PaymentStatus;
  /** How often the provider refused. After each refusal the next request needs another idempotency key. */
  refusals: number;
  /** Minor units that disputes have taken or may take. They must not be refunded in addition. */
  chargedBack: number;
}

/** Why a refund is shown to an operator. */
export interface RefundFailure {
  cause: 'step_failing' | 'refund_slow';
  /** The words by which the Web UI shows the step; null: of a workflow from before it was recorded. */
  step: string | null;
}

export type Refunds = ReturnType<typeof createRefunds>;

export function createRefunds(pool: Pool) {
  return {
    /** Undefined when there is no such payment. */
    async read(paymentId: number): Promise<RefundTask | undefined> {
      const payment = await readPayment(pool, paymentId);
      if (!payment) return undefined;
      const { reason: _, wasApplied: __, ...task } = payment;
      return { ...task, chargedBack: await sumDisputes(pool, task) };
    },

    /**
     * Records reversals, in any order and any number of times, and settles their payments, one transaction
     * for each payment.
     * @param reportedBy a refund workflow that reports a reversal itself is not signalled about it
     */
    async recordReversals(
      provider: string,
      reversals: readonly Reversal[],
      reportedBy: ReportedBy = 'workflow',
    ): Promise<void> {
      const paymentIds = new Set(reversals.map(({ providerPaymentId }) => providerPaymentId));
      for (const paymentId of paymentIds) {
        const ofPayment = reversals.filter(({ providerPaymentId }) => providerPaymentId === paymentId);
        await inTransaction(pool, (connection) =>
          recordAndSettleReversals(connection, provider, paymentId, ofPayment, reportedBy),
        );
      }
    },

    /** Counts a refusal, which changes the key of the next request: the same key gets the same answer. */
    async recordRefusal(paymentId: number): Promise<void> {
      await modify(pool, 'UPDATE payments SET refund_refusals = refund_refusals + 1 WHERE payment_id = ?', [
        paymentId,
      ]);
    },

    /**
     * Undefined when nothing is to be given back: the payment never paid for its order, or neither the sale's
     * rule nor an operator gives anything back.
     */
    async readGiveBack(paymentId: number): Promise<GiveBack | undefined> {
      const payment = await readPayment(pool, paymentId);
      if (!payment?.wasApplied) return undefined;
      const { orderNo } = payment;
      const [stored] = await readOrders(pool, [orderNo]);
      const { limit, stock } = await readReturned(pool, orderNo);
      if (!stored || (!limit && !stock)) return undefined;
      return { orderNo, userId: stored.order.userId, items: stored.order.items, limit, stock };
    },

    /** Parks a refund that keeps failing, for an operator. Its workflow goes on trying. */
    async park(paymentId: number, reason: string, { cause, step }: RefundFailure): Promise<void> {
      const payment = await readPayment(pool, paymentId);
      if (!payment) return;
      const { providerPaymentId, orderNo, amount, currency } = payment;
      const inputs = { paymentId, orderNo, amount, currency, step };
      await park(pool, 'refund', providerPaymentId, reason, { cause, inputs });
    },

    /** Ends the parking once the refund has succeeded. */
    async unpark(paymentId: number): Promise<void> {
      const payment = await readPayment(pool, paymentId);
      if (payment) await unpark(pool, 'refund', payment.providerPaymentId);
    },

    /**
     * An operator requests a refund, and may say why. A repeat returns the same, and makes the refund
     * workflow due where it is not. not-refundable: the payment went back already, or its order is about to
     * decide about it.
     */
    request: (
      paymentId: number,
      actor: string,
      why: string | null = null,
    ): Promise<'requested' | 'not-refundable' | 'unknown'> =>
      inTransaction(pool, async (connection) => {
        const locked = await lockPaymentAndOrder(connection, paymentId);
        if (!locked) return 'unknown';
        const { status, reason, providerPaymentId, orderNo, amount, currency } = locked.payment;
        if (status === 'refund_due') await makeIdleRefundSignalDue(connection, paymentId);
        if (status === 'refund_due' || reason === 'operator_request') return 'requested';
        if (!isRefundable(locked)) return 'not-refundable';
        await makeRefundDue(connection, paymentId, 'operator_request');
        await unpark(connection, 'payment', providerPaymentId);
        const subject = `payment ${paymentId}`;
        const detail = { orderNo, amount, currency, before: status, after: 'refund_due' };
        await recordAction(connection, { actor, reason: why, action: 'refund_requested', subject, detail });
        return 'requested';
      }),

    /**
     * An operator decides that the units of a refunded order may be sold again. A repeat returns the same.
     */
    returnStock: (
      orderNo: string,
      actor: string,
      why: string | null = null,
    ): Promise<'returned' | 'not-refunded' | 'unknown'> =>
      inTransaction(pool, (connection) => returnStock(connection, orderNo, { actor, reason: why })),
  };
}

/**
 * A received payment is refundable only while its order is not stored. Otherwise its order decides about it.
 */
function isRefundable({ payment, stored }: LockedPayment): boolean {
  return (
    payment.status === 'applied' || payment.status === 'parked' || (payment.status === 'received' && !stored)
  );
}

async function returnStock(
  connection: PoolConnection,
  orderNo: string,
  decision: Decision,
): Promise<'returned' | 'not-refunded' | 'unknown'> {
  const stored = await lockOrder(connection, orderNo);
  if (!stored) return 'unknown';
  if ((await readReturned(connection, orderNo)).stock) return 'returned';
  const { status, payment } = stored.state;
  if (status !== 'paid' || payment !== 'refunded') return 'not-refunded';
  await modify(connection, 'UPDATE orders SET stock_returned = TRUE WHERE order_no = ?', [orderNo]);
  for (const { wasApplied, paymentId, providerPaymentId } of await selectPayments(
    connection,
    'order_no = ?',
    [orderNo],
  )) {
    if (!wasApplied) continue;
    await makeRefundSignalDue(connection, paymentId);
    await resolveStockDecision(connection, providerPaymentId);
  }
  const items = stored.order.items.map(({ sku, quantity }) => ({ sku, quantity }));
  const detail = { items, before: 'sold', after: 'returned' };
  await recordAction(connection, { ...decision, action: 'stock_returned', subject: orderNo, detail });
  await bookMovement(connection, 'return', [stored.order]);
  return 'returned';
}

async function readReturned(reader: Executor, orderNo: string): Promise<{ limit: boolean; stock: boolean }> {
  const [row] = await selectRows(
    reader,
    returnedRow,
    'SELECT limit_returned, stock_returned FROM orders WHERE order_no = ?',
    [orderNo],
  );
  return { limit: row?.limit_returned ?? false, stock: row?.stock_returned ?? false };
}

async function sumDisputes(
  reader: Executor,
  payment: { provider: string; providerPaymentId: string; currency: string },
): Promise<number> {
  const reversals = await readReversals(reader, [payment.provider, payment.providerPaymentId]);
  const { succeeded, pending } = sumReversals(
    payment.currency,
    reversals.filter(({ kind }) => kind === 'dispute'),
  );
  return succeeded + pending;
}
