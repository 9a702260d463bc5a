/** Money on its way back to whoever paid, and what a person decides about it. */

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
import { recordAction } from '../rows/audit-log.ts';
import { lockOrder, readOrders } from '../rows/order-rows.ts';
import { resolveStockDecision, park, unpark } from '../rows/parked.ts';
import {
  lockPaymentAndOrder,
  makeRefundDue,
  readPayment,
  selectPayments,
  makeIdleRefundSignalDue,
  makeRefundSignalDue,
  type LockedPayment,
} from '../rows/payment-rows.ts';
import { readReversals } from '../rows/reversal-rows.ts';
import { bookMovement } from '../rows/stock-ledger.ts';
import { recordAndSettleReversals, type ReportedBy } from './settle-reversals.ts';

/** What the refund workflow must know of a payment. */
export interface RefundTask {
  paymentId: number;
  provider: string;
  providerPaymentId: string;
  orderNo: string;
  /** Minor units: what was paid. */
  amount: number;
  currency: string;
  status: PaymentStatus;
  /** How often the provider refused; the next try needs another key. */
  refusals: number;
  /** Minor units that chargebacks have taken, or may take: never to be refunded on top. */
  chargedBack: number;
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
     * Records what went back, in any order and any number of times, and settles the payments. One transaction for each payment.
     * @param reportedBy who found it out: its own workflow need not be woken
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

    /** The provider decided against a refund: the same key would be answered the same for ever. */
    async recordRefusal(paymentId: number): Promise<void> {
      await modify(pool, 'UPDATE payments SET refund_refusals = refund_refusals + 1 WHERE payment_id = ?', [
        paymentId,
      ]);
    },

    /** Undefined when nothing is to be given back: the money never paid for the order, or neither rule nor person says so. */
    async readGiveBack(paymentId: number): Promise<GiveBack | undefined> {
      const payment = await readPayment(pool, paymentId);
      if (!payment?.wasApplied) return undefined;
      const { orderNo } = payment;
      const [stored] = await readOrders(pool, [orderNo]);
      const { limit, stock } = await readReturned(pool, orderNo);
      if (!stored || (!limit && !stock)) return undefined;
      return { orderNo, userId: stored.order.userId, items: stored.order.items, limit, stock };
    },

    /** Shows a refund that keeps failing to a person; its workflow goes on trying. */
    async park(paymentId: number, reason: string): Promise<void> {
      const payment = await readPayment(pool, paymentId);
      if (payment) await park(pool, 'refund', payment.providerPaymentId, reason);
    },

    /** It has worked after all. */
    async unpark(paymentId: number): Promise<void> {
      const payment = await readPayment(pool, paymentId);
      if (payment) await unpark(pool, 'refund', payment.providerPaymentId);
    },

    /**
     * A person wants the money to go back. Asked again, it answers the same, and wakes the refund where nobody is about to.
     * not-refundable: it went back already, or its order is about to decide on it.
     */
    request: (paymentId: number, actor: string): Promise<'requested' | 'not-refundable' | 'unknown'> =>
      inTransaction(pool, async (connection) => {
        const money = await lockPaymentAndOrder(connection, paymentId);
        if (!money) return 'unknown';
        const { status, reason, providerPaymentId, orderNo, amount, currency } = money.payment;
        if (status === 'refund_due') await makeIdleRefundSignalDue(connection, paymentId);
        if (status === 'refund_due' || reason === 'operator_request') return 'requested';
        if (!isRefundable(money)) return 'not-refundable';
        await makeRefundDue(connection, paymentId, 'operator_request');
        await unpark(connection, 'payment', providerPaymentId);
        const subject = `payment ${paymentId}`;
        const detail = { orderNo, amount, currency, before: status };
        await recordAction(connection, { actor, action: 'refund_requested', subject, detail });
        return 'requested';
      }),

    /** A person says that the units of a refunded order can be sold again. Asked again, it answers the same. */
    returnStock: (orderNo: string, actor: string): Promise<'returned' | 'not-refunded' | 'unknown'> =>
      inTransaction(pool, (connection) => returnStock(connection, orderNo, actor)),
  };
}

/** Also money that is held for an order nobody knows; of any other that was received, its order decides. */
function isRefundable({ payment, stored }: LockedPayment): boolean {
  return (
    payment.status === 'applied' || payment.status === 'parked' || (payment.status === 'received' && !stored)
  );
}

async function returnStock(
  connection: PoolConnection,
  orderNo: string,
  actor: string,
): Promise<'returned' | 'not-refunded' | 'unknown'> {
  const stored = await lockOrder(connection, orderNo);
  if (!stored) return 'unknown';
  if ((await readReturned(connection, orderNo)).stock) return 'returned';
  const { status, payment } = stored.state;
  if (status !== 'paid' || payment !== 'refunded') return 'not-refunded';
  await modify(connection, 'UPDATE orders SET stock_returned = TRUE WHERE order_no = ?', [orderNo]);
  for (const money of await selectPayments(connection, 'order_no = ?', [orderNo])) {
    if (!money.wasApplied) continue;
    await makeRefundSignalDue(connection, money.paymentId);
    await resolveStockDecision(connection, money.providerPaymentId);
  }
  const detail = { items: stored.order.items.map(({ sku, quantity }) => ({ sku, quantity })) };
  await recordAction(connection, { actor, action: 'stock_returned', subject: orderNo, detail });
  await bookMovement(connection, 'return', [stored.order]);
  return 'returned';
}

async function readReturned(reader: Executor, orderNo: string): Promise<{ limit: boolean; stock: boolean }> {
  const [row] = await selectRows(
    reader,
    z.object({ limit_returned: z.coerce.boolean(), stock_returned: z.coerce.boolean() }),
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
