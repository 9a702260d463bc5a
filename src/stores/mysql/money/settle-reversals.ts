/** Money on its way back: what that means for its payment and its order, in one transaction. */

import { z } from 'zod';
import type { PaymentStatus, Reversal } from '../../../domain/payment.ts';
import { isTouched, statusAfter, sumReversals, type ReversalTotals } from '../../../domain/reversals.ts';
import { modify, selectRows, type PoolConnection } from '../connection.ts';
import { lockOrder, transition, type StoredOrder } from '../rows/order-rows.ts';
import { park, parkAnew, STOCK_DECISION_PENDING, unpark } from '../rows/parked.ts';
import {
  lockPaymentAndOrder,
  selectPayments,
  setPaymentStatus,
  makeRefundSignalDue,
  type LockedPayment,
  type Payment,
} from '../rows/payment-rows.ts';
import { lockReversals, upsertReversals } from '../rows/reversal-rows.ts';
import { closePaidSessions } from './payment-sessions.ts';

/** Who tells: the refund workflow, which goes on by itself, or the provider, so that the workflow must be woken. */
export type ReportedBy = 'workflow' | 'provider';

/**
 * Records what went back of one payment, each reversal in any order and any number of times, and settles the payment.
 * A payment that is not known yet meets its reversals when it comes.
 * @returns the payment's order as it is now; undefined where payment or order is not known
 */
export async function recordAndSettleReversals(
  connection: PoolConnection,
  provider: string,
  providerPaymentId: string,
  reversals: readonly Reversal[],
  reportedBy: ReportedBy,
): Promise<StoredOrder | undefined> {
  const which = [provider, providerPaymentId];
  const byId = 'provider = ? AND provider_payment_id = ?';
  const [seen] = await selectPayments(connection, byId, which);
  const known = seen && (await lockPaymentAndOrder(connection, seen.paymentId));
  const changed = await upsertReversals(connection, provider, reversals);
  if (known) return settleReversals(connection, known, changed, reportedBy);

  // Money that comes at this very moment: it looks for reversals after it was written, as we look for it.
  const [payment] = await selectPayments(connection, `${byId} FOR UPDATE`, which);
  if (!payment) return undefined;
  const stored = await lockOrder(connection, payment.orderNo);
  return settleReversals(connection, { payment, stored }, changed, reportedBy);
}

/** For a payment that was written in this transaction: its reversals may have come before it. */
export async function settleEarlyReversals(
  connection: PoolConnection,
  provider: string,
  providerPaymentId: string,
): Promise<void> {
  const which = [provider, providerPaymentId];
  const reversals = await lockReversals(connection, which);
  if (reversals.length === 0) return;
  const [payment] = await selectPayments(connection, 'provider = ? AND provider_payment_id = ?', which);
  // No order counts on it yet.
  if (payment) await settleReversals(connection, { payment, stored: undefined }, reversals, 'provider');
}

async function settleReversals(
  connection: PoolConnection,
  { payment, stored }: LockedPayment,
  changed: readonly Reversal[],
  reportedBy: ReportedBy,
): Promise<StoredOrder | undefined> {
  if (changed.length === 0) return stored;
  const which = [payment.provider, payment.providerPaymentId];
  const totals = sumReversals(payment.currency, await lockReversals(connection, which));
  const mayPayAgain = await isWonBack(connection, payment, changed);
  const next = statusAfter(payment, totals, mayPayAgain);
  if (next !== payment.status) await changeStatus(connection, payment, next);
  await parkOrUnpark(connection, payment, next, totals, changed);
  const current = stored && (await updateOrderPayment(connection, payment, next, totals, stored));

  const isRefundNews = payment.status === 'refund_due' && reportedBy === 'provider';
  const isDueAnew = next === 'refund_due' && payment.status !== 'refund_due';
  if (isRefundNews || isDueAnew || current !== stored)
    await makeRefundSignalDue(connection, payment.paymentId);
  return current;
}

