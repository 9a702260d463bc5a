/** What a shopper asked for, as a digest: an idempotency key must not be reused for something else. */

import { createHash } from 'node:crypto';
import type { Order } from './order.ts';

interface Cart extends Pick<Order, 'saleId'> {
  items: readonly { sku: string; quantity: number }[];
}

/** The same cart in another order is the same request. */
export function fingerprintOf({ saleId, items }: Cart): string {
  const lines = items.map(({ sku, quantity }) => `${sku}=${quantity}`).toSorted();
  return createHash('sha256')
    .update(JSON.stringify([saleId, ...lines]))
    .digest('base64url');
}
