/** Makes accepted orders without a front, for what only stores them. */

import { randomUUID } from 'node:crypto';
import { monotonicFactory } from 'ulidx';
import type { Order } from '../../src/orders/content.ts';
import { formatOrderNo } from '../../src/orders/order.ts';

export const SKU = 'unit';
const UNIT_PRICE = 1_000;
const USERS = 1_000;
const WINDOW_MS = 24 * 60 * 60_000;

/** Of one unit each, as the API accepts them in a sale whose orders the benchmarks place. */
export function buildOrders(saleId: string, count: number): Order[] {
  const nextUlid = monotonicFactory();
  return Array.from({ length: count }, (_, i) => ({
    orderNo: formatOrderNo({ saleId, shard: 0, epoch: 1, ulid: nextUlid() }),
    saleId,
    userId: `bench-${i % USERS}`,
    items: [{ sku: SKU, quantity: 1, unitPrice: UNIT_PRICE }],
    total: UNIT_PRICE,
    currency: 'EUR',
    idempotencyKey: randomUUID(),
    reservedAtMs: Date.now(),
    paymentWindowMs: WINDOW_MS,
    ip: '127.0.0.1',
    userAgent: 'bench',
  }));
}
