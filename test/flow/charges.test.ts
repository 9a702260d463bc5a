/** Charges of a ticket through the whole service: in what is paid, refunded, audited and announced. */

import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { acceptedOf, pressPay, sessionOf } from '../support/shopper.ts';
import { signTicket } from '../support/tickets.ts';
import { waitFor } from '../support/wait.ts';

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout();
});
afterAll(async () => {
  await expectCleanAudit(checkout);
  await checkout.close();
});

test('an order with shipping and a discount is paid and refunded in its total, and the audit is clean', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale({ ticketRequired: true }));
  const shopper = await checkout.shopper();
  const charges = [
    { code: 'shipping', name: 'Shipping', amount: 495 },
    { code: 'welcome', name: 'Welcome', amount: -1_000 },
  ];
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId, charges });
  const items = [{ sku: 'lamp', quantity: 1 }];
  const body = { saleId, items, ticket, expectedTotal: 4_395, reference: 'R-42' };
  const { orderNo } = acceptedOf(await shopper.placeOrder(body));

  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  const paid = await shopper.awaitStatus(orderNo, 'paid');

  expect(paid).toMatchObject({ total: 4_395, charges, reference: 'R-42' });
  expect(await checkout.providerConsole.listPayments(orderNo)).toMatchObject([{ amount: 4_395 }]);
  await expectCleanAudit(checkout);

  const { id } = await selectOne(
    checkout.stores.pool,
    'SELECT payment_id AS id FROM payments WHERE order_no = ?',
    [orderNo],
  );
  expect(await checkout.stores.refunds.request(Number(id), 'an operator')).toBe('requested');
  const refunded = await waitFor('the refund', async () => {
    const order = await shopper.readOrder(orderNo);
    return order.payment === 'refunded' && order;
  });
  expect(refunded).toMatchObject({ total: 4_395, charges });
});

test('a ticket that was lost with a cancelled order opens nothing any more', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale({ ticketRequired: true }));
  const shopper = await checkout.shopper();
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId, jti: ulid() });
  const body = { saleId, items: [{ sku: 'lamp', quantity: 1 }], ticket };
  const { orderNo } = acceptedOf(await shopper.placeOrder(body));
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
  expect((await shopper.placeOrder(body)).status).toBe(409);
});
