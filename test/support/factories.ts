/** Test data: valid by default, each field to be overridden. */

import { ulid } from 'ulidx';
import type { RefundToStart } from '../../src/engine/order-engine.ts';
import type { Order } from '../../src/orders/content.ts';
import { formatOrderNo } from '../../src/orders/order.ts';
import type { ReserveRequest } from '../../src/orders/reserve.redis.ts';
import type { Sale } from '../../src/sales/sale.ts';

const HOUR_MS = 60 * 60 * 1000;

/** A sale id that no other test uses. */
export function uniqueSaleId(): string {
  return `s${ulid().toLowerCase()}`;
}

/** An open sale of 10 lamps at 49.00, two to a user, and 5 mugs at 14.50 without a limit. */
export function buildSale(overrides: Partial<Sale> = {}): Sale {
  return {
    saleId: uniqueSaleId(),
    name: 'Test sale',
    currency: 'EUR',
    opensAtMs: Date.now() - HOUR_MS,
    closesAtMs: Date.now() + HOUR_MS,
    paused: false,
    paymentWindowMs: 30 * 60 * 1000,
    refundRestoresLimit: true,
    limitPerUser: null,
    maxUnpaidHolds: null,
    addressPurchasesPerMinute: null,
    ticketRequired: false,
    skus: [
      { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 10, limitPerUser: 2 },
      { sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 5, limitPerUser: null },
    ],
    ...overrides,
  };
}

/** One lamp, accepted a moment ago. */
export function buildOrder(overrides: Partial<Order> = {}): Order {
  const saleId = overrides.saleId ?? uniqueSaleId();
  const items = overrides.items ?? [{ sku: 'lamp', quantity: 1, unitPrice: 4_900 }];
  return {
    orderNo: formatOrderNo({ saleId, shard: 0, epoch: 1, ulid: ulid() }),
    saleId,
    userId: 'ada',
    items,
    total: items.reduce((sum, item) => sum + item.quantity * item.unitPrice, 0),
    currency: 'EUR',
    idempotencyKey: ulid(),
    reservedAtMs: Date.now(),
    paymentWindowMs: 30 * 60 * 1000,
    ip: '192.0.2.1',
    userAgent: 'test',
    ...overrides,
  };
}

/** A request for one lamp, never made before. */
export function buildReserveRequest(overrides: Partial<ReserveRequest> = {}): ReserveRequest {
  return {
    saleId: uniqueSaleId(),
    userId: 'ada',
    idempotencyKey: ulid(),
    fingerprint: 'f',
    items: [{ sku: 'lamp', quantity: 1 }],
    ip: '192.0.2.1',
    userAgent: 'test',
    ...overrides,
  };
}

/** The money for one lamp, which came after its order had ended. */
export function buildRefund(overrides: Partial<RefundToStart> = {}): RefundToStart {
  return {
    paymentId: 1,
    provider: 'sandbox',
    providerPaymentId: `pay-${overrides.paymentId ?? 1}`,
    orderNo: buildOrder().orderNo,
    amount: 4_900,
    currency: 'EUR',
    reason: 'order_ended',
    ...overrides,
  };
}
