/** Charges of a ticket through the whole service: in what is paid, audited and refunded. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { acceptedOf } from '../support/shopper.ts';
import { signTicket } from '../support/tickets.ts';

let shop: Checkout;
beforeAll(async () => {
  shop = await openCheckout();
});
afterAll(() => expectCleanAudit(shop));

test('an order with shipping and a discount is paid and refunded in its total, and its ticket stays spent', async () => {
  const { saleId } = await shop.stores.openSale(buildSale({ ticketRequired: true }));
  const shopper = await shop.shopper();
  const charges = [
    { code: 'shipping', name: 'Shipping', amount: 495 },
    { code: 'welcome', name: 'Welcome', amount: -1_000 },
  ];
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId, charges });
  const items = [{ sku: 'lamp', quantity: 1 }];
  const order = { saleId, items, ticket, expectedTotal: 4_395, reference: 'R-42' };
  const { orderNo } = acceptedOf(await shopper.placeOrder(order));
  const bought = { shopper, orderNo };

  expect(await shop.pay(bought)).toMatchObject({ total: 4_395, charges, reference: 'R-42' });
  expect(await shop.moneyOf(bought)).toEqual([[4_395, 0]]);
  await expectCleanAudit(shop);

  const refund = await shop.asStaff('POST', `payments/${await shop.paymentIdOf(bought)}/refund`);
  expect(refund.status).toBe(202);
  expect(await shop.awaitPayment(bought, 'refunded')).toMatchObject({ total: 4_395, charges });
  expect(await shop.moneyOf(bought)).toEqual([[4_395, 4_395]]);
  expect((await shopper.placeOrder(order)).status).toBe(409);
});