/** What the change ends: a payment that was taken back pays for nothing any more, and one that is back has no refund to worry about. */
async function changeStatus(
  connection: PoolConnection,
  { paymentId, providerPaymentId, orderNo, status }: Payment,
  next: PaymentStatus,
): Promise<void> {
  await setPaymentStatus(connection, paymentId, next);
  if (next === 'refunded') await unpark(connection, 'refund', providerPaymentId);
  // Its session is paid at the provider, and takes no money any more: who wants to pay again needs another.
  if (status === 'received') await closePaidSessions(connection, orderNo);
}

/** A lost dispute that was won after all, about money that nobody here wanted to give back, nor took the goods back for. */
async function isWonBack(
  connection: PoolConnection,
  payment: Payment,
  changed: readonly Reversal[],
): Promise<boolean> {
  const isOurs = payment.status === 'refunded' && payment.wasApplied && payment.reason === null;
  if (!isOurs || changed.some(({ kind }) => kind !== 'dispute')) return false;
  const [kept] = await selectRows(
    connection,
    z.object({ order_no: z.string() }),
    'SELECT order_no FROM orders WHERE order_no = ? AND NOT stock_returned',
    [payment.orderNo],
  );
  return kept !== undefined;
}

/** What nobody here asked for, or what went wrong after it was done, is a person's business; what is settled no more. */
async function parkOrUnpark(
  connection: PoolConnection,
  payment: Payment,
  next: PaymentStatus,
  totals: ReversalTotals,
  changed: readonly Reversal[],
): Promise<void> {
  const { providerPaymentId, orderNo, amount, currency, status } = payment;
  const { succeeded, pending } = totals;
  const what = totals.isDisputed ? 'disputed' : 'refunded or charged back at the provider';
  const sums = `of ${amount} ${currency} for order ${orderNo}, ${succeeded} went back and ${pending} may`;
  const isTooMuch = succeeded + pending > amount || (next === 'refunded' && totals.isMixed);
  if (status === 'received' && next === 'parked') {
    await park(connection, 'payment', providerPaymentId, `${what} before it was applied: ${sums}`);
  } else if (status === 'applied' || next === 'applied') {
    if (!isTouched(totals)) await unpark(connection, 'payment', providerPaymentId);
    else if (changed.some((reversal) => reversal.status !== 'failed')) {
      const reason = `${what}: ${sums}; ${STOCK_DECISION_PENDING}`;
      await parkAnew(connection, 'payment', providerPaymentId, reason);
    }
  } else if (status === 'refunded' && next === 'refund_due') {
    await parkAnew(
      connection,
      'payment',
      providerPaymentId,
      `a refund failed after it had succeeded: ${sums}`,
    );
  } else if (isTooMuch) {
    await parkAnew(connection, 'payment', providerPaymentId, `more goes back than was paid: ${sums}`);
  } else if (status !== 'refunded' && next === 'refunded') {
    await unpark(connection, 'payment', providerPaymentId);
  }
}

/** A paid order stays paid; what is told of is its money. One that awaits payment awaits another. */
async function updateOrderPayment(
  connection: PoolConnection,
  payment: Payment,
  next: PaymentStatus,
  totals: ReversalTotals,
  stored: StoredOrder,
): Promise<StoredOrder> {
  if (!payment.wasApplied) {
    const hasLostMoney = payment.status === 'received' && next !== 'received';
    if (!hasLostMoney || stored.state.payment !== 'received') return stored;
    return transition(connection, stored, { payment: 'none' });
  }
  if (next === 'refunded') await returnLimit(connection, stored);
  const kept = totals.isDisputed ? 'disputed' : 'applied';
  const state = next === 'refunded' ? 'refunded' : kept;
  return stored.state.payment === state ? stored : transition(connection, stored, { payment: state });
}

/** Where the sale's rule says so, whoever has their money back may buy as much again. */
async function returnLimit(connection: PoolConnection, { order }: StoredOrder): Promise<void> {
  const [sale] = await selectRows(
    connection,
    z.object({ restores: z.coerce.boolean() }),
    'SELECT refund_restores_limit AS restores FROM sales WHERE sale_id = ?',
    [order.saleId],
  );
  if (!sale?.restores) return;
  await modify(connection, 'UPDATE orders SET limit_returned = TRUE WHERE order_no = ?', [order.orderNo]);
}
