/** The end of an order that MySQL refuses, for those that meet the refusal where no workflow does. */

import { isFinal, type FailureReason, type Order, type OrderState } from '../domain/order.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { Reservations } from '../stores/redis/reservations.ts';

export interface ProjectDeps {
  reservations: Pick<Reservations, 'project' | 'release'>;
}

export interface AbandonDeps extends ProjectDeps {
  orders: Pick<Orders, 'abandon'>;
}

/** Redis follows what MySQL has committed: the state for pollers, and the stock of an order that has ended unpaid. Idempotent. */
export async function projectAndRelease(
  { reservations }: ProjectDeps,
  orderNo: string,
  state: OrderState,
): Promise<void> {
  await reservations.project(orderNo, state);
  if (isFinal(state.status) && state.status !== 'paid') await reservations.release(orderNo);
}

/**
 * Does what the order's workflow would do: the tombstone first, which sends the order's money back and keeps any slow write
 * out, and only then the stock. Should the order have been stored at that moment, it lives, and keeps its stock.
 * @throws when a store is away, or MySQL takes not even the tombstone: again, from the start
 */
export async function abandonOrder(deps: AbandonDeps, order: Order, reason: FailureReason): Promise<void> {
  const { state } = await deps.orders.abandon(order, reason);
  await projectAndRelease(deps, order.orderNo, state);
}
