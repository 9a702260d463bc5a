/** A sale, or a SKU of it, is called off through the whole service: orders end, each cent goes back once. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { callOffReply } from '../../src/api/calls/call-off.ts';
import { saleReply } from '../../src/api/calls/sale-views.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import {
  acceptedOf,
  JWT_SECRET,
  pressPay,
  refusalOf,
  send,
  sessionOf,
  type Shopper,
} from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';

const LAMP_PRICE = 4_900;
const MUG_PRICE = 1_450;
const SKUS = [
  { sku: 'lamp', name: 'Storm lamp', unitPrice: LAMP_PRICE, total: 100, limitPerUser: null },
  { sku: 'mug', name: 'Enamel mug', unitPrice: MUG_PRICE, total: 100, limitPerUser: null },
  { sku: 'card', name: 'A card', unitPrice: 0, total: 100, limitPerUser: null },
];

let checkout: Checkout;
let authorization: string;

beforeAll(async () => {
  checkout = await openCheckout({ reconcileEveryMs: 1_000 });
  authorization = `Bearer ${await signToken(JWT_SECRET, 'grace', '1h', { roles: ['admin'] })}`;
});
afterAll(() => expectCleanAudit(checkout));

const openSale = () => checkout.stores.openSale(buildSale({ skus: SKUS }));

const callOff = (saleId: string, body: object = {}) =>
  send(`${checkout.url}/v1/admin/sales/${saleId}/call-off`, 'POST', { headers: { authorization }, body });

async function look(saleId: string, sku?: string) {
  const path = `/v1/admin/sales/${saleId}/call-off${sku === undefined ? '' : `?sku=${sku}`}`;
  return callOffReply.parse((await send(checkout.url + path, 'GET', { headers: { authorization } })).body);
}

const awaitEnd = (saleId: string, sku?: string) =>
  waitFor(`the calling-off of ${saleId} to end`, async () => {
    const report = await look(saleId, sku);
    return report.endedAt !== null && report;
  });

async function buy(shopper: Shopper, saleId: string, cart: Record<string, number>): Promise<string> {
  const items = Object.entries(cart).map(([sku, quantity]) => ({ sku, quantity }));
  return acceptedOf(await shopper.placeOrder({ saleId, items })).orderNo;
}

async function pay(shopper: Shopper, orderNo: string): Promise<string> {
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');
  return orderNo;
}

/** What the provider has given back of an order. */
async function returnedOf(orderNo: string): Promise<number> {
  const payments = await checkout.providerConsole.listPayments(orderNo);
  return payments.reduce((sum, { returned }) => sum + returned, 0);
}

