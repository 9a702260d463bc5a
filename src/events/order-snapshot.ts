/** What an event shows of its order: everything the shop needs to act on it, as of that version. */

import { orderDeadlineMs, type Order, type OrderState } from '../domain/order.ts';

export type OrderSnapshot = ReturnType<typeof snapshotOrder>;

/**
 * The content never changes after the order was accepted; the state is that of the event's version. An
 * abandoned order has no items, as it was never stored. After the person was erased, `userId` is the token in
 * their place. Where and with what they bought is nobody else's business.
 */
export function snapshotOrder(order: Order, state: OrderState) {
  return {
    orderNo: order.orderNo,
    saleId: order.saleId,
    userId: order.userId,
    status: state.status,
    version: state.version,
    payment: state.payment,
    refunded: state.refunded ?? 0,
    reason: state.reason,
    items: order.items,
    charges: order.charges ?? [],
    total: order.total,
    currency: order.currency,
    reference: order.reference ?? null,
    metadata: order.metadata ?? {},
    reservedAt: new Date(order.reservedAtMs).toISOString(),
    deadline: new Date(orderDeadlineMs(order)).toISOString(),
  };
}
