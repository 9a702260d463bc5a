/** Refunds and disputes of a payment, recorded in any order and settled with the payment and its order. */

import { z } from 'zod';
import {
  REVERSAL_STATUSES,
  type Reversal,
  type PaymentStatus,
  type ReversalTotals,
  type RecordedTotals,
} from '../../../domain/payment.ts';
import { statusAfter, sumRefunds, sumReversals, isUnrequested } from '../../../domain/reversals.ts';
import {
  modify,
  selectRows,
  type Executor,
  type PoolConnection,
  type Pool,
  inTransaction,
} from '../connection.ts';
import { lockOrder, transition, type StoredOrder } from '../rows/order-rows.ts';
import {
  type ParkedFacts,
  unpark,
  isParkedFor,
  park,
  parkAnew,
  STOCK_DECISION_PENDING,
} from '../rows/parked.ts';
import { selectList } from '../select-list.ts';
import { returnLimit } from './give-backs.ts';
import { closePaidSessions } from './payment-sessions.ts';
import {
  lockPaymentAndOrder,
  makeRefundSignalDue,
  selectPayments,
  setPaymentStatus,
  setRefundTarget,
  type LockedPayment,
  type Payment,
} from './payment.ts';
import { hasGiveBack, settleRefundRows } from './refund.ts';

/** @returns those that changed a row */
async function upsertReversals(
  connection: PoolConnection,
  provider: string,
  reversals: readonly Reversal[],
): Promise<Reversal[]> {
  const changed: Reversal[] = [];
  for (const reversal of reversals) {
    // A status has a rank, and only a greater one applies. The amount is set first, because it is compared
    // with the status from before.
    const affected = await modify(
      connection,
      `INSERT INTO reversals (provider, provider_reversal_id, kind, provider_payment_id, amount, currency, status)
       VALUES (?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE
         amount = IF(FIELD(VALUES(status), ?) > FIELD(status, ?), VALUES(amount), amount),
         status = IF(FIELD(VALUES(status), ?) > FIELD(status, ?), VALUES(status), status)`,
      [
        provider,
        reversal.providerReversalId,
        reversal.kind,
        reversal.providerPaymentId,
        reversal.amount,
        reversal.currency,
        reversal.status,
        ...Array.from({ length: 4 }, () => REVERSAL_STATUSES),
      ],
    );
    if (affected > 0) changed.push(reversal);
    // A fee alone is no news of the money.
    if (reversal.fee !== undefined)
      await modify(
        connection,
        `UPDATE reversals SET fee = ? WHERE provider = ? AND provider_payment_id = ? AND kind = ?
           AND provider_reversal_id = ?`,
        [reversal.fee, provider, reversal.providerPaymentId, reversal.kind, reversal.providerReversalId],
      );
  }
  return changed;
}

/** What sums are made of. */
export const reversalColumns = {
  kind: z.enum(['refund', 'dispute']),
  amount: z.int(),
  currency: z.string(),
  status: z.enum(REVERSAL_STATUSES),
};

const reversalRow = z.object({
  ...reversalColumns,
  providerReversalId: z.string(),
  providerPaymentId: z.string(),
});

const REVERSAL = selectList(reversalRow);
const SELECT = `SELECT ${REVERSAL}
  FROM reversals FORCE INDEX (reversals_of_payment) WHERE provider = ? AND provider_payment_id = ?`;

/** @param which provider and provider payment id */
export function readReversals(reader: Executor, which: unknown[]): Promise<Reversal[]> {
  return selectRows(reader, reversalRow, SELECT, which);
}

/**
 * Waits for a transaction that writes one of them. The statement forces its index: in a small table MySQL
 * could choose another one and lock all rows of the provider.
 */
export function lockReversals(connection: PoolConnection, which: unknown[]): Promise<Reversal[]> {
  return selectRows(connection, reversalRow, `${SELECT} FOR UPDATE`, which);
}

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
  if (known) return settleNews(connection, known, changed, reportedBy);

  // The payment may be inserted at this very moment. Its transaction looks for reversals after the insert,
  // and this one looks for the payment after its own.
  const [payment] = await selectPayments(connection, `${byId} FOR UPDATE`, which);
  if (!payment) return undefined;
  const stored = await lockOrder(connection, payment.orderNo);
  return settleNews(connection, { payment, stored }, changed, reportedBy);
}

/**
 * Records reversals, in any order and any number of times, and settles their payments, one transaction
 * for each payment.
 * @param reportedBy a refund workflow that reports a reversal itself is not signalled about it
 */
