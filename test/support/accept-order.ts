/** Accepts an order as the API does: it is reserved in Redis, and not stored in MySQL. */

import type { Order } from '../../src/orders/content.ts';
import { buildReserveRequest } from './factories.ts';
import type { TestStores } from './stores.ts';

export async function acceptOrder(
  stores: TestStores,
  saleId: string,
  request: Partial<Parameters<TestStores['reservations']['reserve']>[0]> = {},
): Promise<Order> {
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId, ...request }));
  if (outcome.kind !== 'reserved') throw new Error(`not accepted: ${outcome.kind}`);
  const reserved = await stores.reservations.readOrder(outcome.orderNo);
  if (!reserved) throw new Error('accepted, and not there');
  return reserved.order;
}
