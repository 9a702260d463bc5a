/** Staff send back all or a part of an order's money, decide about its units and limit, and withdraw it. */

import { z } from 'zod';
import type { Order } from '../../../domain/content.ts';
import { MAX_REFUNDS_PER_ORDER } from '../../../domain/limits.ts';
import type { OrderUnits } from '../../../domain/order.ts';
import type { RefundWish } from '../../../domain/refund-wish.ts';
import { sumRefunds, sumReversals } from '../../../domain/reversals.ts';
import { type PoolConnection, modify, selectRows, type Pool, inTransaction } from '../connection.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import type { StoredOrder } from '../rows/order-rows.ts';
import { resolveStockDecision, unpark } from '../rows/parked.ts';
import { readLimitRule } from './give-backs.ts';
import {
  makePartDue,
  makeRefundSignalDue,
  setRefundTarget,
  lockPaymentAndOrder,
  selectPayments,
  type Payment,
  makeIdleRefundSignalDue,
  makeRefundDue,
  type LockedPayment,
} from './payment.ts';
import { insertRefund, readRefundsOf, settleRefundRows, type NewRefund, type Refund } from './refund.ts';
import { lockReversals, settleReversals } from './reversals.ts';

/** What identifies a request, so that its repeat finds its refund. */
export interface RefundRequestKey {
  idempotencyKey: string;
  fingerprint: string;
}

/** A refund, and the currency of its amount. */
export interface RequestedRefund {
  refund: Refund;
  currency: string;
}

/**
 * exceeds: so much is left to be refunded, in minor units. no-units: of this SKU the order has fewer units
 * left that were not refunded before.
 */
export type RequestRefundOutcome =
  | ({ kind: 'requested' } & RequestedRefund)
  | ({ kind: 'repeated' } & RequestedRefund)
  | { kind: 'unknown' | 'not-refundable' | 'key-reused' | 'too-many' | 'charges-refunded' }
  | { kind: 'exceeds'; refundable: number; currency: string }
  | { kind: 'no-units'; sku: string; refundable: number };

/** Staff send back all or a part of an order's money. A repeat under its key returns the same refund. */
export function requestByOrder(
  pool: Pool,
  orderNo: string,
  wish: RefundWish,
  decision: Decision,
  { idempotencyKey, fingerprint }: RefundRequestKey,
): Promise<RequestRefundOutcome> {
  return inTransaction(pool, async (connection) => {
    const own = await lockOwnPayment(connection, orderNo);
    if (own === 'unknown' || own === 'not-paid')
      return { kind: own === 'unknown' ? 'unknown' : 'not-refundable' };
    const repeated = own.refunds.find((refund) => refund.idempotencyKey === idempotencyKey);
    if (repeated)
      return repeated.fingerprint === fingerprint
        ? { kind: 'repeated', refund: repeated, currency: own.payment.currency }
        : { kind: 'key-reused' };
    if (own.refunds.length >= MAX_REFUNDS_PER_ORDER) return { kind: 'too-many' };
    if (own.isMixed) return { kind: 'not-refundable' };

    const { payment, stored } = own;
    const before = requestedBefore(own, wish.kind === 'all');
    const left = Math.max(0, own.refundable - before);
    const hasCharges = wish.kind === 'units' && wish.charges;
    if (hasCharges && own.refunds.some(({ charges, status }) => charges && status !== 'failed'))
      return { kind: 'charges-refunded' };
    const units = unitsOf(wish, stored.order, own.refunds);
    if ('sku' in units) return { kind: 'no-units', ...units };
    const amount = amountOf(wish, units.items, stored.order, left);
    const isNothing = amount === 0 && wish.kind === 'all';
    if (amount > left || isNothing) return { kind: 'exceeds', refundable: left, currency: payment.currency };
    const refund = await writeRefund(connection, own, {
      ...units,
      amount,
      target: amount === 0 ? payment.refundTarget : before + amount,
      charges: wish.kind === 'all' || hasCharges,
      restock: wish.restock,
      restoresLimit: wish.restoresLimit ?? (await readLimitRule(connection, stored.order.saleId)),
      ...decision,
      idempotencyKey,
      fingerprint,
    });
    return { kind: 'requested', refund, currency: payment.currency };
  });
}

/**
 * An operator requests a refund, and may say why. A repeat returns the same, and makes the refund
 * workflow due where it is not. not-refundable: the payment went back already, or its order is about to
 * decide about it.
 */
