/** What an event shows of its order: everything the shop needs to act on it, as of that version. */

import type { Order, OrderState } from '../domain/order.ts';
import { showOrder } from '../domain/visible-order.ts';

export type OrderSnapshot = ReturnType<typeof snapshotOrder>;

/**
 * The content never changes after the order was accepted; the state is that of the event's version. An
 * abandoned order has no items, as it was never stored. After the person was erased, `userId` is the token in
 * their place. The shopper's address and browser are left out.
 */
export function snapshotOrder(order: Order, state: OrderState) {
  return { userId: order.userId, ...showOrder(order, state) };
}
