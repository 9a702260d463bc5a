/** A purchase through the whole service: paid, cancelled, timed out, and how Temporal lists it. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { orderOf, pressPay, refusalOf, sessionOf } from '../support/shopper.ts';
import { expectStock, expectStockEquation } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart } from '../support/workflows/start.ts';

let checkout: Checkout;

beforeAll(async () => {
  checkout = await openCheckout();
});
afterAll(() => expectCleanAudit(checkout));

test('an order is accepted, stored, paid, and its unit sold', async () => {
  const { stores } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  await expectStockEquation(stores, saleId);

  const orderNo = await shopper.buy(saleId, 'lamp', 2);
  await expectStockEquation(stores, saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await expectStock(stores, saleId, { sku: 'lamp', available: 8, held: 2, sold: 0 });

  const { url } = sessionOf(await shopper.pay(orderNo));
  expect((await pressPay(url)).status).toBe(200);
  const paid = await shopper.awaitStatus(orderNo, 'paid');

  expect(paid).toMatchObject({ payment: 'applied', reason: null, total: 9_800, pollAfterMs: null });
  await expectStock(stores, saleId, { sku: 'lamp', available: 8, held: 0, sold: 2 });
  expect(refusalOf(await shopper.cancel(orderNo))).toBe('409 already_paid');
});

test('the workflow ends with the outcome that the stores have', async () => {
  const { stores, client } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const bought = await checkout.buy(saleId);
  const { shopper, orderNo } = bought;
  await awaitStart(client, orderNo);
  await checkout.pay(bought);

  const outcome: unknown = await client.workflow.getHandle(orderNo).result();

  expect(outcome).toMatchObject({ status: 'paid', payment: 'applied', reason: null });
  const { status, version } = await shopper.readOrder(orderNo);
  expect(outcome).toMatchObject({ status, version });
});

test("a shopper's cancel closes the open session and gives the unit back", async () => {
  const { stores } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const bought = await checkout.buy(saleId);
  const { shopper, orderNo } = bought;
  const url = await checkout.openPage(bought);

  expect((await shopper.cancel(orderNo)).status).toBe(202);
  const cancelled = await shopper.awaitStatus(orderNo, 'cancelled');

  expect(cancelled).toMatchObject({ reason: 'shopper_request', payment: 'none', pollAfterMs: null });
  expect((await pressPay(url)).status).not.toBe(200);
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('cancelling twice returns the cancelled order', async () => {
  const { stores } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const { shopper, orderNo } = await checkout.buyAndCancel(saleId);

  const again = await shopper.cancel(orderNo);

  expect(again.status).toBe(200);
  expect(orderOf(again)).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
});

test('an unpaid order is cancelled when its window ends', async () => {
  const { stores } = checkout;
  const { saleId } = await stores.openSale(buildSale({ paymentWindowMs: 1_500 }));
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);

  const cancelled = await shopper.awaitStatus(orderNo, 'cancelled');

  expect(cancelled).toMatchObject({ reason: 'payment_timeout', payment: 'none' });
  expect(refusalOf(await shopper.pay(orderNo))).toBe('409 not_payable');
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('the last unit is sold once, and offered again when its order is cancelled', async () => {
  const { stores } = checkout;
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1, limitPerUser: 1 }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const [first, second] = [await checkout.shopper(), await checkout.shopper()];
  const lamp = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };

  const orderNo = await first.buy(saleId);
  expect(refusalOf(await second.placeOrder(lamp))).toBe('409 sold_out');
  await expectStockEquation(stores, saleId);
  await first.cancel(orderNo);
  await expectStock(stores, saleId, { sku: 'lamp', available: 1, held: 0, sold: 0 });

  expect((await second.placeOrder(lamp)).status).toBe(202);
  await expectStock(stores, saleId, { sku: 'lamp', available: 0, held: 1, sold: 0 });
});

test('the order book of Temporal finds orders by sale, shopper and status', async () => {
  const { stores, client } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const paid = await checkout.buy(saleId);
  await awaitStart(client, paid.orderNo);
  await checkout.pay(paid);
  const waiting = await checkout.buy(saleId);

  const find = async (query: string) => {
    const ids: string[] = [];
    for await (const { workflowId } of client.workflow.list({ query })) ids.push(workflowId);
    return ids;
  };
  const found = (query: string, orderNo: string) =>
    waitFor(`${query} to find ${orderNo} alone`, async () => (await find(query)).join() === orderNo);

  await found(`SaleId = '${saleId}' AND OrderStatus = 'paid'`, paid.orderNo);
  await found(`SaleId = '${saleId}' AND OrderStatus = 'awaiting_payment'`, waiting.orderNo);
  await found(`UserId = '${waiting.shopper.userId}'`, waiting.orderNo);
});
