/** A digest of a shopper's request, by which the reuse of its idempotency key for another is noticed. */

import { hash } from 'node:crypto';
import type { Order } from './order.ts';

interface Request extends Pick<Order, 'saleId' | 'reference' | 'metadata'> {
  items: readonly { sku: string; quantity: number }[];
}

/**
 * The order of the cart's lines makes no difference, nor does that of the metadata. A ticket is no part of
 * it: a repeat may come with a new one, as the first has expired or is spent.
 */
export function fingerprintOf({ saleId, items, reference, metadata }: Request): string {
  const lines = items.map(({ sku, quantity }) => `${sku}=${quantity}`).toSorted();
  const pairs = Object.entries(metadata ?? {}).toSorted(([one], [other]) => (one < other ? -1 : 1));
  const isOfShop = reference !== undefined || pairs.length > 0;
  const shop = isOfShop ? [{ reference: reference ?? null, metadata: pairs }] : [];
  return hash('sha256', JSON.stringify([saleId, ...lines, ...shop]), 'base64url');
}
