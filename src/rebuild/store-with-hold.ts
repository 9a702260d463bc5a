/** Stores an order; one whose hold is of an older epoch than its sale is reserved again before. */

import type { Order } from '../domain/content.ts';
import type { StoreOutcome, WorkflowPresence } from '../stores/mysql/orders/orders.ts';
import type { Stores } from '../stores/open.ts';

/**
 * An order that was accepted and not yet stored when the sale's data were made again under a new epoch. It
 * keeps its prices, and is refused as `lost_hold` where its units are sold by now, or where its shopper may
 * have been told that it is lost.
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
