/** The metadata of a session and its payment at Stripe, by which a payment finds its order or restores it. */

import assert from 'node:assert/strict';
import type { SessionRequest } from '../provider.ts';
import { MAX_SIGNED_ORDER_CHARS } from '../signed-order.ts';

const ORDER_NO_KEY = 'holdfast_order_no';
const DEPLOYMENT_KEY = 'holdfast_deployment';
const REFERENCE_KEY = 'holdfast_reference';
const SIGNED_KEY = 'holdfast_signed_';
/**
 * Characters of one value at Stripe. An object has up to 50 values: a shop's metadata have ten at most, and
 * the longest signed order 33.
 */
const MAX_VALUE_CHARS = 500;

export interface OrderMetadata {
  orderNo: string;
  /** Null when the metadata has no part of it. */
  signedOrder: string | null;
}

/** The shop's own metadata stand beside Holdfast's, whose keys no shop may use (`metadataSchema`). */
export function writeMetadata(
  order: Pick<SessionRequest, 'orderNo' | 'signedOrder' | 'reference' | 'metadata'> & { deployment: string },
): Record<string, string> {
  const { orderNo, signedOrder, deployment, reference } = order;
  assert(signedOrder.length <= MAX_SIGNED_ORDER_CHARS, 'a signed order has a bound');
  const metadata: Record<string, string> = {
    ...order.metadata,
    [ORDER_NO_KEY]: orderNo,
    [DEPLOYMENT_KEY]: deployment,
    ...(reference !== null && { [REFERENCE_KEY]: reference }),
  };
  for (let start = 0; start < signedOrder.length; start += MAX_VALUE_CHARS) {
    metadata[`${SIGNED_KEY}${start / MAX_VALUE_CHARS}`] = signedOrder.slice(start, start + MAX_VALUE_CHARS);
  }
  return metadata;
}

/**
 * Undefined where the object is for no order of ours, because a Stripe account may serve other business too.
 * A signed order of which a part was removed comes back shorter, and is then not authentic.
 */
export function readMetadata(metadata: Readonly<Record<string, string>>): OrderMetadata | undefined {
  const orderNo = metadata[ORDER_NO_KEY];
  if (orderNo === undefined || orderNo === '') return undefined;
  let signedOrder = '';
  for (let part = 0; signedOrder.length < MAX_SIGNED_ORDER_CHARS; part++) {
    const value = metadata[`${SIGNED_KEY}${part}`];
    if (value === undefined) break;
    signedOrder += value;
  }
  return { orderNo, signedOrder: signedOrder === '' ? null : signedOrder };
}

/** Of the metadata of a session, a payment or a refund; null when it names none. */
export function readDeployment(metadata: Readonly<Record<string, string>>): string | null {
  return metadata[DEPLOYMENT_KEY] ?? null;
}

/** The metadata of a refund, by which its notice is known for this deployment's. */
export function writeRefundMetadata(refundKey: string, deployment: string): Record<string, string> {
  return { holdfast_refund_key: refundKey, [DEPLOYMENT_KEY]: deployment };
}
