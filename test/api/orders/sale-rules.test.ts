/** How a sale is shown to anyone, and what is answered where there is none. */

import { beforeAll, expect, test } from 'vitest';
import { buildSale, uniqueSaleId } from '../../support/factories.ts';
import { refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  shopper = await api.shopper();
});

test('a sale that Redis does not have is not found, never sold out, in both calls alike', async () => {
  const saleId = uniqueSaleId();

  const ordered = await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });
  const looked = await send(`${api.url}/v1/sales/${saleId}`, 'GET');

  expect(refusalOf(ordered)).toBe('404 sale_not_found');
  expect(ordered.body).toEqual(looked.body);
});

test("a sale's page shows its rules and stock to anyone", async () => {
  const sale = await api.stores.openSale(buildSale());
  await shopper.buy(sale.saleId, 'mug', 2);

  const reply = await send(`${api.url}/v1/sales/${sale.saleId}`, 'GET');

  expect(reply.status).toBe(200);
  expect(reply.body).toEqual({
    saleId: sale.saleId,
    name: 'Test sale',
    currency: 'EUR',
    opensAt: new Date(sale.opensAtMs).toISOString(),
    closesAt: new Date(sale.closesAtMs).toISOString(),
    paused: false,
    state: 'open',
    paymentWindowMs: sale.paymentWindowMs,
    limitPerUser: null,
    maxUnpaidHolds: null,
    addressPurchasesPerMinute: null,
    ticketRequired: false,
    skus: [
      {
        sku: 'lamp',
        name: 'Storm lamp',
        unitPrice: 4_900,
        limitPerUser: 2,
        total: 10,
        available: 10,
        held: 0,
        sold: 0,
      },
      {
        sku: 'mug',
        name: 'Enamel mug',
        unitPrice: 1_450,
        limitPerUser: null,
        total: 5,
        available: 3,
        held: 2,
        sold: 0,
      },
    ],
  });
});

test.each([uniqueSaleId(), 'NO', 'a%7Db', 'x'.repeat(33)])(
  'the page of no sale, %s, answers 404',
  async (id) => {
    expect(refusalOf(await send(`${api.url}/v1/sales/${id}`, 'GET'))).toBe('404 sale_not_found');
  },
);
