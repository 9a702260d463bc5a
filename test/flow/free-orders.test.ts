/** Free orders through the whole service: held, stored and paid without a provider, and given back. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { settlementReply } from '../../src/api/calls/settlement.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { ORDER_WORKFLOW, TASK_QUEUE } from '../../src/workflows/contract.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { acceptedOf, JWT_SECRET, refusalOf, send, type Shopper } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { silent } from '../support/stores.ts';
import { signTicket } from '../support/tickets.ts';
import { waitFor } from '../support/wait.ts';

const SKUS = [
  { sku: 'gift', name: 'Gift', unitPrice: 0, total: 100, limitPerUser: 2 },
  { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null },
];

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout({ reconcileEveryMs: 1_000 });
});
afterAll(async () => {
  await expectCleanAudit(checkout);
  await checkout.close();
});

async function asStaff(method: string, path: string, body?: object) {
  const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
  const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'once' };
  return send(`${checkout.url}/v1/admin/${path}`, method, { headers, ...(body && { body }) });
}

async function openSale(): Promise<string> {
  return (await checkout.stores.openSale(buildSale({ skus: SKUS }))).saleId;
}

async function takeGift(shopper: Shopper, saleId: string, quantity = 1) {
  const reply = await shopper.placeOrder({ saleId, items: [{ sku: 'gift', quantity }], expectedTotal: 0 });
  return acceptedOf(reply).orderNo;
}

const holdOf = (orderNo: string) => checkout.stores.redis.hget(orderKeys(orderNo).order, 'hold');

test('an order whose price is 0 is paid as soon as it is stored, and needs neither a page nor a workflow', async () => {
  const saleId = await openSale();
  const shopper = await checkout.shopper();
  const orderNo = await takeGift(shopper, saleId);

  expect(await shopper.awaitStatus(orderNo, 'paid')).toMatchObject({
    total: 0,
    payment: 'applied',
    version: 2,
    refunded: 0,
  });
  expect(refusalOf(await shopper.pay(orderNo))).toBe('409 already_paid');
  expect(refusalOf(await shopper.cancel(orderNo))).toBe('409 already_paid');
  expect(await checkout.providerConsole.listPayments(orderNo)).toEqual([]);
  await waitFor('the units to be sold in Redis', async () => (await holdOf(orderNo)) === 'sold');
  await expectStock(checkout.stores, saleId, { sku: 'gift', available: 99, held: 0, sold: 1 });
  // The limit counts it.
  const tooMuch = { saleId, items: [{ sku: 'gift', quantity: 2 }] };
  expect(refusalOf(await shopper.placeOrder(tooMuch))).toBe('409 limit_reached');
});

test('a ticket whose charges come to 0 makes the order free, and an expected total of 0 is checked', async () => {
  const saleId = await openSale();
  const shopper = await checkout.shopper();
  const charges = [{ code: 'voucher', name: 'Voucher', amount: -4_900 }];
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId, charges });
  const order = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };

  const changed = await shopper.placeOrder({ ...order, expectedTotal: 0 });
  expect(refusalOf(changed)).toBe('409 total_changed');
  expect(changed.body).toMatchObject({ total: 4_900 });
  const { orderNo } = acceptedOf(await shopper.placeOrder({ ...order, ticket, expectedTotal: 0 }));

  expect(await shopper.awaitStatus(orderNo, 'paid')).toMatchObject({ total: 0, charges });
  const { body } = await asStaff('GET', `sales/${saleId}/settlement`);
  expect(settlementReply.parse(body)).toMatchObject({
    lines: [
      { line: 'order', orderNo, amount: 0, status: 'paid' },
      { line: 'charge', id: 'voucher', amount: -4_900 },
      { line: 'payment', id: orderNo, provider: 'none', amount: 0, status: 'applied' },
    ],
    totals: [{ paid: 0, refunded: 0, kept: 0 }],
  });
});

test('a free order that is refunded gives units and limit back, and no provider is called', async () => {
  const saleId = await openSale();
  const shopper = await checkout.shopper();
  const orderNo = await takeGift(shopper, saleId, 2);
  await shopper.awaitStatus(orderNo, 'paid');

  const reply = await asStaff('POST', `orders/${orderNo}/refunds`, { restock: true });
  expect([reply.status, reply.body]).toMatchObject([202, { amount: 0, status: 'succeeded', restock: true }]);
  await waitFor('the units to be on sale again', async () => {
    const view = await checkout.stores.saleStock.read(saleId);
    return view?.skus.find(({ sku }) => sku === 'gift')?.available === 100;
  });
  await waitFor('the refund to be shown', async () => {
    return (await shopper.readOrder(orderNo)).payment === 'refunded';
  });
  await takeGift(shopper, saleId, 2);
});

test('a free order whose workflow was started before it was stored is paid by it, and the workflow ends', async () => {
  const saleId = await openSale();
  const order = await acceptOrder(checkout.stores, saleId, { items: [{ sku: 'gift', quantity: 1 }] });
  const started = { workflowId: order.orderNo, taskQueue: TASK_QUEUE, args: [order] };
  const workflow = await checkout.client.workflow.start(ORDER_WORKFLOW, started);

  expect(await workflow.result()).toMatchObject({ status: 'paid', version: 2 });
  expect(await holdOf(order.orderNo)).toBe('sold');
});

test('a rebuild of the sale keeps what free orders have bought', async () => {
  const saleId = await openSale();
  const shopper = await checkout.shopper();
  const orderNo = await takeGift(shopper, saleId, 2);
  await shopper.awaitStatus(orderNo, 'paid');
  await waitFor('the units to be sold in Redis', async () => (await holdOf(orderNo)) === 'sold');
  const stores = { ...checkout.stores, log: silent };
  await rebuildSale(stores, saleId, { cause: 'requested', actor: 'holdfast' });

  await expectStock(checkout.stores, saleId, { sku: 'gift', available: 98, held: 0, sold: 2 });
  const more = { saleId, items: [{ sku: 'gift', quantity: 1 }] };
  expect(refusalOf(await shopper.placeUntilAnswered(more))).toBe('409 limit_reached');
  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'paid', total: 0 });
});
