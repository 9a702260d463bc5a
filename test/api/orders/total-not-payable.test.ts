/** An order that the provider could never collect is refused before it holds stock. */

import { beforeAll, expect, test } from 'vitest';
import { amountRulesOf } from '../../../src/providers/open.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { acceptedOf, orderOf, problemOf, refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { signTicket } from '../../support/tickets.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let app: HttpApp;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  const skus = [
    { sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 1_000, limitPerUser: null },
    { sku: 'ship', name: 'Ship', unitPrice: 60_000_000, total: 1_000, limitPerUser: null },
  ];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  app = await api.withParts({ provider: { ...api.provider, ...amountRulesOf('stripe') } });
  shopper = await app.shopper();
  // This process has seen the sale.
  expect((await send(`${app.url}/v1/sales/${saleId}`, 'GET')).status).toBe(200);
});

const heldMugs = async () => (await api.stores.saleStock.read(saleId))?.skus[0]?.held;

async function placeWith(discount: number, key?: string) {
  const charges = [{ code: 'welcome', name: 'Welcome', amount: -discount }];
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId, charges });
  return shopper.placeOrder(
    { saleId, items: [{ sku: 'mug', quantity: 1 }], ticket },
    key === undefined ? {} : { 'idempotency-key': key },
  );
}

test('a total below the least that the provider takes holds nothing; the least is accepted', async () => {
  const before = await heldMugs();
  const refused = await placeWith(1_401);
  expect(refusalOf(refused)).toBe('409 total_not_payable');
  expect(problemOf(refused)).toMatchObject({ total: 49, currency: 'EUR' });
  expect(problemOf(refused).detail).toContain('below 50');
  expect(await heldMugs()).toBe(before);
  expect(acceptedOf(await placeWith(1_400)).total).toBe(50);
});

test('what a ticket makes free needs no provider, and less than nothing is the fault of the ticket', async () => {
  expect(acceptedOf(await placeWith(1_450)).total).toBe(0);
  expect(refusalOf(await placeWith(1_451))).toBe('403 ticket_invalid');
});

test('a total above the most that the provider takes holds nothing', async () => {
  const order = (quantity: number) => ({ saleId, items: [{ sku: 'ship', quantity }] });
  expect(refusalOf(await shopper.placeOrder(order(2)))).toBe('409 total_not_payable');
  acceptedOf(await shopper.placeOrder(order(1)));
});

test('a repeat of an order that was accepted is answered with it, whatever its ticket says now', async () => {
  const { orderNo } = acceptedOf(await placeWith(100, 'once'));
  expect(orderOf(await placeWith(1_401, 'once')).orderNo).toBe(orderNo);
});
