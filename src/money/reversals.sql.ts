/**
 * What went back of a payment, recorded in any order and applied to the payment and its order; and what of
 * the order comes back with it: units to the stock, the user's limit.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import {
  modify,
  selectRows,
  type Executor,
  type PoolConnection,
  type Pool,
  inTransaction,
  selectList,
} from '../mysql/connection.ts';
import { changeLocked } from '../orders/change.sql.ts';
import type { GiveBack, OrderUnits } from '../orders/order.ts';
import { lockOrder, type StoredOrder, bookMovements, type Booking, readOrders } from '../orders/rows.sql.ts';
import {
  recordAction,
  type ParkedFacts,
  unpark,
  isParkedFor,
  park,
  parkAnew,
  STOCK_DECISION_PENDING,
  resolveStockDecision,
} from '../parked/parked.sql.ts';
import {
  REVERSAL_STATUSES,
  type Reversal,
  type PaymentStatus,
  type ReversalTotals,
  type RecordedTotals,
  statusAfter,
  sumRefunds,
  sumReversals,
  isUnrequested,
} from './payment.ts';
import { upsertReversals } from './reversal-rows.sql.ts';
import {
  lockPaymentAndOrder,
  makeRefundSignalDue,
  selectPayments,
  setPaymentStatus,
  setRefundTarget,
  clearRefusal,
  type LockedPayment,
  type Payment,
  hasGiveBack,
  finishRefundRows,
  readPayment,
  hasRefundOfUnits,
  insertGiveBack,
  IS_GIVE_BACK_DUE,
  partOf,
  selectRefunds,
} from './rows.sql.ts';
import { closePaidSessions } from './sessions.sql.ts';

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
 * Records reversals of one payment, in any order and any number of times, and applies them to the payment.
 * The reversals of a payment that is not known yet are applied when it comes.
 * @returns the payment's order as it is now; undefined where payment or order is not known
 */
export async function recordAndApplyReversals(
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
  const { changed, hasNewState } = await upsertReversals(connection, provider, reversals);
  // The workflow that waits for it goes on in another way.
  if (known?.payment.status === 'refund_due' && hasNewState && reportedBy === 'provider')
    await makeRefundSignalDue(connection, known.payment.paymentId);
  if (known) return applyNews(connection, known, changed, reportedBy);

  // The payment may be inserted at this very moment. Its transaction looks for reversals after the insert,
  // and this one looks for the payment after its own.
  const [payment] = await selectPayments(connection, `${byId} FOR UPDATE`, which);
  if (!payment) return undefined;
  const stored = await lockOrder(connection, payment.orderNo);
  return applyNews(connection, { payment, stored }, changed, reportedBy);
}

/**
 * Records reversals, in any order and any number of times, and applies them to their payments, one
 * transaction for each payment.
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
      recordAndApplyReversals(connection, provider, paymentId, ofPayment, reportedBy),
    );
  }
}

/** Applies the reversals that came before their payments, which were inserted in this transaction. */
export async function applyEarlyReversals(
  connection: PoolConnection,
  provider: string,
  providerPaymentIds: readonly string[],
): Promise<void> {
  const early = await selectRows(
    connection,
    reversalRow,
    `SELECT ${REVERSAL} FROM reversals FORCE INDEX (reversals_of_payment)
     WHERE provider = ? AND provider_payment_id IN (?) FOR UPDATE`,
    [provider, providerPaymentIds],
  );
  for (const id of new Set(early.map((reversal) => reversal.providerPaymentId))) {
    const which = [provider, id];
    const [payment] = await selectPayments(connection, 'provider = ? AND provider_payment_id = ?', which);
    const reversals = early.filter((reversal) => reversal.providerPaymentId === id);
    // Only a payment that is not decided yet. The order's state does not count on it, so no order is given.
    if (payment?.status === 'received')
      await applyReversals(connection, { payment, stored: undefined }, reversals, 'provider');
  }
}

async function applyNews(
  connection: PoolConnection,
  locked: LockedPayment,
  changed: readonly Reversal[],
  reportedBy: ReportedBy,
): Promise<StoredOrder | undefined> {
  return changed.length === 0 ? locked.stored : applyReversals(connection, locked, changed, reportedBy);
}

/**
 * Brings the payment, its order and what staff requested of it up to all reversals that are recorded.
 * @param changed those that are news; without any, what is requested has changed
 */
