/** A digest of a shopper's request, by which the reuse of an idempotency key for another cart is noticed. */

import { hash } from 'node:crypto';
import type { Order } from './order.ts';

interface Cart extends Pick<Order, 'saleId'> {
  items: readonly { sku: string; quantity: number }[];
}

/** The order of the cart's lines makes no difference. */
export function fingerprintOf({ saleId, items }: Cart): string {
  const lines = items.map(({ sku, quantity }) => `${sku}=${quantity}`).toSorted();
  return hash('sha256', JSON.stringify([saleId, ...lines]), 'base64url');
}
