/** `ops order show`: an order's life from all stores, whether they agree, and what comes next. */

import { beforeAll, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { park } from '../../src/parked/parked.sql.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openOps, type Ops } from '../support/ops.ts';
import { buildPayment } from '../support/payment-notices.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { acceptedOf, pressPay, sessionOf } from '../support/shopper.ts';
import { signTicket } from '../support/tickets.ts';
import { waitFor } from '../support/wait.ts';

let checkout: Checkout;
let saleId: string;
let ops: Ops;
beforeAll(async () => {
  checkout = await openCheckout();
  ({ saleId } = await checkout.stores.openSale(buildSale()));
  ops = openOps(checkout.stores, { HOLDFAST_URL: checkout.url });
});

async function awaitOutput(orderNo: string, text: string): Promise<string> {
  return waitFor(`the story to show: ${text}`, async () => {
    const { out } = await ops('order', 'show', orderNo);
    return out.includes(text) && out;
  });
}

/** A lamp that awaits its payment. */
async function buy() {
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  return { shopper, orderNo };
}

function expectInOrder(out: string, moments: readonly string[]): void {
  const places = moments.map((text) => out.indexOf(text));
  expect(out).toSatisfy(() => places.every((place) => place >= 0));
  expect(places).toEqual(places.toSorted((a, b) => a - b));
}

test('an order that was paid is shown from its reservation to the end of its workflow', async () => {
  const { shopper, orderNo } = await buy();
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');

  const out = await waitFor('the end of the workflow in the story', async () => {
    const shown = (await ops('order', 'show', orderNo)).out;
    // The relay that started it may learn last that it has ended.
    return shown.includes('its workflow ended: completed') && !shown.includes('its workflow soon') && shown;
  });
  expectInOrder(out, [
    'Redis     reserved: 1 × lamp for 49.00 EUR, payable until',
    'MySQL     stored: awaiting_payment (version 1)',
    'provider  payment session ',
    'MySQL     paid, payment applied (version 2)',
    'Temporal  its workflow ended: completed',
  ]);
  expect(out).toMatch(/provider {2}notice payment_succeeded/);
  expect(out).toMatch(/signal paymentReceived arrived/);
  expect(out).toMatch(/ {2}MySQL +paid, payment applied, version 2; payment \d+ applied\n/);
  expect(out).toMatch(/ {2}Redis +paid, payment applied, version 2; stock sold\n/);
  expect(out).toMatch(/The stores agree.\nNothing is left to do.\n$/);
  for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
});

test("an order's charges and the shop's reference are shown with its reservation", async () => {
  const shopper = await checkout.shopper();
  const charges = [{ code: 'shipping', name: 'Shipping', amount: 495 }];
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId, charges });
  const body = { saleId, items: [{ sku: 'lamp', quantity: 1 }], ticket, reference: 'R-1001' };
  const { orderNo } = acceptedOf(await shopper.placeOrder(body));

  const out = await awaitOutput(orderNo, 'stored: awaiting_payment');
  const shown = out.replaceAll(/\s+/g, ' ');
  expect(shown).toContain('reserved: 1 × lamp, Shipping 4.95 EUR for 53.95 EUR, payable until');
  expect(shown).toContain("the shop's R-1001");
});

test('a refund is shown with the actor and the reason, to the end of its workflow', async () => {
  const { shopper, orderNo } = await buy();
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');
  const paymentId = /payment (\d+) applied/.exec(await awaitOutput(orderNo, 'ended: completed'))?.[1] ?? '';
  const workflowId = await readRefundWorkflowId(checkout.stores.pool, Number(paymentId));
  await ops('refund', paymentId, '--reason', 'came back unopened');

  const out = await waitFor('the end of the refund in the story', async () => {
    // Long lines are broken.
    const flat = (await ops('order', 'show', orderNo)).out.replaceAll(/\s+/g, ' ');
    return flat.includes(`${workflowId} ended: completed`) && flat;
  });
  expectInOrder(out, [
    'operator olga: refund requested, because: came back unopened',
    `${workflowId} started`,
    'payment refunded, 49.00 EUR back (version 3)',
  ]);
  expect(out).toMatch(/refund of 49.00 EUR: succeeded/);
  expect(out).toContain('MySQL paid, payment refunded, 49.00 EUR back, version 3; payment ');
});

test('an open order shows what it waits for, and for how long', async () => {
  const { orderNo } = await buy();
  const out = await awaitOutput(orderNo, 'running since');
  expect(out).toMatch(/Temporal +running since \d+ s, waiting\n/);
  expect(out).toContain('The shopper may pay for 30 min more; then its workflow cancels it.');
});