export async function applyReversals(
  connection: PoolConnection,
  { payment, stored }: LockedPayment,
  changed: readonly Reversal[],
  reportedBy: ReportedBy,
): Promise<StoredOrder | undefined> {
  const { paymentId, currency, amount } = payment;
  const reversals = await lockReversals(connection, [payment.provider, payment.providerPaymentId]);
  const [totals, refunds] = [sumReversals(currency, reversals), sumRefunds(currency, reversals)];
  const mayPayAgain = await isDisputeNotLost(connection, payment, changed);
  const next = statusAfter(payment, totals, { refunded: refunds.succeeded, mayPayAgain });
  if (next !== payment.status) await changeStatus(connection, payment, next);
  const refunded = next === 'refunded' ? amount : refunds.succeeded;
  await finishRefundRows(connection, paymentId, refunded, refunds.succeeded + refunds.pending);
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
  // All of it had gone back, whatever the cause, so all of it is to go back.
  if (status === 'refunded' && next === 'refund_due') await setRefundTarget(connection, paymentId, amount);
  if (status === 'refund_due' && next === 'applied') await unpark(connection, 'refund', providerPaymentId);
  if (status === 'refund_due') await clearRefusal(connection, paymentId);
  if (next === 'refunded') await unpark(connection, 'refund', providerPaymentId);
  // The payment's session is paid at the provider and takes no other payment. To pay again needs another
  // session.
  if (status === 'received') await closePaidSessions(connection, orderNo);
}

/**
 * Whether a lost dispute was won after all or is open again, so that the payment pays for its order again:
 * its refund in full was not requested here, and the order's stock was not returned.
 */
