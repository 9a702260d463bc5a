/** The funnel: the process that numbers a change counts it, once, with how long the order took. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { createDispatcher } from '../../src/events/feed.ts';
import { createWorkerMetrics } from '../../src/metrics.ts';
import { agePayment } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildPayment, pay, reverse, buildReversal } from '../support/payment-notices.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
let metrics: ReturnType<typeof createWorkerMetrics>;
let pass: () => Promise<number>;

beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(async () => {
  ({ saleId } = await stores.openSale(buildSale()));
  await openCounts().pass();
  ({ metrics, pass } = openCounts());
});

function openCounts() {
  const opened = createWorkerMetrics();
  return { metrics: opened, pass: createDispatcher({ ...stores, log: silent }, opened) };
}

/** Those that are not 0, by the values of their labels. */
async function counted(name: string): Promise<Record<string, number>> {
  const found = await metrics.registry.getSingleMetric(name)?.get();
  return Object.fromEntries(
    (found?.values ?? []).flatMap(({ labels, value }) =>
      value === 0 ? [] : [[Object.values(labels).join(' '), value]],
    ),
  );
}

/** How many were measured, and their sum in seconds. */
async function measured(name: string): Promise<{ count: number; sum: number }> {
  const text = await metrics.registry.getSingleMetricAsString(name);
  const read = (part: string) => Number(new RegExp(`^${name}_${part} (.+)$`, 'm').exec(text)?.[1]);
  return { count: read('count'), sum: read('sum') };
}

test('each change of an order counts once, however many processes look', async () => {
  const [paid, ended, byWorkflow] = [buildOrder({ saleId }), buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.storeOrders([paid, ended], 'due');
  await stores.orders.storeOrder(byWorkflow, 'started');
  await pay(stores, paid);
  await stores.endings.endOne(ended.orderNo, { force: true });
  await stores.orders.cancel(byWorkflow.orderNo, 'shopper_request', { force: true });
  const other = openCounts();

  await Promise.all([pass(), other.pass()]);
  await pass();
  await other.pass();

  const own = await counted('holdfast_order_changes_total');
  if (Object.keys(own).length === 0) ({ metrics } = other);
  expect(await counted('holdfast_order_changes_total')).toMatchObject({ payable: 3, paid: 1, cancelled: 2 });
  expect(await counted('holdfast_orders_stored_total')).toEqual({ relay: 2, workflow: 1 });
  expect(await counted('holdfast_orders_ended_unbegun_total')).toEqual({ '': 1 });
  expect((await measured('holdfast_order_payable_seconds')).count).toBe(3);
  expect((await measured('holdfast_order_paid_seconds')).count).toBe(1);
});

test('an order that is paid without a workflow counts as that too, and one with a workflow does not', async () => {
  const [without, withWorkflow] = [buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.storeOrder(without, 'due');
  await stores.orders.storeOrder(withWorkflow, 'started');
  await pay(stores, without);
  await pay(stores, withWorkflow);

  await pass();

  expect(await counted('holdfast_order_changes_total')).toMatchObject({ paid: 2 });
  expect(await counted('holdfast_orders_paid_unbegun_total')).toEqual({ '': 1 });
  expect(await counted('holdfast_orders_ended_unbegun_total')).toEqual({});
});

test('an order takes from its acceptance until it is payable, and from its notice until it is paid', async () => {
  const accepted = buildOrder({ saleId, reservedAtMs: Date.now() - 40_000 });
  await pay(stores, accepted);
  await agePayment(stores.pool, accepted.orderNo, 20);
  await stores.orders.storeOrder(accepted, 'due');

  await pass();

  const payable = await measured('holdfast_order_payable_seconds');
  const paid = await measured('holdfast_order_paid_seconds');
  expect([payable.count, Math.floor(payable.sum / 10)]).toEqual([1, 4]);
  expect([paid.count, Math.floor(paid.sum / 10)]).toEqual([1, 2]);
});

test('money that went back in whole counts as a refund', async () => {
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'due');
  const payment = buildPayment(order);
  await pay(stores, order, payment);
  await pass();
  await reverse(stores, buildReversal(payment));

  await pass();

  expect(await counted('holdfast_order_changes_total')).toMatchObject({ paid: 1, refunded: 1 });
});
