/** Abandons an order that MySQL refuses to store and that has no workflow to do so. */

import type { Order } from '../domain/content.ts';
import { isFinal, type FailureReason, type OrderState } from '../domain/order.ts';
import { settleStock } from '../rebuild/settle-stock.ts';
import type { Stores } from '../stores/open.ts';

/**
 * Projects the committed state, and releases the stock of an order that ended unpaid. Idempotent.
 * @throws when Redis is away, or while the sale's data are being made again: to be repeated
 */
export async function projectAndRelease(deps: Stores, orderNo: string, state: OrderState): Promise<void> {
  await deps.reservations.project(orderNo, state);
  if (!isFinal(state.status) || state.status === 'paid') return;
  if ((await settleStock(deps, orderNo, state)) === 'later')
    throw new Error(`order ${orderNo} has ended, and the data of its sale are being made again`);
}

/**
 * Does what the order's workflow would do. First a tombstone makes the order's payments due for refund and
 * keeps any slow write from storing the order, and only then its stock is released. An order that was stored
 * in the meantime goes on and keeps its stock.
 * @throws when a store is away, or when MySQL refuses the tombstone too: the whole is to be repeated
 */
export async function abandonOrder(deps: Stores, order: Order, reason: FailureReason): Promise<void> {
  const { state } = await deps.orders.abandon(order, reason);
  await projectAndRelease(deps, order.orderNo, state);
}
