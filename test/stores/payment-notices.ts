/** Money that comes for an order, as the provider would tell of it. */

import { ulid } from 'ulidx';
import type { Order } from '../../src/domain/order.ts';
import type { PaymentNotice, ProviderPayment } from '../../src/domain/payment.ts';
import type { TestStores } from '../support/stores.ts';

type Succeeded = Extract<PaymentNotice, { kind: 'payment_succeeded' }>;

/** The right amount for the order, under a payment id of its own. */
export function buildPayment(order: Order, overrides: Partial<ProviderPayment> = {}): ProviderPayment {
  const { orderNo, total: amount, currency } = order;
  return { providerPaymentId: `pay_${ulid()}`, orderNo, amount, currency, ...overrides };
}

export function buildNotice(payment: ProviderPayment): Succeeded {
  return { kind: 'payment_succeeded', eventId: `evt_${ulid()}`, payment };
}

/** Receives a new payment for the order. */
export function pay(stores: TestStores, order: Order, overrides: Partial<ProviderPayment> = {}) {
  const notice = buildNotice(buildPayment(order, overrides));
  return stores.payments.receive('sandbox', notice, JSON.stringify(notice));
}
