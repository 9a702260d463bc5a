/** What a session and its payment carry at Stripe, so that money finds its order, or restores it. */

import assert from 'node:assert/strict';

import { MAX_SEALED_ORDER_CHARS } from '../sealed-order.ts';

const ORDER_NO_KEY = 'holdfast_order_no';
const SEALED_KEY = 'holdfast_sealed_';
/** Characters that Stripe keeps in one value of metadata; an object has 50 of them, and a full seal needs nine. */
const MAX_VALUE_CHARS = 500;

export interface OrderMetadata {
  orderNo: string;
  /** Null when no part of it is there. */
  sealedOrder: string | null;
}

export function writeMetadata(order: { orderNo: string; sealedOrder: string }): Record<string, string> {
  const { orderNo, sealedOrder } = order;
  assert(sealedOrder.length <= MAX_SEALED_ORDER_CHARS, 'a sealed order has a bound');
  const metadata: Record<string, string> = { [ORDER_NO_KEY]: orderNo };
  for (let start = 0; start < sealedOrder.length; start += MAX_VALUE_CHARS) {
    metadata[`${SEALED_KEY}${start / MAX_VALUE_CHARS}`] = sealedOrder.slice(start, start + MAX_VALUE_CHARS);
  }
  return metadata;
}

/**
 * Undefined where there is no order of ours: a Stripe account may serve other business too. A seal of which somebody removed a part
 * comes back shorter, and is then no authentic one.
 */
export function readMetadata(metadata: Readonly<Record<string, string>>): OrderMetadata | undefined {
  const orderNo = metadata[ORDER_NO_KEY];
  if (orderNo === undefined || orderNo === '') return undefined;
  let sealedOrder = '';
  for (let part = 0; sealedOrder.length < MAX_SEALED_ORDER_CHARS; part++) {
    const value = metadata[`${SEALED_KEY}${part}`];
    if (value === undefined) break;
    sealedOrder += value;
  }
  return { orderNo, sealedOrder: sealedOrder === '' ? null : sealedOrder };
}