export function request(
  pool: Pool,
  paymentId: number,
  actor: string,
  why: string | null = null,
): Promise<'requested' | 'not-refundable' | 'unknown'> {
  return inTransaction(pool, async (connection) => {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (!locked) return 'unknown';
    const { status, providerPaymentId, orderNo, amount, currency, refundTarget } = locked.payment;
    const isAllRequested = refundTarget >= amount;
    if (status === 'refund_due') await makeIdleRefundSignalDue(connection, paymentId);
    if (isAllRequested) return 'requested';
    if (!isRefundable(locked)) return 'not-refundable';
    await unpark(connection, 'payment', providerPaymentId);
    const decision = { actor, reason: why };
    if (locked.payment.wasApplied && (await requestWholePayment(connection, orderNo, decision)))
      return 'requested';
    await makeRefundDue(connection, paymentId, 'operator_request');
    const subject = `payment ${paymentId}`;
    const detail = { orderNo, amount, currency, before: status, after: 'refund_due' };
    await recordAction(connection, { ...decision, action: 'refund_requested', subject, detail });
    return 'requested';
  });
}

/**
 * A received payment is refundable only while its order is not stored. Otherwise its order decides about it.
 */
function isRefundable({ payment, stored }: LockedPayment): boolean {
  return (
    payment.status === 'applied' ||
    payment.status === 'refund_due' ||
    payment.status === 'parked' ||
    (payment.status === 'received' && !stored)
  );
}

/** @returns false: all of it is requested already */
async function requestWholePayment(
  connection: PoolConnection,
  orderNo: string,
  decision: Decision,
): Promise<boolean> {
  const own = await lockOwnPayment(connection, orderNo);
  if (own === 'unknown' || own === 'not-paid') return false;
  const { amount, refundTarget } = own.payment;
  if (refundTarget >= amount) return false;
  const before = requestedBefore(own, true);
  await writeRefund(connection, own, {
    items: null,
    // With all of the money, also what is disputed: it waits for the end of the dispute.
    amount: amount - before,
    target: amount,
    charges: false,
    restock: false,
    restoresLimit: false,
    ...decision,
    idempotencyKey: null,
    fingerprint: null,
  });
  return true;
}

/**
 * Minor units that go back by earlier requests and by provider staff; a request adds to them. One of all the
 * money includes what is only pending: that is not sent twice, and is sent by this request where it fails.
 */
function requestedBefore({ payment, succeeded, refunding }: OwnPayment, isOfAll: boolean): number {
  return Math.max(payment.refundTarget, isOfAll ? succeeded : refunding);
}

/** The units that it is about, or of which the order has fewer that were not refunded before. */
function unitsOf(
  wish: RefundWish,
  { items }: Order,
  earlier: readonly Refund[],
): { items: OrderUnits[] | null } | { sku: string; refundable: number } {
  if (wish.kind === 'money') return { items: null };
  const left = new Map(items.map(({ sku, quantity }) => [sku, quantity]));
  for (const refund of earlier) {
    // One that failed after all may have given its units back before.
    if (refund.status === 'failed' && !refund.isStockGiven && !refund.isLimitGiven) continue;
    for (const { sku, quantity } of refund.items ?? []) left.set(sku, (left.get(sku) ?? 0) - quantity);
  }
  if (wish.kind === 'all') {
    const rest = [...left].flatMap(([sku, quantity]) => (quantity > 0 ? [{ sku, quantity }] : []));
    return { items: rest.length > 0 ? rest : null };
  }
  for (const { sku, quantity } of wish.items) {
    const refundable = left.get(sku) ?? 0;
    if (quantity > refundable) return { sku, refundable };
  }
  return { items: wish.items };
}

function amountOf(
  wish: RefundWish,
  units: readonly OrderUnits[] | null,
  { items, charges = [] }: Order,
  left: number,
): number {
  if (wish.kind === 'all') return left;
  if (wish.amount !== undefined) return wish.amount;
  const prices = new Map(items.map(({ sku, unitPrice }) => [sku, unitPrice]));
  const price = (units ?? []).reduce((sum, { sku, quantity }) => sum + quantity * (prices.get(sku) ?? 0), 0);
  // A discount among the charges may be worth more than these units.
  const more =
    wish.kind === 'units' && wish.charges ? charges.reduce((sum, { amount }) => sum + amount, 0) : 0;
  return Math.max(0, price + more);
}

/** With money it becomes due, without it is settled at once. The refund's workflow gives back its units. */
async function writeRefund(
  connection: PoolConnection,
  { payment, stored, succeeded }: OwnPayment,
  refund: Omit<NewRefund, 'orderNo' | 'paymentId'>,
): Promise<Refund> {
  const { paymentId, providerPaymentId, currency, status } = payment;
  const { orderNo } = stored.order;
  const { amount, target, actor, reason, items, restock } = refund;
  await insertRefund(connection, { ...refund, orderNo, paymentId });
  if (amount > 0) await makePartDue(connection, paymentId, target);
  else await makeRefundSignalDue(connection, paymentId);
  await settleRefundRows(connection, paymentId, status === 'refunded' ? payment.amount : succeeded);
  if (target >= payment.amount) await unpark(connection, 'payment', providerPaymentId);
  else await resolveStockDecision(connection, providerPaymentId);
  const written = (await readRefundsOf(connection, orderNo)).at(-1);
  if (!written) throw new Error(`the refund of ${orderNo} was written in this transaction`);
  const detail = { orderNo, refundId: written.refundId, amount, currency, items, restock, before: status };
  const subject = refund.idempotencyKey === null ? `payment ${paymentId}` : orderNo;
  await recordAction(connection, { actor, reason, action: 'refund_requested', subject, detail });
  return written;
}

