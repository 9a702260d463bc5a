/** Reads the orders that a page of the outbox names. */

import { parseOrderNo, withShown } from '../domain/order.ts';
import type { Stores } from '../stores/open.ts';
import type { Outbox, OutboxEntry } from '../stores/redis/outbox.ts';
import type { ReservedOrder } from '../stores/redis/reservations.ts';

export interface ReadDeps extends Stores {
  outbox: Pick<Outbox, 'acknowledge' | 'referenceOf'>;
}

/** An outbox entry with its order as Redis has it. */
export interface Accepted extends ReservedOrder {
  entryId: string;
}

export const orderNoOf = ({ order }: Accepted): string => order.orderNo;

/**
 * Parks entries whose order cannot be read, and acknowledges them, so that they do not delay the others. An
 * order that Redis lost with all of its sale is not parked: no operator could bring it back.
 */
export async function readAccepted(
  { outbox, reservations, orders, saleStock, log }: ReadDeps,
  entries: readonly OutboxEntry[],
): Promise<Accepted[]> {
  if (entries.length === 0) return [];
  const found = await reservations.readOrders(entries.map(({ orderNo }) => orderNo));
  const accepted: Accepted[] = [];
  for (const [i, { entryId, orderNo }] of entries.entries()) {
    const reserved = found[i];
    if (reserved) {
      const { order, state } = reserved;
      accepted.push({ entryId, order: withShown(order, state), state });
      continue;
    }
    log.error({ orderNo, entryId }, 'an outbox entry names an order that Redis does not have');
    if (!(await isLostWithSale(saleStock, orderNo))) {
      await orders.parkOutboxEntry({
        reference: outbox.referenceOf(entryId),
        orderNo,
        cause: 'outbox_entry_unreadable',
        reason: `no order ${orderNo} in Redis`,
      });
    }
    await outbox.acknowledge([entryId]);
  }
  return accepted;
}

async function isLostWithSale(saleStock: ReadDeps['saleStock'], orderNo: string): Promise<boolean> {
  const parts = parseOrderNo(orderNo);
  if (!parts) return false;
  const life = await saleStock.checkLife(parts.saleId);
  return life.kind !== 'well' || life.epoch > parts.epoch;
}
