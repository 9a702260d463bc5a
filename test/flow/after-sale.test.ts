/** After the sale: refunds through the whole service, and a settlement that equals the provider's book. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { signToken } from '../../src/api/http/auth.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { JWT_SECRET, pressPay, send, sessionOf, type Shopper } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';

const LAMP_PRICE = 4_900;

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout({ fees: { paidBasisPoints: 150, disputed: 1_500 } });
});
afterAll(async () => {
  await expectCleanAudit(checkout);
  await checkout.close();
});

async function askAsStaff(method: string, path: string, body?: object) {
  const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
  return send(`${checkout.url}/v1/admin/${path}`, method, {
    headers: { authorization: `Bearer ${token}`, 'idempotency-key': `${path}-${JSON.stringify(body)}` },
    ...(body !== undefined && { body }),
  });
}

/** Two lamps, paid for. */
async function buyAndPay(shopper: Shopper, saleId: string) {
  const orderNo = await shopper.buy(saleId, 'lamp', 2);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');
  return orderNo;
}

function awaitRefunded(shopper: Shopper, orderNo: string, refunded: number) {
  return waitFor(`${refunded} of ${orderNo} to be refunded`, async () => {
    const order = await shopper.readOrder(orderNo);
    return order.refunded === refunded && order;
  });
}

const settlement = z.object({
  totals: z.array(
    z.object({
      currency: z.string(),
      paid: z.int(),
      refunded: z.int(),
      chargedBack: z.int(),
      fees: z.int(),
      kept: z.int(),
    }),
  ),
});

test('one of two lamps goes back, another order whole and a third by a dispute: the settlement is the book', async () => {
  const { providerConsole, stores } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const [jane, joe, jim] = [await checkout.shopper(), await checkout.shopper(), await checkout.shopper()];
  const [partly, wholly, disputed] = [
    await buyAndPay(jane, saleId),
    await buyAndPay(joe, saleId),
    await buyAndPay(jim, saleId),
  ];

  const lines = [{ sku: 'lamp', quantity: 1 }];
  for (const status of [202, 200]) {
    const asked = await askAsStaff('POST', `orders/${partly}/refunds`, { lines, restock: true });
    expect(asked.status).toBe(status);
  }
  expect((await askAsStaff('POST', `orders/${wholly}/refunds`, {})).status).toBe(202);
  const [charged] = await providerConsole.listPayments(disputed);
  const dispute = await providerConsole.openDispute(charged?.id ?? '');
  await providerConsole.closeDispute(dispute.id, { won: false });

  expect(await awaitRefunded(jane, partly, LAMP_PRICE)).toMatchObject({ status: 'paid', payment: 'applied' });
  expect(await awaitRefunded(joe, wholly, 2 * LAMP_PRICE)).toMatchObject({ payment: 'refunded' });
  expect(await awaitRefunded(jim, disputed, 2 * LAMP_PRICE)).toMatchObject({ payment: 'refunded' });
  await expectStock(stores, saleId, { sku: 'lamp', available: 5, held: 0, sold: 5 });

  const book = (
    await Promise.all([partly, wholly, disputed].map((orderNo) => providerConsole.listPayments(orderNo)))
  ).flat();
  const [collected, returned] = [
    sum(book.map(({ amount }) => amount)),
    sum(book.map((paid) => paid.returned)),
  ];
  const fees = sum(book.map(({ fee }) => fee ?? 0)) + 1_500;
  expect([collected, returned, fees]).toEqual([6 * LAMP_PRICE, 5 * LAMP_PRICE, 3 * 147 + 1_500]);
  const settled = settlement.parse((await askAsStaff('GET', `sales/${saleId}/settlement`)).body);
  expect(settled.totals).toEqual([
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
