/** Refunds and chargebacks through the whole service: the order's money, its limit and its stock. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import type { SandboxConsole } from '../../sandbox/console.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { selectRows } from '../../src/mysql/connection.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { JWT_SECRET, pressPay, refusalOf, send, sessionOf, type Shopper } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';

const LAMP_PRICE = 4_900;

let checkout: Checkout;
let providerConsole: SandboxConsole;

beforeAll(async () => {
  checkout = await openCheckout();
  ({ providerConsole } = checkout);
});
afterAll(async () => {
  await expectCleanAudit(checkout);
  await checkout.close();
});

/** Two lamps, as many as a shopper may have, paid for. */
async function buyAndPay(shopper: Shopper, saleId: string) {
  const orderNo = await shopper.buy(saleId, 'lamp', 2);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');
  const [payment] = await providerConsole.listPayments(orderNo);
  return { orderNo, providerPaymentId: payment?.id ?? '' };
}

function awaitPayment(shopper: Shopper, orderNo: string, payment: string) {
  return waitFor(`the money of ${orderNo} to be ${payment}`, async () => {
    const order = await shopper.readOrder(orderNo);
    return order.payment === payment && order;
  });
}

async function askAsAdmin(path: string) {
  const token = await signToken(JWT_SECRET, 'grace', '1h', { roles: ['admin'] });
  return send(`${checkout.url}/v1/admin/${path}`, 'POST', { headers: { authorization: `Bearer ${token}` } });
}

function readPayments(orderNo: string) {
  const row = z.object({ payment_id: z.int(), status: z.string() });
  const sql = 'SELECT payment_id, status FROM payments WHERE order_no = ?';
  return selectRows(checkout.stores.pool, row, sql, [orderNo]);
}

function awaitRefunded(orderNo: string): Promise<boolean> {
  return waitFor(`the money of ${orderNo} to be refunded`, async () => {
    const payments = await readPayments(orderNo);
    return payments.length > 0 && payments.every(({ status }) => status === 'refunded');
  });
}

async function reasonsShown(providerPaymentId: string): Promise<string[]> {
  const row = z.object({ reason: z.string() });
  const sql = 'SELECT reason FROM parked WHERE reference = ? AND resolved_at IS NULL';
  return (await selectRows(checkout.stores.pool, row, sql, [providerPaymentId])).map(({ reason }) => reason);
}

test('a refund that is refused at first is made all the same, once', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
  await providerConsole.setMischief({ refund_refused: 1 });

  await providerConsole.takeStrayPayment({ reference: orderNo, amount: LAMP_PRICE });

  await awaitRefunded(orderNo);
  await providerConsole.setMischief({});
  const [payment] = await providerConsole.listPayments(orderNo);
  expect(payment?.returned).toBe(LAMP_PRICE);
  expect(await checkout.provider.listReversals(payment?.id ?? '')).toHaveLength(1);
});

test('a slow refund is waited for', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
  await providerConsole.setMischief({ slow_refund: 1, slow_refund_ms: 1_500 });

  await providerConsole.takeStrayPayment({ reference: orderNo, amount: LAMP_PRICE });

  await awaitRefunded(orderNo);
  await providerConsole.setMischief({});
  expect((await providerConsole.listPayments(orderNo)).map(({ returned }) => returned)).toEqual([LAMP_PRICE]);
});

test("a refund made at the provider is shown, gives the limit back by the sale's rule, and leaves the stock sold", async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const { orderNo, providerPaymentId } = await buyAndPay(shopper, saleId);
  expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] }))).toBe(
    '409 limit_reached',
  );

  await providerConsole.refund(providerPaymentId);

  expect(await awaitPayment(shopper, orderNo, 'refunded')).toMatchObject({ status: 'paid' });
  expect(await reasonsShown(providerPaymentId)).toHaveLength(1);
  await waitFor('the limit to be free again', async () => {
    const reply = await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 2 }] });
    return reply.status === 202;
  });
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 6, held: 2, sold: 2 });
});

test('where the sale says so, a refund leaves the limit used', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale({ refundRestoresLimit: false }));
  const shopper = await checkout.shopper();
  const { orderNo, providerPaymentId } = await buyAndPay(shopper, saleId);

  await providerConsole.refund(providerPaymentId);
  await awaitPayment(shopper, orderNo, 'refunded');

  expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] }))).toBe(
    '409 limit_reached',
  );
});

test('the units of a refunded order are sold again only when an operator returns them to the stock, and once', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const { orderNo } = await buyAndPay(shopper, saleId);
  const [payment] = await readPayments(orderNo);
  expect(refusalOf(await askAsAdmin(`orders/${orderNo}/return-stock`))).toBe('409 not_refunded');

  expect((await askAsAdmin(`payments/${payment?.payment_id}/refund`)).status).toBe(202);
  await awaitPayment(shopper, orderNo, 'refunded');
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 8, held: 0, sold: 2 });

  expect((await askAsAdmin(`orders/${orderNo}/return-stock`)).status).toBe(202);
  expect((await askAsAdmin(`orders/${orderNo}/return-stock`)).status).toBe(202);
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('a chargeback is shown while it is open; one that the shop wins leaves everything as it was', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const { orderNo, providerPaymentId } = await buyAndPay(shopper, saleId);

  const dispute = await providerConsole.openDispute(providerPaymentId);
  await awaitPayment(shopper, orderNo, 'disputed');
  expect(await reasonsShown(providerPaymentId)).toHaveLength(1);
  await providerConsole.closeDispute(dispute.id, { won: true });

  expect(await awaitPayment(shopper, orderNo, 'applied')).toMatchObject({ status: 'paid' });
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 8, held: 0, sold: 2 });
});

test('a chargeback that the shop loses leaves the order paid, its money returned and its stock sold', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const { orderNo, providerPaymentId } = await buyAndPay(shopper, saleId);

  await providerConsole.closeDispute((await providerConsole.openDispute(providerPaymentId)).id, {
    won: false,
  });

  expect(await awaitPayment(shopper, orderNo, 'refunded')).toMatchObject({ status: 'paid' });
  expect((await providerConsole.listPayments(orderNo)).map(({ returned }) => returned)).toEqual([
    2 * LAMP_PRICE,
  ]);
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 8, held: 0, sold: 2 });
});
