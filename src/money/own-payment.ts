/**
 * An order's own payment, and what a request to refund it comes to. Pure, as `orders/change.ts` is for
 * orders: a dry run says what the request will do.
 */

import type { Order } from '../orders/content.ts';
import { isFree, type OrderUnits } from '../orders/order.ts';
import type { StoredOrder } from '../orders/rows.sql.ts';
import {
  MAX_REFUNDS_PER_ORDER,
  sumRefunds,
  sumReversals,
  type RefundWish,
  type Reversal,
} from './payment.ts';
import { unitsLeft, type NewRefund, type Payment, type Refund } from './rows.sql.ts';

/** An order's own payment, with what was requested of it and what went back. */
export interface OwnPayment {
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

/** @param reversals of the payment */
export function toOwnPayment(
  payment: Payment,
  stored: StoredOrder,
  refunds: Refund[],
  reversals: readonly Pick<Reversal, 'kind' | 'amount' | 'currency' | 'status'>[],
): OwnPayment {
  const totals = sumReversals(payment.currency, reversals);
  const { succeeded, pending } = sumRefunds(payment.currency, reversals);
  const refunding = succeeded + pending;
  const chargedBack = totals.succeeded + totals.pending - refunding;
  return {
    payment,
    stored,
    refunds,
    succeeded,
    refunding,
    refundable: payment.status === 'refunded' ? 0 : payment.amount - chargedBack,
    isMixed: totals.isMixed,
  };
}

/**
 * exceeds: so much is left to be refunded, in minor units. no-units: of this SKU the order has fewer units
 * left that were not refunded before.
 */
export type NoRefund =
  | { kind: 'not-refundable' | 'too-many' | 'charges-refunded' }
  | { kind: 'exceeds'; refundable: number; currency: string }
  | { kind: 'no-units'; sku: string; refundable: number };

/** What staff ask for, or what decides it by the order; undefined: nothing is left to ask for. */
export type Asked = RefundWish | ((own: OwnPayment) => RefundWish | 'not-refundable' | undefined);

/** A refund that may be requested. */
type DecidedRefund = { kind: 'refund'; restoresLimit: boolean | undefined } & Pick<
  NewRefund,
  'items' | 'amount' | 'target' | 'charges' | 'restock'
>;

/** What a request comes to. */
export function decideRefund(own: OwnPayment, asked: Asked): DecidedRefund | NoRefund {
  if (own.refunds.length >= MAX_REFUNDS_PER_ORDER) return { kind: 'too-many' };
  if (own.isMixed) return { kind: 'not-refundable' };
  const { payment, stored } = own;
  const { currency } = payment;
  const wish = typeof asked === 'function' ? asked(own) : asked;
  if (wish === 'not-refundable') return { kind: wish };
  if (!wish) return { kind: 'exceeds', refundable: 0, currency };
  const before = requestedBefore(own, wish.kind === 'all');
  const left = Math.max(0, own.refundable - before);
  const hasCharges = wish.kind === 'units' && wish.charges;
  if (hasCharges && own.refunds.some(({ charges, status }) => charges && status !== 'failed'))
    return { kind: 'charges-refunded' };
  const units = unitsOf(wish, stored.order, own.refunds);
  if ('sku' in units) return { kind: 'no-units', ...units };
  const amount = amountOf(wish, units.items, stored.order, left);
  // Of a free order all goes back, once, although that is no money.
  const isOver = payment.amount > 0 || payment.status === 'refunded';
  const isNothing = amount === 0 && wish.kind === 'all' && isOver;
  if (amount > left || isNothing) return { kind: 'exceeds', refundable: left, currency };
  return {
    kind: 'refund',
    ...units,
    amount,
    target: amount === 0 ? payment.refundTarget : before + amount,
    charges: wish.kind === 'all' || hasCharges,
    restock: wish.restock,
    restoresLimit: wish.restoresLimit,
  };
}

/**
 * Minor units that go back by earlier requests and by provider staff; a request adds to them. One of all the
 * money includes what is only pending: that is not sent twice, and is sent by this request where it fails.
 */
export function requestedBefore({ payment, succeeded, refunding }: OwnPayment, isOfAll: boolean): number {
  return Math.max(payment.refundTarget, isOfAll ? succeeded : refunding);
}

/** The units that it is about, or of which the order has fewer that were not refunded before. */
export function unitsOf(
  wish: RefundWish,
  order: Order,
  earlier: readonly Refund[],
): { items: OrderUnits[] | null } | { sku: string; refundable: number } {
  if (wish.kind === 'money') return { items: null };
  const rest = unitsLeft(order, earlier);
  if (wish.kind === 'all') return { items: rest.length > 0 ? rest : null };
  for (const { sku, quantity } of wish.items) {
    const refundable = rest.find((line) => line.sku === sku)?.quantity ?? 0;
    if (quantity > refundable) return { sku, refundable };
  }
  return { items: wish.items };
}

function amountOf(wish: RefundWish, units: readonly OrderUnits[] | null, order: Order, left: number): number {
  if (wish.kind === 'all') return left;
  if (wish.amount !== undefined) return wish.amount;
  if (isFree(order)) return 0;
  const { items, charges = [] } = order;
  const prices = new Map(items.map(({ sku, unitPrice }) => [sku, unitPrice]));
  const price = (units ?? []).reduce((sum, { sku, quantity }) => sum + quantity * (prices.get(sku) ?? 0), 0);
  // A discount among the charges may be worth more than these units.
  const more =
    wish.kind === 'units' && wish.charges ? charges.reduce((sum, { amount }) => sum + amount, 0) : 0;
  return Math.max(0, price + more);
}
