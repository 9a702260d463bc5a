/** Records refunds and disputes of a payment, and settles the payment and its order, in one transaction. */

import { z } from 'zod';
import type { PaymentStatus, Reversal, ReversalTotals } from '../../../domain/payment.ts';
import { isTouched, statusAfter, sumReversals } from '../../../domain/reversals.ts';
import { modify, selectRows, type PoolConnection } from '../connection.ts';
import { lockOrder, transition, type StoredOrder } from '../rows/order-rows.ts';
import {
  isParkedFor,
  park,
  parkAnew,
  STOCK_DECISION_PENDING,
  unpark,
  type ParkedFacts,
} from '../rows/parked.ts';
import {
  lockPaymentAndOrder,
  makeRefundSignalDue,
  selectPayments,
  setPaymentStatus,
  type LockedPayment,
  type Payment,
} from '../rows/payment-rows.ts';
import { lockReversals, upsertReversals } from '../rows/reversal-rows.ts';
import { closePaidSessions } from './payment-sessions.ts';

const ruleRow = z.object({ restores: z.coerce.boolean() });

const orderNoRow = z.object({ order_no: z.string() });

/** The refund workflow goes on after its own reports. After a report of the provider it must be signalled. */
export type ReportedBy = 'workflow' | 'provider';

/**
 * Records reversals of one payment, in any order and any number of times, and settles the payment. The
 * reversals of a payment that is not known yet are settled when it comes.
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

  // The payment may be inserted at this very moment. Its transaction looks for reversals after the insert,
  // and this one looks for the payment after its own.
  const [payment] = await selectPayments(connection, `${byId} FOR UPDATE`, which);
  if (!payment) return undefined;
  const stored = await lockOrder(connection, payment.orderNo);
  return settleReversals(connection, { payment, stored }, changed, reportedBy);
}

/** Settles the reversals that came before their payment, which was inserted in this transaction. */
export async function settleEarlyReversals(
  connection: PoolConnection,
  provider: string,
  providerPaymentId: string,
): Promise<void> {
  const which = [provider, providerPaymentId];
  const reversals = await lockReversals(connection, which);
  if (reversals.length === 0) return;
  const [payment] = await selectPayments(connection, 'provider = ? AND provider_payment_id = ?', which);
  // The order's state does not count on this payment yet, so no order is given.
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
  const mayPayAgain = await isDisputeWon(connection, payment, changed);
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

/** Sets the status, and ends what the change ends: a parked refund, or the sessions that the payment paid. */
async function changeStatus(
  connection: PoolConnection,
  { paymentId, providerPaymentId, orderNo, status }: Payment,
  next: PaymentStatus,
): Promise<void> {
  await setPaymentStatus(connection, paymentId, next);
  if (next === 'refunded') await unpark(connection, 'refund', providerPaymentId);
  // The payment's session is paid at the provider and takes no other payment. To pay again needs another
  // session.
  if (status === 'received') await closePaidSessions(connection, orderNo);
}

/**
 * Whether a lost dispute was won after all, so that the payment pays for its order again: no refund was
 * requested here, and the order's stock was not returned.
 */
async function isDisputeWon(
  connection: PoolConnection,
  payment: Payment,
  changed: readonly Reversal[],
): Promise<boolean> {
  const isUnrequestedRefund = payment.status === 'refunded' && payment.wasApplied && payment.reason === null;
  if (!isUnrequestedRefund || changed.some(({ kind }) => kind !== 'dispute')) return false;
  const [kept] = await selectRows(
    connection,
    orderNoRow,
    'SELECT order_no FROM orders WHERE order_no = ? AND NOT stock_returned',
    [payment.orderNo],
  );
  return kept !== undefined;
}

/**
 * Parks the payment for an operator when money went back that was not requested here, when a refund failed
 * after it had succeeded, or when more goes back than was paid. Unparks it once that is settled.
 */
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
  const facts = (cause: ParkedFacts['cause']): ParkedFacts => ({
    cause,
    // Pending or done, it is the same money: an operator who has settled it is not asked again.
    inputs: { orderNo, amount, currency, back: succeeded + pending, disputed: totals.isDisputed },
  });
  const show = (cause: ParkedFacts['cause'], reason: string) =>
    parkAnew(connection, 'payment', providerPaymentId, reason, facts(cause));
  const showStockDecision = () => show('reversed', `${what}: ${sums}; ${STOCK_DECISION_PENDING}`);
  if (status === 'received' && next === 'parked') {
    const reason = `${what} before it was applied: ${sums}`;
    await park(connection, 'payment', providerPaymentId, reason, facts('reversed_before_applied'));
  } else if (status === 'applied' || next === 'applied') {
    if (!isTouched(totals)) await unpark(connection, 'payment', providerPaymentId);
    else if (changed.some((reversal) => reversal.status !== 'failed')) await showStockDecision();
  } else if (status === 'refunded' && next === 'refund_due') {
    await show('refund_failed_later', `a refund failed after it had succeeded: ${sums}`);
  } else if (isTooMuch) {
    await show('too_much_reversed', `more goes back than was paid: ${sums}`);
  } else if (status !== 'refunded' && next === 'refunded') {
    await unpark(connection, 'payment', providerPaymentId);
  } else if (next === 'refunded' && (await isParkedFor(connection, providerPaymentId, 'too_much_reversed'))) {
    // As much went back as was paid, after all. The question before that one is open again.
    if (payment.wasApplied && payment.reason === null) await showStockDecision();
    else await unpark(connection, 'payment', providerPaymentId);
  }
}

/** Updates the `payment` of the order's state. A paid order stays paid; another awaits a new payment. */
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

/** Gives the user's limit back where the sale's rule says so, so that the user may buy as much again. */
async function returnLimit(connection: PoolConnection, { order }: StoredOrder): Promise<void> {
  const [sale] = await selectRows(
    connection,
    ruleRow,
    'SELECT refund_restores_limit AS restores FROM sales WHERE sale_id = ?',
    [order.saleId],
  );
  if (!sale?.restores) return;
  await modify(connection, 'UPDATE orders SET limit_returned = TRUE WHERE order_no = ?', [order.orderNo]);
}
