/** The end of an order that MySQL refuses, for those that meet the refusal where no workflow does. */

import { isFinal, type FailureReason, type Order, type OrderState } from '../domain/order.ts';
import type { Orders } from '../stores/orders.ts';
import type { Reservations } from '../stores/reservations.ts';

export interface FollowDeps {
  reservations: Pick<Reservations, 'project' | 'release'>;
}

export interface GiveUpDeps extends FollowDeps {
  orders: Pick<Orders, 'abandon'>;
}

/** Redis follows what MySQL has committed: the state for pollers, and the stock of an order that has ended unpaid. Idempotent. */
export async function followInRedis(
  { reservations }: FollowDeps,
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
export async function giveUp(deps: GiveUpDeps, order: Order, reason: FailureReason): Promise<void> {
  const { state } = await deps.orders.abandon(order, reason);
  await followInRedis(deps, order.orderNo, state);
}
