/**
 * Gives an accepted order its hold before it is stored, or abandons it. Units are taken in Redis before
 * MySQL, and given back in MySQL before Redis.
 */

import type { Stores } from '../stores/open.ts';
import { withShown, type Order } from './content.ts';
import { follow, WISH } from './follow.ts';
import { type FailureReason, isFinal, type OrderState } from './order.ts';
import type { ReservedOrder } from './reservations.redis.ts';
import type { StoreOutcome, WorkflowPresence } from './store.sql.ts';

/**
 * An order that was accepted and not yet stored when the sale's data were made again under a new epoch. It
 * keeps its prices, and is refused as `lost_hold` where its units are sold by now, or where its shopper may
 * have been answered that it is lost.
 * @param knownForMs for how long Temporal has known the order
 * @throws when a store is away, or while the sale's data are being made again: to be repeated
 */
export async function storeWithHold(
  { orders, reservations }: Stores,
  order: Order,
  presence: WorkflowPresence,
  knownForMs = 0,
): Promise<StoreOutcome> {
  const outcome = await orders.storeOrder(order, presence);
  if (outcome.kind !== 'refused' || outcome.reason !== 'lost_hold') return outcome;
  const again = await reservations.reserveAgain(order, { knownForMs });
  switch (again.kind) {
    case 'reserved':
      return orders.storeOrder({ ...order, holdEpoch: again.epoch }, presence);
    case 'known':
      // Held by an earlier try, or by another process. With a hold that has ended it would have no stock.
      if (again.hold !== 'held') return outcome;
      return orders.storeOrder({ ...order, holdEpoch: again.epoch }, presence);
    case 'sold-out':
    case 'unknown-sku':
    case 'too-late':
      return outcome;
    case 'sale-absent':
      throw new Error(`the data of sale ${order.saleId} are being made again`);
    default:
      return again satisfies never;
  }
}

/**
 * Notes that its caller wants an order cancelled that was not stored in time: beside its hold in Redis, for
 * whoever stores it, or in MySQL, where Redis does not have it or does not answer, and where it is free: a
 * free order is paid as it is stored, and MySQL alone knows which of the two came first.
 * @param order as Redis had it, where it was read
 * @returns wished: durable. stored, ended: it is to be looked at. unknown: no store took the wish
 * @throws when neither store answers
 */
export async function wishCancel(
  { reservations, orders, log }: Stores,
  orderNo: string,
  order?: Order,
): Promise<'wished' | 'stored' | 'ended' | 'unknown'> {
  const noted = await reservations.wishCancel(orderNo, WISH).catch((error: unknown) => {
    log.warn({ err: error, orderNo }, 'no answer from Redis to a wish to cancel; asking MySQL');
  });
  if (noted && noted !== 'absent') return noted;
  if (order) await orders.storeOrder({ ...order, wish: WISH }, 'due');
  if (!(await orders.read(orderNo))) return 'unknown';
  const { state } = await orders.requestCancel(orderNo, WISH);
  return state.reason !== null && !isFinal(state.status) ? 'wished' : 'stored';
}

/**
 * Before a decision about an order that waits to be stored is recorded in MySQL: afterwards MySQL has the
 * order, or its tombstone, so that it never goes on without the decision. Not for one that was shown as paid.
 * @throws when a store is away: to be repeated
 */
export async function storeOrAbandon(stores: Stores, { order, state }: ReservedOrder): Promise<void> {
  const outcome = await storeWithHold(stores, withShown(order, state), 'due');
  if (outcome.kind === 'refused') await abandonOrder(stores, order, outcome.reason);
}

/**
 * Does what the order's workflow would do. First a tombstone makes the order's payments due for refund and
 * keeps any slow write from storing the order, and only then its stock is released. An order that was stored
 * in the meantime goes on and keeps its stock.
 * @returns the order's state from then on
 * @throws when a store is away, or when MySQL refuses the tombstone too: the whole is to be repeated
 */
export async function abandonOrder(deps: Stores, order: Order, reason: FailureReason): Promise<OrderState> {
  const { orderNo } = order;
  const { state } = await deps.orders.abandon(order, reason);
  return (await follow(deps, [{ orderNo, state }])).get(orderNo)?.state ?? state;
}
