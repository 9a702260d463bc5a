/** The types of events that a shop gets, and how a change of an order gets its type. */

import type { OrderState } from '../orders/order.ts';

/**
 * awaiting_payment, paid, cancelled, failed: the order got this status. closing: its end is under way and no
 * payment can be started any more. payment_changed: something else became of its money, in `payment` or
 * `refunded`. deadline_extended: staff have given the shopper more time to pay.
 */
export const ORDER_EVENT_TYPES = [
  'order.awaiting_payment',
  'order.paid',
  'order.cancelled',
  'order.failed',
  'order.closing',
  'order.payment_changed',
  'order.deadline_extended',
] as const;
export type OrderEventType = (typeof ORDER_EVENT_TYPES)[number];

/** Of an order, and no change of it. expiring: its deadline is near, and it is not paid. */
export const ORDER_NEWS_TYPES = ['order.expiring'] as const;
export type OrderNewsType = (typeof ORDER_NEWS_TYPES)[number];

/** Whose news it is, and the state that the order had. */
export interface OrderNews {
  orderNo: string;
  state: OrderState;
}

/**
 * sold_out: no unit of any SKU can be bought. called_off: the sale or a SKU of it, for good. call_off_ended:
 * all of its orders are cancelled or refunded, but for those that are listed. settled: the sale is closed and
 * no unit of it is held. gap: numbers are left out, because MySQL has lost commits or may have.
 */
const SHOP_EVENT_TYPES = [
  'sale.opened',
  'sale.changed',
  'sale.sold_out',
  'sale.called_off',
  'sale.call_off_ended',
  'sale.closed',
  'sale.settled',
  'parked.opened',
  'feed.gap',
] as const;
export type ShopEventType = (typeof SHOP_EVENT_TYPES)[number];

export const EVENT_TYPES = [...ORDER_EVENT_TYPES, ...ORDER_NEWS_TYPES, ...SHOP_EVENT_TYPES] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** A change of an order: its state from then on, and the one before; null: it was stored by this change. */
export interface OrderChange {
  before: OrderState | null;
  state: OrderState;
}

/** What of a state makes the type of a change to it. */
export type TypedState = Pick<OrderState, 'status' | 'payment' | 'reason' | 'extendedUntilMs'>;

/** A queued order is in Redis alone and has no change yet, so that no change leads to `queued`. */
export function typeOfChange({
  before,
  state,
}: {
  before: TypedState | null;
  state: TypedState;
}): OrderEventType {
  const { status, payment } = state;
  if (status !== before?.status && status !== 'queued') return `order.${status}`;
  if (before && state.extendedUntilMs !== before.extendedUntilMs) return 'order.deadline_extended';
  const isClosing = state.reason !== before?.reason && payment === before?.payment;
  return isClosing ? 'order.closing' : 'order.payment_changed';
}

/** waiting: to be delivered. delivered: answered 2xx. parked: its last try failed. */
export const DELIVERY_STATUSES = ['waiting', 'delivered', 'parked'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];