/** on-its-way: the money may be back already. */
export type WithdrawOutcome =
  | ({ kind: 'withdrawn' } & RequestedRefund)
  | { kind: 'unknown' | 'no-such-refund' | 'on-its-way' };

/**
 * Staff withdraw a refund whose money is not on its way, say because the provider refuses it. A repeat
 * returns the same. Where a request to
 * the provider is under way at this very moment, its money counts as sent back by provider staff.
 */
export function withdraw(
  pool: Pool,
  orderNo: string,
  refundId: number,
  decision: Decision,
): Promise<WithdrawOutcome> {
  return inTransaction(pool, async (connection): Promise<WithdrawOutcome> => {
    const own = await lockOwnPayment(connection, orderNo);
    if (own === 'unknown') return { kind: 'unknown' };
    const refund = own === 'not-paid' ? undefined : own.refunds.find((one) => one.refundId === refundId);
    if (own === 'not-paid' || !refund) return { kind: 'no-such-refund' };
    const { currency } = own.payment;
    if (refund.status === 'failed') return { kind: 'withdrawn', refund, currency };
    const { paymentId, refundTarget } = own.payment;
    // A request is one refund up to its target. What provider staff send counts towards it, and stays.
    if (refund.status === 'succeeded' || own.refunding >= refund.target) return { kind: 'on-its-way' };
    const target = Math.max(refundTarget - refund.amount, Math.min(own.refunding, refundTarget));
    await setRefundTarget(connection, paymentId, target);
    await modify(
      connection,
      `UPDATE refunds SET status = IF(refund_id = ?, 'failed', status), ended_at = IF(refund_id = ?, NOW(3), ended_at),
       target = target - IF(refund_id = ?, 0, ?) WHERE payment_id = ? AND refund_id >= ? AND kind = 'request' AND status <> 'failed'`,
      [refundId, refundId, refundId, refundTarget - target, paymentId, refundId],
    );
    const payment = { ...own.payment, refundTarget: target };
    await settleReversals(connection, { payment, stored: own.stored }, [], 'workflow');
    await makeRefundSignalDue(connection, paymentId);
    const detail = { refundId, amount: refund.amount, before: 'requested', after: 'withdrawn' };
    await recordAction(connection, { ...decision, action: 'refund_withdrawn', subject: orderNo, detail });
    const [after = refund] = (await readRefundsOf(connection, orderNo)).filter(
      (one) => one.refundId === refundId,
    );
    return { kind: 'withdrawn', refund: after, currency };
  });
}

const orderNoRow = z.object({ order_no: z.string() });

interface OwnPayment {
  payment: Payment;
  stored: StoredOrder;
  /** What staff requested of it, the oldest first. */
  refunds: Refund[];
  /** Minor units of refunds that succeeded, and with those that are pending. */
  succeeded: number;
  refunding: number;
  /** Minor units that may go back in all: what was paid, less what is disputed or was charged back. */
  refundable: number;
  isMixed: boolean;
}

/** unknown: the order is not stored. not-paid: no payment has paid for it. */
async function lockOwnPayment(
  connection: PoolConnection,
  orderNo: string,
): Promise<OwnPayment | 'unknown' | 'not-paid'> {
  const seen = (await selectPayments(connection, 'order_no = ?', [orderNo])).find(
    ({ wasApplied }) => wasApplied,
  );
  const locked = seen && (await lockPaymentAndOrder(connection, seen.paymentId));
  if (!locked?.stored) {
    const known = await selectRows(connection, orderNoRow, 'SELECT order_no FROM orders WHERE order_no = ?', [
      orderNo,
    ]);
    return known.length > 0 ? 'not-paid' : 'unknown';
  }
  const { payment, stored } = locked;
  const reversals = await lockReversals(connection, [payment.provider, payment.providerPaymentId]);
  const totals = sumReversals(payment.currency, reversals);
  const { succeeded, pending } = sumRefunds(payment.currency, reversals);
  const refunding = succeeded + pending;
  const chargedBack = totals.succeeded + totals.pending - refunding;
  return {
    payment,
    stored,
    refunds: await readRefundsOf(connection, orderNo),
    succeeded,
    refunding,
    refundable: payment.status === 'refunded' ? 0 : payment.amount - chargedBack,
    isMixed: totals.isMixed,
  };
}
