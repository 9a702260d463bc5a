/** Free orders through the whole service: held, stored and paid without a provider, and given back. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { settlementReply } from '../../src/api/calls/settlement.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { ORDER_WORKFLOW, TASK_QUEUE } from '../../src/workflows/contract.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { acceptedOf, refusalOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { silent } from '../support/stores.ts';
import { signTicket } from '../support/tickets.ts';
import { waitFor } from '../support/wait.ts';

const SKUS = [
  { sku: 'gift', name: 'Gift', unitPrice: 0, total: 100, limitPerUser: 2 },
  { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null },
];

let shop: Checkout;
let saleId: string;
beforeAll(async () => {
  shop = await openCheckout({ reconcileEveryMs: 1_000 });
  ({ saleId } = await shop.stores.openSale(buildSale({ skus: SKUS })));
});
afterAll(() => expectCleanAudit(shop));

const awaitSold = (orderNo: string) =>
  waitFor('the units to be sold in Redis', async () => {
    return (await shop.stores.redis.hget(orderKeys(orderNo).order, 'hold')) === 'sold';
  });

test('an order whose price is 0 is paid as soon as it is stored, outlasts a rebuild, and is given back by a refund', async () => {
  const { saleId: own } = await shop.stores.openSale(buildSale({ skus: SKUS }));
  const shopper = await shop.shopper();
  const gifts = (quantity: number) => ({ saleId: own, items: [{ sku: 'gift', quantity }], expectedTotal: 0 });
  const { orderNo } = acceptedOf(await shopper.placeOrder(gifts(2)));

  expect(await shopper.awaitStatus(orderNo, 'paid')).toMatchObject({
    total: 0,
    payment: 'applied',
    version: 2,
    refunded: 0,
  });
  expect(refusalOf(await shopper.pay(orderNo))).toBe('409 already_paid');
  expect(refusalOf(await shopper.cancel(orderNo))).toBe('409 already_paid');
  expect(await shop.moneyOf({ orderNo })).toEqual([]);
  await awaitSold(orderNo);
  await expectStock(shop.stores, own, { sku: 'gift', available: 98, held: 0, sold: 2 });
  expect(refusalOf(await shopper.placeOrder(gifts(1)))).toBe('409 limit_reached');

  const request = { cause: 'unfinished' } as const;
  expect(await rebuildSale({ ...shop.stores, log: silent }, own, request)).toMatchObject({ kind: 'rebuilt' });
  await expectStock(shop.stores, own, { sku: 'gift', available: 98, held: 0, sold: 2 });
  expect(refusalOf(await shopper.placeUntilAnswered(gifts(1)))).toBe('409 limit_reached');
  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'paid', total: 0 });

  const refund = await shop.asStaff('POST', `orders/${orderNo}/refunds`, { restock: true });
  expect([refund.status, refund.body]).toMatchObject([
    202,
    { amount: 0, status: 'succeeded', restock: true },
  ]);
  await shop.awaitPayment({ shopper, orderNo }, 'refunded');
  await expectStock(shop.stores, own, { sku: 'gift', available: 100, held: 0, sold: 0 });
  acceptedOf(await shopper.placeOrder(gifts(2)));
});

test('a ticket whose charges come to 0 makes the order free, and an expected total of 0 is checked', async () => {
  const shopper = await shop.shopper();
  const charges = [{ code: 'voucher', name: 'Voucher', amount: -4_900 }];
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId, charges });
  const order = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };

  const changed = await shopper.placeOrder({ ...order, expectedTotal: 0 });
  expect(refusalOf(changed)).toBe('409 total_changed');
  expect(changed.body).toMatchObject({ total: 4_900 });
  const { orderNo } = acceptedOf(await shopper.placeOrder({ ...order, ticket, expectedTotal: 0 }));

  expect(await shopper.awaitStatus(orderNo, 'paid')).toMatchObject({ total: 0, charges });
  const { body } = await shop.asStaff('GET', `sales/${saleId}/settlement`);
  expect(settlementReply.parse(body)).toMatchObject({
    lines: [
      { line: 'order', orderNo, amount: 0, status: 'paid' },
      { line: 'charge', id: 'voucher', amount: -4_900 },
      { line: 'payment', id: orderNo, provider: 'none', amount: 0, status: 'applied' },
    ],
    totals: [{ paid: 0, refunded: 0, kept: 0 }],
  });
});

test('a free order whose workflow was started before it was stored is paid by it, and the workflow ends', async () => {
  const order = await acceptOrder(shop.stores, saleId, { items: [{ sku: 'gift', quantity: 1 }] });
  const started = { workflowId: order.orderNo, taskQueue: TASK_QUEUE, args: [order] };
  const workflow = await shop.client.workflow.start(ORDER_WORKFLOW, started);

  expect(await workflow.result()).toMatchObject({ status: 'paid', version: 2 });
  await awaitSold(order.orderNo);
});