test('of a sale that is called off every open order is cancelled, and every paid one refunded once', async () => {
  const { saleId } = await openSale();
  const shopper = await checkout.shopper();
  const paid = [await buy(shopper, saleId, { lamp: 1 }), await buy(shopper, saleId, { lamp: 1, mug: 2 })];
  for (const orderNo of paid) await pay(shopper, orderNo);
  const free = await buy(shopper, saleId, { card: 1 });
  await shopper.awaitStatus(free, 'paid');
  const disputed = await pay(shopper, await buy(shopper, saleId, { mug: 1 }));
  const [payment] = await checkout.providerConsole.listPayments(disputed);
  await checkout.providerConsole.openDispute(payment?.id ?? '');
  await waitFor('the dispute', async () => (await shopper.readOrder(disputed)).payment === 'disputed');
  const open = [await buy(shopper, saleId, { lamp: 1 }), await buy(shopper, saleId, { mug: 1 })];
  for (const orderNo of open) await shopper.awaitStatus(orderNo, 'awaiting_payment');
  const { url } = sessionOf(await shopper.pay(open[0] ?? ''));

  const dry = await callOff(saleId, { dryRun: true });
  expect(dry.body).toMatchObject({
    open: { orders: 2, amount: LAMP_PRICE + MUG_PRICE },
    paid: { orders: 3, amount: 2 * LAMP_PRICE + 2 * MUG_PRICE },
    disputed: { orders: 1, amount: MUG_PRICE },
    next: null,
  });
  expect(
    refusalOf(
      await send(`${checkout.url}/v1/admin/sales/${saleId}/call-off`, 'GET', { headers: { authorization } }),
    ),
  ).toBe('404 not_called_off');

  const reply = await callOff(saleId, { reason: 'The hall has burnt down' });

  expect(reply.status).toBe(202);
  expect((await callOff(saleId)).status).toBe(200);
  expect(refusalOf(await callOff(saleId, { restock: true }))).toBe('409 called_off_otherwise');
  expect(refusalOf(await callOff(saleId, { sku: 'lamp' }))).toBe('409 called_off_otherwise');
  expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] }))).toBe(
    '403 sale_closed',
  );
  const report = await awaitEnd(saleId);
  expect(report).toMatchObject({
    open: { orders: 0 },
    cancelled: { orders: 2 },
    requested: { orders: 0 },
    refunded: { orders: 3, amount: 2 * LAMP_PRICE + 2 * MUG_PRICE },
    exceptions: [{ orderNo: disputed, cause: 'disputed' }],
  });
  const ofSku = `${checkout.url}/v1/admin/sales/${saleId}/call-off?sku=lamp`;
  expect((await send(ofSku, 'GET', { headers: { authorization } })).body).toEqual(report);
  for (const orderNo of open)
    expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'cancelled', reason: 'called_off' });
  for (const orderNo of [...paid, free]) expect((await shopper.readOrder(orderNo)).payment).toBe('refunded');
  expect(await returnedOf(paid[0] ?? '')).toBe(LAMP_PRICE);
  expect(await returnedOf(paid[1] ?? '')).toBe(LAMP_PRICE + 2 * MUG_PRICE);
  expect(await returnedOf(disputed)).toBe(0);
  await pressPay(url);
  expect(await returnedOf(open[0] ?? '')).toBe(0);
  const events = await select(checkout.stores.pool, 'SELECT type FROM shop_events WHERE sale_id = ?', [
    saleId,
  ]);
  const types = events.map(({ type }) => type);
  for (const type of ['sale.called_off', 'sale.call_off_ended'])
    expect(types.filter((one) => one === type)).toHaveLength(1);
});

test('of a called-off SKU its lines go back, with the charges where nothing else is left, and others sell on', async () => {
  const { saleId } = await openSale();
  const shopper = await checkout.shopper();
  const both = await pay(shopper, await buy(shopper, saleId, { lamp: 1, mug: 2 }));
  const alone = await pay(shopper, await buy(shopper, saleId, { mug: 3 }));
  const other = await pay(shopper, await buy(shopper, saleId, { lamp: 1 }));
  const openWith = await buy(shopper, saleId, { lamp: 1, mug: 1 });
  const openWithout = await buy(shopper, saleId, { lamp: 1 });
  await shopper.awaitStatus(openWith, 'awaiting_payment');
  await shopper.awaitStatus(openWithout, 'awaiting_payment');

  expect((await callOff(saleId, { sku: 'mug', dryRun: true })).body).toMatchObject({
    open: { orders: 1 },
    paid: { orders: 2, amount: 5 * MUG_PRICE },
  });
  expect(refusalOf(await callOff(saleId, { sku: 'vase' }))).toBe('400 unknown_sku');
  expect((await callOff(saleId, { sku: 'mug', restock: true })).status).toBe(202);

  expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] }))).toBe(
    '409 called_off',
  );
  await awaitEnd(saleId, 'mug');
  expect(await shopper.readOrder(openWith)).toMatchObject({ status: 'cancelled', reason: 'called_off' });
  expect(await shopper.readOrder(openWithout)).toMatchObject({ status: 'awaiting_payment' });
  expect([await returnedOf(both), await returnedOf(alone), await returnedOf(other)]).toEqual([
    2 * MUG_PRICE,
    3 * MUG_PRICE,
    0,
  ]);
  await pay(shopper, await buy(shopper, saleId, { lamp: 1 }));
  const { skus } = saleReply.parse((await send(`${checkout.url}/v1/sales/${saleId}`, 'GET')).body);
  expect(skus.map(({ sku, calledOff }) => [sku, calledOff])).toEqual([
    ['lamp', undefined],
    ['mug', true],
    ['card', undefined],
  ]);
  // Its units came back, and none of them can be bought.
  const stock = { available: 0, held: 0, sold: 0 };
  expect(skus[1]).toMatchObject(stock);
  const shown = await send(`${checkout.url}/v1/admin/sales/${saleId}`, 'GET', { headers: { authorization } });
  expect(shown.body).toMatchObject({ skus: [{}, stock, {}] });
});
