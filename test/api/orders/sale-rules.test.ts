/** The rules of a sale: stock, limits, opening times, the backlog, and how the sale itself is shown. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { putIntoOutbox } from '../../../src/redis/outbox.ts';
import type { Sale } from '../../../src/sales/sale.ts';
import { newOrderNo } from '../../lua/raw-scripts.ts';
import { buildSale, uniqueSaleId } from '../../support/factories.ts';
import { problemOf, refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

const HOUR_MS = 60 * 60 * 1000;

let api: TestApi;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  shopper = await api.shopper();
});
afterAll(() => api.close());

async function orderFrom(sale: Partial<Sale>, sku = 'lamp', quantity = 1) {
  const { saleId } = await api.stores.openSale(buildSale(sale));
  return shopper.placeOrder({ saleId, items: [{ sku, quantity }] });
}

test('more than there is answers 409 sold_out with what is left', async () => {
  const reply = await orderFrom({}, 'mug', 6);

  expect(refusalOf(reply)).toBe('409 sold_out');
  expect(problemOf(reply)).toMatchObject({ sku: 'mug', available: 5 });
});

test('a cart of which one SKU is sold out takes nothing of the others', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const before = await api.stores.saleStock.read(saleId);
  const items = [
    { sku: 'lamp', quantity: 1 },
    { sku: 'mug', quantity: 6 },
  ];

  expect(refusalOf(await shopper.placeOrder({ saleId, items }))).toBe('409 sold_out');

  expect(await api.stores.saleStock.read(saleId)).toEqual(before);
});

test('more than a shopper may have answers 409 limit_reached with limit and count', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const one = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };
  await shopper.placeOrder(one);
  await shopper.placeOrder(one);

  const reply = await shopper.placeOrder(one);

  expect(refusalOf(reply)).toBe('409 limit_reached');
  expect(problemOf(reply)).toMatchObject({ sku: 'lamp', limit: 2, bought: 2 });
  expect(problemOf(reply).detail).toMatch(/you have 2, so you may order no more\.$/);
});

test('more of all SKUs than a shopper may have in a sale answers 409 sale_limit_reached', async () => {
  const { saleId } = await api.stores.openSale(buildSale({ limitPerUser: 3 }));
  const order = (sku: string, quantity: number) => shopper.placeOrder({ saleId, items: [{ sku, quantity }] });
  expect((await order('mug', 2)).status).toBe(202);

  const reply = await order('lamp', 2);

  expect(refusalOf(reply)).toBe('409 sale_limit_reached');
  expect(problemOf(reply)).toMatchObject({ limit: 3, bought: 2 });
  expect(problemOf(reply).detail).toMatch(/3 in this sale; you have 2, so you may order at most 1 more\.$/);
  expect((await order('lamp', 1)).status).toBe(202);
});

test.each([
  [0, 3, 'you have 0, so you may order at most 2 more.'],
  [1, 2, 'you have 1, so you may order at most 1 more.'],
])(
  'a shopper with %i of 2 who asks for %i is answered how many more there may be',
  async (has, asks, end) => {
    const { saleId } = await api.stores.openSale(buildSale());
    const buyer = await api.shopper();
    if (has > 0) await buyer.buy(saleId, 'lamp', has);

    const reply = await buyer.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: asks }] });

    expect(refusalOf(reply)).toBe('409 limit_reached');
    expect(problemOf(reply)).toMatchObject({ limit: 2, bought: has });
    expect(problemOf(reply).detail).toContain(end);
  },
);

test('a sale that opens later answers 403 with when', async () => {
  const opensAtMs = Date.now() + HOUR_MS;

  const reply = await orderFrom({ opensAtMs, closesAtMs: opensAtMs + HOUR_MS });

  expect(refusalOf(reply)).toBe('403 sale_not_open_yet');
  expect(problemOf(reply)['opensAt']).toBe(new Date(opensAtMs).toISOString());
});

test('a sale that is over answers 403', async () => {
  const reply = await orderFrom({ opensAtMs: Date.now() - 2 * HOUR_MS, closesAtMs: Date.now() - HOUR_MS });

  expect(refusalOf(reply)).toBe('403 sale_closed');
});

test('a paused sale answers 403 with when to try again', async () => {
  const reply = await orderFrom({ paused: true });

  expect(refusalOf(reply)).toBe('403 sale_paused');
  expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0);
});

test('a sale that Redis does not have is not found, never sold out, in both calls alike', async () => {
  const saleId = uniqueSaleId();

  const ordered = await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });
  const looked = await send(`${api.url}/v1/sales/${saleId}`, 'GET');

  expect(refusalOf(ordered)).toBe('404 sale_not_found');
  expect(ordered.body).toEqual(looked.body);
});

test('when more orders wait than can be handled in time, 503 says when to try again', async () => {
  // 100 orders a second, a third of a window of one second: 33 orders may wait.
  const skus = [{ sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 100, limitPerUser: null }];
  const { saleId } = await api.stores.openSale(buildSale({ skus, paymentWindowMs: 1_000 }));
  const one = { saleId, items: [{ sku: 'mug', quantity: 1 }] };
  for (let i = 0; i < 33; i += 1) await putIntoOutbox(api.stores.redis, newOrderNo(saleId));
  const before = await api.stores.saleStock.read(saleId);

  const reply = await shopper.placeOrder(one);

  expect(refusalOf(reply)).toBe('503 backlog_full');
  expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await api.stores.saleStock.read(saleId)).toEqual(before);
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
