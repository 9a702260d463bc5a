/** Notices of refunds and chargebacks, through a provider that reads each notice as the test wants it. */

import { ulid } from 'ulidx';
import { beforeAll, expect, test } from 'vitest';
import type { PaymentNotice, Reversal } from '../../../src/money/payment.ts';
import type { Order } from '../../../src/orders/content.ts';
import type { PaymentProvider } from '../../../src/providers/provider.ts';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { send } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

/** Sends a notice that the app's provider reads as this one. @returns the status and the signalled orders */
async function notify(notice: PaymentNotice) {
  const signalled: string[] = [];
  const provider: PaymentProvider = { ...api.provider, verifyNotice: () => notice };
  const notifier = {
    paid: ({ order }: { order: Order }) => void signalled.push(order.orderNo),
    cancelRequested: () => {},
    calledOff: () => {},
    retried: () => {},
    drain: () => Promise.resolve(),
  };
  const app = await api.withParts({ provider, notifier });
  try {
    const body = JSON.stringify(notice);
    const { status } = await send(`${app.url}/v1/webhooks/payments`, 'POST', { body });
    return { status, signalled };
  } finally {
    await app.close();
  }
}

async function storedOrder() {
  const { saleId } = await api.stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await api.stores.orders.storeOrder(order, 'started');
  return order;
}

const succeeded = (payment: Extract<PaymentNotice, { kind: 'payment_succeeded' }>['payment']) =>
  ({ kind: 'payment_succeeded', eventId: ulid(), payment }) as const;

function reversed(providerPaymentId: string, overrides: Partial<Reversal> = {}) {
  const money = { providerPaymentId, amount: 4_900, currency: 'EUR', status: 'succeeded' } as const;
  const reversal = { kind: 'refund', providerReversalId: ulid(), ...money, ...overrides } as const;
  return { kind: 'payment_reversed', eventId: ulid(), reversal } as const;
}

test('money that went back is committed before the notice is acknowledged, and no order is signalled', async () => {
  const { orderNo, total: amount, currency } = await storedOrder();
  const payment = { providerPaymentId: ulid(), orderNo, amount, currency, signedOrder: null };
  expect(await notify(succeeded(payment))).toEqual({ status: 204, signalled: [orderNo] });
  const refused = reversed(payment.providerPaymentId, { status: 'failed' });
  expect(await notify(refused)).toEqual({ status: 204, signalled: [] });

  expect(await notify(reversed(payment.providerPaymentId))).toEqual({ status: 204, signalled: [] });

  expect((await api.stores.orders.read(orderNo))?.state).toMatchObject({
    status: 'paid',
    payment: 'refunded',
  });
  expect(await api.stores.refundClaims.take(1)).toMatchObject([{ orderNo }]);
  expect(await api.countRows('payment_events', orderNo)).toBe(3);
});

test('news of a payment that is not known yet is acknowledged and kept', async () => {
  const { orderNo, total: amount, currency } = await storedOrder();
  const payment = { providerPaymentId: ulid(), orderNo, amount, currency, signedOrder: null };
  expect(await notify(reversed(payment.providerPaymentId))).toEqual({ status: 204, signalled: [] });
  expect(await notify(succeeded(payment))).toEqual({ status: 204, signalled: [] });
  expect((await api.stores.orders.read(orderNo))?.state).toMatchObject({ payment: 'none', version: 1 });
});

test('a payment that is noticed again, under another event too, is signalled once', async () => {
  const { orderNo, total: amount, currency } = await storedOrder();
  const payment = { providerPaymentId: `pay-${orderNo}`, orderNo, amount, currency, signedOrder: null };
  const notice = succeeded(payment);

  expect(await notify(notice)).toEqual({ status: 204, signalled: [orderNo] });

  expect(await notify(notice)).toEqual({ status: 204, signalled: [] });
  expect(await notify(succeeded(payment))).toEqual({ status: 204, signalled: [] });
});