export async function recordReversals(
  pool: Pool,
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

async function settleNews(
  connection: PoolConnection,
  locked: LockedPayment,
  changed: readonly Reversal[],
  reportedBy: ReportedBy,
): Promise<StoredOrder | undefined> {
  return changed.length === 0 ? locked.stored : settleReversals(connection, locked, changed, reportedBy);
}

/**
 * Settles the payment, its order and what staff requested of it, by all reversals that are recorded.
 * @param changed those that are news; without any, what is requested has changed
 */
export async function settleReversals(
  connection: PoolConnection,
  { payment, stored }: LockedPayment,
  changed: readonly Reversal[],
  reportedBy: ReportedBy,
): Promise<StoredOrder | undefined> {
  const { paymentId, currency, amount } = payment;
  const reversals = await lockReversals(connection, [payment.provider, payment.providerPaymentId]);
  const [totals, refunds] = [sumReversals(currency, reversals), sumRefunds(currency, reversals)];
  const mayPayAgain = await isDisputeWon(connection, payment, changed);
  const next = statusAfter(payment, totals, { refunded: refunds.succeeded, mayPayAgain });
  if (next !== payment.status) await changeStatus(connection, payment, next);
  await settleRefundRows(connection, paymentId, next === 'refunded' ? amount : refunds.succeeded);
  await showReversals(connection, payment, next, { totals, refunds, changed });
  const current = stored && (await updateOrderPayment(connection, payment, next, totals, stored));

  const isRefundNews = payment.status === 'refund_due' && reportedBy === 'provider';
  const isDueAnew = next === 'refund_due' && payment.status !== 'refund_due';
  if (isRefundNews || isDueAnew || current !== stored) await makeRefundSignalDue(connection, paymentId);
  return current;
}

/** Sets the status, and ends what the change ends: a parked refund, or the sessions that the payment paid. */
async function changeStatus(
  connection: PoolConnection,
  { paymentId, providerPaymentId, orderNo, amount, status }: Payment,
  next: PaymentStatus,
): Promise<void> {
  await setPaymentStatus(connection, paymentId, next);
  // All of it had gone back, by whomever, so all of it is to go back.
  if (status === 'refunded' && next === 'refund_due') await setRefundTarget(connection, paymentId, amount);
  if (status === 'refund_due' && next === 'applied') await unpark(connection, 'refund', providerPaymentId);
  if (next === 'refunded') await unpark(connection, 'refund', providerPaymentId);
  // The payment's session is paid at the provider and takes no other payment. To pay again needs another
  // session.
  if (status === 'received') await closePaidSessions(connection, orderNo);
}

/**
 * Whether a lost dispute was won after all, so that the payment pays for its order again: its refund in full
 * was not requested here, and the order's stock was not returned.
 */
async function isDisputeWon(
  connection: PoolConnection,
  payment: Payment,
  changed: readonly Reversal[],
): Promise<boolean> {
  const { status, wasApplied, refundTarget, amount } = payment;
  const isUnrequestedRefund = status === 'refunded' && wasApplied && refundTarget < amount;
  const isAboutDispute = changed.length > 0 && changed.every(({ kind }) => kind === 'dispute');
  if (!isUnrequestedRefund || !isAboutDispute) return false;
  return !(await hasGiveBack(connection, 'return', payment.orderNo));
}

/** Updates what the order says about its money. A paid order stays paid; another awaits a new payment. */
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
  if (next === 'refunded') await returnLimit(connection, payment.paymentId, stored);
  const kept = totals.isDisputed ? 'disputed' : 'applied';
  const state = next === 'refunded' ? 'refunded' : kept;
  const refunded = Math.min(totals.succeeded, payment.amount);
  const isSame = stored.state.payment === state && (stored.state.refunded ?? 0) === refunded;
  return isSame ? stored : transition(connection, stored, { payment: state, refunded });
}

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
async function showReversals(
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

const paymentRow = z.object({
  provider_payment_id: z.string(),
  currency: z.string(),
  fee: z.int().nullable(),
});

/** @returns the totals of the known ones of these payments, by provider payment id */
export async function readReversalTotals(
  pool: Pool,
  provider: string,
  providerPaymentIds: readonly string[],
): Promise<Map<string, RecordedTotals>> {
  if (providerPaymentIds.length === 0) return new Map();
  const which = [provider, providerPaymentIds];
  // Payments are read first, so that a reversal recorded in between counts. One too many only makes the
  // payment be compared once more.
  const payments = await selectRows(
    pool,
    paymentRow,
    'SELECT provider_payment_id, currency, fee FROM payments WHERE provider = ? AND provider_payment_id IN (?)',
    which,
  );
  const reversals = await selectRows(
    pool,
    reversalRow,
    `SELECT ${REVERSAL} FROM reversals
     WHERE provider = ? AND provider_payment_id IN (?)`,
    which,
  );
  return new Map(
    payments.map(({ provider_payment_id: id, currency, fee }) => {
      const own = reversals.filter(({ providerPaymentId }) => providerPaymentId === id);
      const { succeeded, pending } = sumReversals(
        currency,
        own.filter(({ kind }) => kind === 'refund'),
      );
      const wasDisputed = own.some(({ kind }) => kind === 'dispute');
      return [id, { ...sumReversals(currency, own), refunded: succeeded + pending, wasDisputed, fee }];
    }),
  );
}
