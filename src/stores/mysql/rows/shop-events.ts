/** Events that are not a change of an order: of sales, and of parked work. */

import type { ShopEventType } from '../../../domain/event.ts';
import { modify, type Executor } from '../connection.ts';

interface ShopEvent {
  type: ShopEventType;
  /** Null: it concerns no sale, or none that is known. */
  saleId: string | null;
  /** The id of what it is about: the sale's, or the parked entry's. */
  subject: string;
  /** A snapshot of its subject, as consumers get it: nothing of a person but the numbers of their orders. */
  data: Record<string, unknown>;
}

/**
 * Records an event in the transaction of the change itself, so that neither exists without the other. It is
 * delivered some time after the commit.
 */
export async function recordShopEvent(executor: Executor, event: ShopEvent): Promise<void> {
  await modify(executor, 'INSERT INTO shop_events (type, sale_id, subject, data) VALUES (?, ?, ?, ?)', [
    event.type,
    event.saleId,
    event.subject,
    JSON.stringify(event.data),
  ]);
}