async function isDisputeNotLost(
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

/** Updates what a paid order says about its money. */
async function updateOrderPayment(
  connection: PoolConnection,
  payment: Payment,
  next: PaymentStatus,
  totals: ReversalTotals,
  stored: StoredOrder,
): Promise<StoredOrder> {
  if (!payment.wasApplied) return stored;
  if (next === 'refunded') await returnLimit(connection, payment.paymentId, stored);
  const refunded = Math.min(totals.succeeded, payment.amount);
  const kept = refunded > 0 ? 'partially_refunded' : 'applied';
  const state = next === 'refunded' ? 'refunded' : totals.isDisputed ? 'disputed' : kept;
  const { outcomes } = await changeLocked(connection, [stored], { kind: 'money', payment: state, refunded });
  return outcomes[0]?.isNews === true ? outcomes[0] : stored;
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
  const unknown = changed.find(({ unknownState }) => unknownState !== undefined)?.unknownState;
  const state =
    unknown === undefined ? '' : `; the provider has it in the state ${unknown}, which is not known`;
  const showStockDecision = () => show('reversed', `${what}: ${sums}${state}; ${STOCK_DECISION_PENDING}`);
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
    `SELECT ${REVERSAL} FROM reversals FORCE INDEX (reversals_of_payment)
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

const ruleRow = z.object({ restores: z.coerce.boolean() });
const lineRow = z.object({ sku: z.string(), quantity: z.int() });
const leftRow = z.object({ sku: z.string(), stock: z.int(), limit: z.int() });

/** What a refund gives back: units to the stock, or to their user's limit. */
interface Given {
  stock: boolean;
  limit: boolean;
}

/**
 * Books stock and limit of the payment's refunds that have ended. A repeat books nothing more, and no line
 * gives back more than it has left.
 */
export function bookGiveBacks(pool: Pool, paymentId: number): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (!locked?.stored) return;
    const { orderNo, saleId } = locked.stored.order;
    const restocked: Booking[] = [];
    const condition = `payment_id = ? AND ${IS_GIVE_BACK_DUE} ORDER BY refund_id`;
    for (const refund of await selectRefunds(connection, condition, [paymentId])) {
      const { refundId, restock, restoresLimit, actor, reason } = refund;
      const items = refund.items ?? [];
      const left = new Map((await readLeft(connection, orderNo)).map((line) => [line.sku, line]));
      const has = (what: keyof Given): boolean =>
        items.every(({ sku, quantity }) => quantity <= (left.get(sku)?.[what] ?? 0));
      const given = { stock: restock && has('stock'), limit: restoresLimit && has('limit') };
      await modify(
        connection,
        'UPDATE refunds SET given_back = TRUE, stock_given = ?, limit_given = ? WHERE refund_id = ?',
        [given.stock, given.limit, refundId],
      );
      await markLines(connection, orderNo, items, given);
      if (!given.stock) continue;
      const detail = { refundId, items, before: 'sold', after: 'returned' };
      await recordAction(connection, { actor, reason, action: 'stock_returned', subject: orderNo, detail });
      restocked.push({ movement: 'return', orderNo, saleId, items, part: partOf(refund) });
    }
    await bookMovements(connection, restocked);
  });
}

async function markLines(
  connection: PoolConnection,
  orderNo: string,
  items: readonly OrderUnits[],
  given: Given,
): Promise<void> {
  for (const { sku, quantity } of items) {
    await modify(
      connection,
      `UPDATE order_items SET stock_returned = stock_returned + ?, limit_returned = limit_returned + ?
       WHERE order_no = ? AND sku = ?`,
      [given.stock ? quantity : 0, given.limit ? quantity : 0, orderNo, sku],
    );
  }
}

/**
 * What is booked as given back, each part once. Empty when the payment never paid for its order, or neither
 * the sale's rule nor an operator gives anything back.
 */
export async function readGiveBacks(pool: Pool, paymentId: number): Promise<GiveBack[]> {
  const payment = await readPayment(pool, { paymentId });
  if (!payment?.wasApplied) return [];
  const { orderNo } = payment;
  const [stored] = await readOrders(pool, [orderNo]);
  if (!stored) return [];
  const { userId } = stored.order;
  const condition = 'payment_id = ? AND (limit_given OR stock_given) ORDER BY refund_id';
  return (await selectRefunds(pool, condition, [paymentId])).map(
    ({ items, isLimitGiven: limit, isStockGiven: stock, ...refund }) => ({
      orderNo,
      userId,
      part: partOf(refund),
      items: items ?? [],
      limit,
      stock,
    }),
  );
}

/**
 * An operator puts all units of a refunded order on sale again that are not. A repeat returns the same.
 */
export function returnStock(
  pool: Pool,
  orderNo: string,
  actor: string,
  why: string | null = null,
): Promise<'returned' | 'not-refunded' | 'unknown'> {
  const decision = { actor, reason: why };
  return inTransaction(pool, async (connection) => {
    const stored = await lockOrder(connection, orderNo);
    if (!stored) return 'unknown';
    if (await hasGiveBack(connection, 'return', orderNo)) return 'returned';
    const { status, payment } = stored.state;
    if (status !== 'paid' || payment !== 'refunded') return 'not-refunded';
    const own = (await selectPayments(connection, 'order_no = ?', [orderNo])).find((one) => one.wasApplied);
    assert(own, `order ${orderNo} was paid`);
    const { paymentId, providerPaymentId } = own;
    const items = await readUnits(connection, orderNo, 'stock_returned');
    await insertGiveBack(connection, 'return', { orderNo, paymentId, items, ...decision });
    await markLines(connection, orderNo, items, { stock: true, limit: false });
    await makeRefundSignalDue(connection, paymentId);
    await resolveStockDecision(connection, providerPaymentId);
    const detail = { items, before: 'sold', after: 'returned' };
    await recordAction(connection, { ...decision, action: 'stock_returned', subject: orderNo, detail });
    const { saleId } = stored.order;
    await bookMovements(connection, [{ movement: 'return', orderNo, saleId, items, part: 'return' }]);
    return 'returned';
  });
}

/**
 * Gives the user's limit back where the sale's rule says so, so that the user may buy as much again. Where
 * staff refunded units of the order, they have decided about each. A repeat changes nothing.
 */
async function returnLimit(
  connection: PoolConnection,
  paymentId: number,
  { order }: StoredOrder,
): Promise<void> {
  const { orderNo, saleId } = order;
  if (await hasRefundOfUnits(connection, paymentId)) return;
  if (await hasGiveBack(connection, 'rule', orderNo)) return;
  if (!(await readLimitRule(connection, saleId))) return;
  const items = await readUnits(connection, orderNo, 'limit_returned');
  if (items.length === 0) return;
  await insertGiveBack(connection, 'rule', { orderNo, paymentId, items, actor: 'rules', reason: null });
  await markLines(connection, orderNo, items, { stock: false, limit: true });
}

/** Whether a refund of the sale gives the user's limit back, where staff do not say. */
export async function readLimitRule(connection: PoolConnection, saleId: string): Promise<boolean> {
  const sql = 'SELECT refund_restores_limit AS restores FROM sales WHERE sale_id = ?';
  return (await selectRows(connection, ruleRow, sql, [saleId]))[0]?.restores ?? false;
}

/** The units of the order that are not counted as returned in this way. */
function readUnits(
  connection: PoolConnection,
  orderNo: string,
  returned: 'stock_returned' | 'limit_returned',
): Promise<OrderUnits[]> {
  return selectRows(
    connection,
    lineRow,
    `SELECT sku, quantity - ${returned} AS quantity FROM order_items
     WHERE order_no = ? AND quantity > ${returned} ORDER BY position`,
    [orderNo],
  );
}

function readLeft(connection: PoolConnection, orderNo: string): Promise<z.infer<typeof leftRow>[]> {
  return selectRows(
    connection,
    leftRow,
    `SELECT sku, quantity - stock_returned AS stock, quantity - limit_returned AS \`limit\` FROM order_items
     WHERE order_no = ?`,
    [orderNo],
  );
}
