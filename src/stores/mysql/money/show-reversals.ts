/** Shows operators the money that went back otherwise than was requested here. */

import type { PaymentStatus, Reversal, ReversalTotals } from '../../../domain/payment.ts';
import { isUnrequested } from '../../../domain/reversals.ts';
import type { PoolConnection } from '../connection.ts';
import type { ParkedFacts } from '../rows/parked-facts.ts';
import { isParkedFor, park, parkAnew, STOCK_DECISION_PENDING, unpark } from '../rows/parked.ts';
import type { Payment } from '../rows/payment-rows.ts';

/** What is known of a payment's reversals. */
interface Reported {
  totals: ReversalTotals;
  /** Of refunds alone. */
  refunds: Pick<ReversalTotals, 'succeeded' | 'pending'>;
  changed: readonly Reversal[];
}

/**
 * Parks the payment for an operator when money went back that was not requested here, when a refund failed
 * after it had succeeded, or when more goes back than was paid. Unparks it once that is settled.
 */
export async function showReversals(
  connection: PoolConnection,
  payment: Payment,
  next: PaymentStatus,
  { totals, refunds, changed }: Reported,
): Promise<void> {
  const { providerPaymentId, orderNo, amount, currency, status } = payment;
  const { succeeded, pending } = totals;
  const what = totals.isDisputed ? 'disputed' : 'refunded or charged back at the provider';
  const sums = `of ${amount} ${currency} for order ${orderNo}, ${succeeded} went back and ${pending} may`;
  const isPart = status === 'refund_due' && payment.wasApplied && payment.refundTarget < amount;
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
  } else if (next === 'refund_due' && (status === 'refunded' || status === 'applied')) {
    await show('refund_failed_later', `a refund failed after it had succeeded: ${sums}`);
  } else if (status === 'applied' || next === 'applied' || isPart) {
    if (!isUnrequested(payment, totals, refunds)) await unpark(connection, 'payment', providerPaymentId);
    else if (changed.some((reversal) => reversal.status !== 'failed')) await showStockDecision();
  } else if (isTooMuch) {
    await show('too_much_reversed', `more goes back than was paid: ${sums}`);
  } else if (status !== 'refunded' && next === 'refunded') {
    await unpark(connection, 'payment', providerPaymentId);
  } else if (next === 'refunded' && (await isParkedFor(connection, providerPaymentId, 'too_much_reversed'))) {
    // As much went back as was paid, after all. The question before that one is open again.
    if (payment.wasApplied && isUnrequested(payment, totals, refunds)) await showStockDecision();
    else await unpark(connection, 'payment', providerPaymentId);
  }
}