test('an order that ended without a workflow says so', async () => {
  const sale = buildSale();
  await checkout.stores.sales.create(sale);
  const order = buildOrder({ saleId: sale.saleId, reservedAtMs: Date.now() - sale.paymentWindowMs });
  await checkout.stores.orders.storeOrder(order, 'due');

  const out = await waitFor('the end in the story', async () => {
    // Long lines are broken.
    const flat = (await ops('order', 'show', order.orderNo)).out.replaceAll(/\s+/g, ' ');
    return flat.includes('ended without a workflow') && flat;
  });

  expectInOrder(out, ['stored: awaiting_payment', 'no workflow had begun: it is ended without one']);
  expect(out).toContain(
    'MySQL cancelled, payment none (payment_timeout), version 3; ended without a workflow',
  );
  expect(out).toContain('Temporal has no workflow of the order');
});

test('an order that was paid before its workflow began says so', async () => {
  const sale = buildSale();
  const { sales, orders } = checkout.stores;
  await sales.create(sale);
  const order = buildOrder({ saleId: sale.saleId });
  // The money was there before the order was stored.
  await checkout.stores.payments.record('sandbox', buildPayment(order));
  await orders.storeOrder(order, 'due');

  const { out } = await ops('order', 'show', order.orderNo);
  const flat = out.replaceAll(/\s+/g, ' ');

  expectInOrder(flat, ['stored: awaiting_payment', 'no workflow had begun: it is paid without one']);
  expect(flat).toContain('MySQL paid, payment applied, version 2; paid without a workflow; payment ');
  expect(flat).toContain('Temporal has no workflow of the order');
});

test('an order whose workflow was terminated by hand shows by whom, why, and that nothing moves it', async () => {
  const { orderNo } = await buy();
  const handle = checkout.client.workflow.getHandle(orderNo);
  await awaitOutput(orderNo, 'running since');
  await handle.terminate('I was curious');
  await modify(
    checkout.stores.pool,
    'UPDATE order_events SET occurred_at = occurred_at - INTERVAL 1 HOUR WHERE order_no = ?',
    [orderNo],
  );

  const { exitCode, out } = await ops('order', 'show', orderNo);
  expect(exitCode).toBe(1);
  expect(out.replaceAll(/\s+/g, ' ')).toMatch(/its workflow: terminated by .+: I was curious/);
  expect(out).toContain('  - The order is open, and no process works on it.');
  expect(out.replaceAll(/\s+/g, ' ')).toContain('Staff can have it run now.');
});

test('stores that contradict each other are named', async () => {
  const { shopper, orderNo } = await buy();
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
  await awaitOutput(orderNo, 'ended: completed');
  const { redis } = checkout.stores;
  const key = `holdfast:{${saleId}.0}:order:${orderNo}`;

  await redis.hset(key, 'hold', 'held');
  expect((await ops('order', 'show', orderNo)).out).toContain(
    'The stock is held in Redis, and should be released.',
  );
  await redis.hset(key, 'hold', 'released', 'version', '9');
  expect((await ops('order', 'show', orderNo)).out).toContain('Redis shows a newer version than MySQL has.');
  await redis.hset(key, 'version', '1');
  expect((await ops('order', 'show', orderNo)).out).toContain('Redis shows an older version than MySQL has.');
  await redis.hdel(key, 'items');
  expect((await ops('order', 'show', orderNo)).out).toContain('Redis has lost a part of the order.');
  await redis.del(key);
  expect((await ops('order', 'show', orderNo)).exitCode).toBe(0);
});

test('a parked order shows since when, why, and what to do', async () => {
  const { orderNo } = await buy();
  await park(checkout.stores.pool, 'order', orderNo, 'Mark paid: away', {
    cause: 'step_failing',
    inputs: { step: 'Mark paid' },
  });
  const { out } = await ops('order', 'show', orderNo);
  expect(out).toMatch(/order parked as \d+ \(step_failing\): Mark paid: away/);
  expect(out).toMatch(/Parked as \d+ \(step_failing\): Mend what the last error names/);
});

test('an order that no store knows is not found', async () => {
  const { orderNo } = buildOrder({ saleId });
  expect(await ops('order', 'show', orderNo)).toEqual({
    exitCode: 1,
    out: '',
    err: 'There is no such order.\n',
  });
});

test('machines get the story, what each store says, and what is wrong, as JSON', async () => {
  const { orderNo } = await buy();
  const { out } = await ops('order', 'show', orderNo, '--json');
  expect(JSON.parse(out)).toMatchObject({
    orderNo,
    state: { status: 'awaiting_payment', version: 1 },
    story: [{ at: expect.any(String), from: 'Redis' }, {}, {}],
    says: [{ store: 'MySQL' }, { store: 'Redis' }, { store: 'Temporal' }],
    problems: [],
  });
});
