/** After the sale: refunds through the whole service, and a settlement that equals the provider's book. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { settlementReply } from '../../src/api/calls/settlement.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { expectStock } from '../support/stock.ts';

const LAMP_PRICE = 4_900;

let shop: Checkout;
beforeAll(async () => {
  shop = await openCheckout({ fees: { paidBasisPoints: 150, disputed: 1_500 } });
});
afterAll(() => expectCleanAudit(shop));

test('one of two lamps goes back, another order whole and a third by a lost dispute: the settlement is the book', async () => {
  const { providerConsole, stores } = shop;
  const { saleId } = await stores.openSale(buildSale());
  const [partly, wholly, disputed] = [
    await shop.buyAndPay(saleId, { quantity: 2 }),
    await shop.buyAndPay(saleId, { quantity: 2 }),
    await shop.buyAndPay(saleId, { quantity: 2 }),
  ];

  const oneLamp = { lines: [{ sku: 'lamp', quantity: 1 }], restock: true };
  for (const status of [202, 200]) {
    const path = `orders/${partly.orderNo}/refunds`;
    expect((await shop.asStaff('POST', path, oneLamp, { key: 'asked-twice' })).status).toBe(status);
  }
  await shop.refund(wholly);
  const dispute = await providerConsole.openDispute(await shop.providerPaymentOf(disputed));
  await providerConsole.closeDispute(dispute.id, { won: false });

  expect(await shop.awaitRefunded(partly, LAMP_PRICE)).toMatchObject({
    status: 'paid',
    payment: 'partially_refunded',
  });
  expect(await shop.awaitRefunded(wholly, 2 * LAMP_PRICE)).toMatchObject({ payment: 'refunded' });
  expect(await shop.awaitRefunded(disputed, 2 * LAMP_PRICE)).toMatchObject({
    status: 'paid',
    payment: 'refunded',
  });
  await expectStock(stores, saleId, { sku: 'lamp', available: 5, held: 0, sold: 5 });

  const orders = [partly, wholly, disputed];
  const book = (await Promise.all(orders.map(({ orderNo }) => providerConsole.listPayments(orderNo)))).flat();
  const collected = sum(book.map(({ amount }) => amount));
  const returned = sum(book.map((payment) => payment.returned));
  const fees = sum(book.map(({ fee }) => fee ?? 0)) + 1_500;
  expect([collected, returned, fees]).toEqual([6 * LAMP_PRICE, 5 * LAMP_PRICE, 3 * 147 + 1_500]);
  const settlement = settlementReply.parse((await shop.asStaff('GET', `sales/${saleId}/settlement`)).body);
  expect(settlement.totals).toEqual([
    {
      currency: 'EUR',
      paid: collected,
      refunded: 3 * LAMP_PRICE,
      chargedBack: 2 * LAMP_PRICE,
      fees,
      kept: collected - returned - fees,
    },
  ]);
});

const sum = (amounts: number[]): number => amounts.reduce((total, amount) => total + amount, 0);
