/** Payments and refunds as the provider reports them, given straight to the stores. */

import { ulid } from 'ulidx';
import type { PaymentNotice, ProviderPayment, Reversal } from '../../src/money/payment.ts';
import type { Order } from '../../src/orders/content.ts';
import type { TestStores } from './stores.ts';

type Succeeded = Extract<PaymentNotice, { kind: 'payment_succeeded' }>;

/** The right amount for the order, under a payment id of its own. */
export function buildPayment(order: Order, overrides: Partial<ProviderPayment> = {}): ProviderPayment {
  const { orderNo, total: amount, currency } = order;
  return { providerPaymentId: `pay_${ulid()}`, orderNo, amount, currency, signedOrder: null, ...overrides };
}

export function buildNotice(payment: ProviderPayment): Succeeded {
  return { kind: 'payment_succeeded', eventId: `evt_${ulid()}`, payment };
}

/** Receives a new payment for the order. */
export function pay(stores: TestStores, order: Order, overrides: Partial<ProviderPayment> = {}) {
  const notice = buildNotice(buildPayment(order, overrides));
  return stores.payments.receive('sandbox', notice, JSON.stringify(notice));
}

/** A refund of all of the payment that has succeeded, under an id of its own. */
export function buildReversal(payment: ProviderPayment, overrides: Partial<Reversal> = {}): Reversal {
  const { providerPaymentId, amount, currency } = payment;
  const id = { providerReversalId: `re_${ulid()}`, providerPaymentId };
  return { kind: 'refund', ...id, amount, currency, status: 'succeeded', ...overrides };
}

/** The provider reports the reversal. */
export function reverse(stores: TestStores, reversal: Reversal, provider = 'sandbox') {
  const notice = { kind: 'payment_reversed', eventId: `evt_${ulid()}`, reversal } as const;
  return stores.payments.receive(provider, notice, JSON.stringify(notice));
}

/** Stands for a signed order: tests of the stores check only that it is kept. */
export const sign = ({ orderNo }: Order) => Promise.resolve(`signed ${orderNo}`);
