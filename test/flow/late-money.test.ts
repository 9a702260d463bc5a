/**
 * Money that comes late, twice, without a notice, or for
 * orders that no store knows, through the whole service.
 */

import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import type { SandboxConsole } from '../../sandbox/console.ts';
import { selectRows } from '../../src/mysql/connection.ts';
import { agePayment, endWindow } from '../support/ageing.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { signer } from '../support/signer.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';

const LAMP_PRICE = 4_900;
const HOUR_MS = 60 * 60_000;
let checkout: Checkout;
let providerConsole: SandboxConsole;

beforeAll(async () => {
  checkout = await openCheckout({ reconcileEveryMs: 1_000 });
  ({ providerConsole } = checkout);
});
afterAll(() => expectCleanAudit(checkout));

/** What the provider collected for an order, and how much of each payment went back. */
async function returnedOf(orderNo: string): Promise<[collected: number, returned: number][]> {
  return (await providerConsole.listPayments(orderNo)).map(({ amount, returned }) => [amount, returned]);
}

function awaitReturned(orderNo: string, wanted: [collected: number, returned: number][]): Promise<boolean> {
  return waitFor(`${JSON.stringify(wanted)} in the provider's book`, async () => {
    const seen = await returnedOf(orderNo);
    return JSON.stringify(seen) === JSON.stringify(wanted);
  });
}

/** Money counts as unmatched a minute after it came; the clock of its row is moved instead of waiting. */
async function letAMinutePass(orderNo: string, payments = 1): Promise<void> {
  const { pool } = checkout.stores;
  const row = z.object({ payment_id: z.int() });
  await waitFor(`the money of ${orderNo} to be known`, async () => {
    const known = await selectRows(pool, row, 'SELECT payment_id FROM payments WHERE order_no = ?', [
      orderNo,
    ]);
    return known.length === payments;
  });
  await agePayment(pool, orderNo, 120);
}

test('money that comes after the cancel goes back, and the order stays cancelled', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');

  await providerConsole.takeStrayPayment({ reference: orderNo, amount: LAMP_PRICE });

  await awaitReturned(orderNo, [[LAMP_PRICE, LAMP_PRICE]]);
  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'cancelled', payment: 'none' });
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('of two payments the first is applied, and the second goes back', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');

  await providerConsole.takeStrayPayment({ reference: orderNo, amount: LAMP_PRICE });

  await awaitReturned(orderNo, [
    [LAMP_PRICE, 0],
    [LAMP_PRICE, LAMP_PRICE],
  ]);
  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'paid', payment: 'applied' });
});

test('a payment whose notice never comes is found when its window ends, and pays the order', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  const { url } = sessionOf(await shopper.pay(orderNo));
  await providerConsole.setMischief({ drop: 1 });
  await pressPay(url);
  await providerConsole.setMischief({});
  await endWindow(checkout.client, orderNo);

  await shopper.awaitStatus(orderNo, 'paid');

  expect(await returnedOf(orderNo)).toEqual([[LAMP_PRICE, 0]]);
});

test('money that the provider takes after it has closed the session goes back', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  const { url } = sessionOf(await shopper.pay(orderNo));
  await providerConsole.setMischief({ late: 1, late_ms: HOUR_MS });
  await pressPay(url);
  await providerConsole.setMischief({});

  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
  await providerConsole.takeLatePayment(new URL(url).pathname.split('/').at(-1) ?? '');

  await awaitReturned(orderNo, [[LAMP_PRICE, LAMP_PRICE]]);
});

test('an order that every store has lost is restored from what its payment carries, and is paid', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const lost = buildOrder({
    saleId,
    userId: shopper.userId,
    items: [{ sku: 'lamp', quantity: 2, unitPrice: 4_900 }],
  });
  const { orderNo, total: amount } = lost;

  await providerConsole.takeStrayPayment({
    reference: orderNo,
    amount,
    signedOrder: await signer.sign(lost),
  });
  await letAMinutePass(orderNo);

  const restored = await waitFor(`order ${orderNo} to be paid`, async () => {
    const reply = await shopper.getOrder(orderNo);
    return reply.status === 200 && (await shopper.awaitStatus(orderNo, 'paid'));
  });
  expect(restored).toMatchObject({ total: 9_800, payment: 'applied' });
  expect(await returnedOf(orderNo)).toEqual([[9_800, 0]]);
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 8, held: 0, sold: 2 });
});

test('where its stock has been sold meanwhile, the money of a lost order goes back', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const lost = buildOrder({ saleId, items: [{ sku: 'mug', quantity: 3, unitPrice: 1_450 }] });
  await shopper.buy(saleId, 'mug', 4);
  const { orderNo, total: amount } = lost;

  await providerConsole.takeStrayPayment({
    reference: orderNo,
    amount,
    signedOrder: await signer.sign(lost),
  });
  await letAMinutePass(orderNo);

  await awaitReturned(orderNo, [[4_350, 4_350]]);
  await expectStock(checkout.stores, saleId, { sku: 'mug', available: 1, held: 4, sold: 0 });
});

test('money for an unknown order goes back when it carries no signed order', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const { orderNo } = buildOrder({ saleId });

  await providerConsole.takeStrayPayment({ reference: orderNo, amount: LAMP_PRICE });
  await letAMinutePass(orderNo);

  await awaitReturned(orderNo, [[LAMP_PRICE, LAMP_PRICE]]);
});

test('money for a sale that is not ours waits for an operator', async () => {
  const orderNo = `not-ours-0-1-${ulid()}`;

  await providerConsole.takeStrayPayment({ reference: orderNo, amount: LAMP_PRICE });
  await letAMinutePass(orderNo);

  const parked = await waitFor('the money to be shown to an operator', async () => {
    const [rows] = await checkout.stores.pool.query('SELECT reason FROM parked WHERE INSTR(reason, ?)', [
      orderNo,
    ]);
    return Array.isArray(rows) && rows.length > 0 && rows;
  });
  expect(parked).toHaveLength(1);
  expect(await returnedOf(orderNo)).toEqual([[LAMP_PRICE, 0]]);
});
