/** Money that goes back at the provider, through the whole service: the order, its limit and its stock. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { refusalOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';

let shop: Checkout;
beforeAll(async () => {
  shop = await openCheckout();
});
afterAll(() => expectCleanAudit(shop));

const countShown = async (providerPaymentId: string): Promise<number> => {
  const shown = 'SELECT reason FROM parked WHERE reference = ? AND resolved_at IS NULL';
  return (await select(shop.stores.pool, shown, [providerPaymentId])).length;
};

test('a refund by provider staff is shown and gives the limit back; the stock comes back when an operator returns it', async () => {
  const { saleId } = await shop.stores.openSale(buildSale());
  const bought = await shop.buyAndPay(saleId, { quantity: 2 });
  const { shopper, orderNo } = bought;
  const placeTwo = () => shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 2 }] });
  const returnStock = () => shop.asStaff('POST', `orders/${orderNo}/return-stock`);
  expect(refusalOf(await placeTwo())).toBe('409 limit_reached');
  expect(refusalOf(await returnStock())).toBe('409 not_refunded');
  const payment = await shop.providerPaymentOf(bought);

  await shop.providerConsole.refund(payment);

  expect(await shop.awaitPayment(bought, 'refunded')).toMatchObject({ status: 'paid' });
  expect(await countShown(payment)).toBe(1);
  await waitFor('the limit to be free again', async () => (await placeTwo()).status === 202);
  await expectStock(shop.stores, saleId, { sku: 'lamp', available: 6, held: 2, sold: 2 });

  expect([(await returnStock()).status, (await returnStock()).status]).toEqual([202, 202]);
  await expectStock(shop.stores, saleId, { sku: 'lamp', available: 8, held: 2, sold: 0 });
});

test('a chargeback is shown while it is open, and one that the shop wins leaves everything as it was', async () => {
  const { saleId } = await shop.stores.openSale(buildSale());
  const bought = await shop.buyAndPay(saleId, { quantity: 2 });
  const payment = await shop.providerPaymentOf(bought);

  const dispute = await shop.providerConsole.openDispute(payment);
  await shop.awaitPayment(bought, 'disputed');
  expect(await countShown(payment)).toBe(1);
  await shop.providerConsole.closeDispute(dispute.id, { won: true });

  expect(await shop.awaitPayment(bought, 'applied')).toMatchObject({ status: 'paid' });
  await expectStock(shop.stores, saleId, { sku: 'lamp', available: 8, held: 0, sold: 2 });
});

test('a chargeback that the shop had won is opened again and lost: the order follows, and an operator sees it', async () => {
  const { saleId } = await shop.stores.openSale(buildSale());
  const bought = await shop.buyAndPay(saleId, { quantity: 2 });
  const payment = await shop.providerPaymentOf(bought);
  const { id } = await shop.providerConsole.openDispute(payment);
  await shop.awaitPayment(bought, 'disputed');
  await shop.providerConsole.closeDispute(id, { won: true });
  await shop.awaitPayment(bought, 'applied');

  await shop.providerConsole.reopenDispute(id);
  await shop.awaitPayment(bought, 'disputed');
  expect(await countShown(payment)).toBe(1);
  await shop.providerConsole.closeDispute(id, { won: false });

  expect(await shop.awaitPayment(bought, 'refunded')).toMatchObject({ status: 'paid' });
  expect(await countShown(payment)).toBe(1);
});
