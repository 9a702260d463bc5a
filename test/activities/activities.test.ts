/** The steps of an order over the real stores: what each does, and that a repeated step changes nothing. */

import { ApplicationFailure } from '@temporalio/common';
import { ulid } from 'ulidx';
import { beforeAll, expect, test } from 'vitest';
import { createActivities } from '../../src/activities/index.ts';
import type { ProviderPayment } from '../../src/money/payment.ts';
import type { Order } from '../../src/orders/content.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { signer } from '../support/signer.ts';
import { AWAITING, HELD, noProvider, openStage, type Stage } from './stage.ts';

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});

const LAMP_PRICE = 4_900;
const PAID = { status: 'paid', version: 2, payment: 'applied', reason: null };
const SOLD = { mysql: { held: 0, sold: 1 }, redis: { available: 9, held: 0, sold: 1 } };

function buildPayment(order: Order, overrides: Partial<ProviderPayment> = {}): ProviderPayment {
  const { orderNo, total: amount, currency } = order;
  return { providerPaymentId: `pay_${ulid()}`, orderNo, amount, currency, signedOrder: null, ...overrides };
}

test('persistOrder stores the order, shows it to pollers and gives the engine slot back; twice the same', async () => {
  const order = await stage.reserveOrder();
  expect(await stage.look(order)).toMatchObject({
    stored: undefined,
    projected: { status: 'queued' },
    slotsTaken: 1,
  });
  const { persistOrder } = stage.openSteps();
  const { first, second, world } = await stage.twice(order, () => persistOrder({ order }));
  expect([first, second]).toEqual([AWAITING, AWAITING]);
  expect(world).toEqual({ stored: AWAITING, projected: AWAITING, ...HELD, slotsTaken: 0 });
});

test('persistOrder of an order whose money came first returns it as paid, and sells its stock', async () => {
  const order = await stage.reserveOrder();
  await stage.stores.payments.record('sandbox', buildPayment(order));
  const { first, world } = await stage.twice(order, () => stage.openSteps().persistOrder({ order }));
  expect(first).toEqual({ ...PAID, stockSettled: true });
  expect(world).toEqual({ stored: PAID, projected: PAID, ...SOLD, slotsTaken: 0 });
});

async function refusalOf(order: Order): Promise<ApplicationFailure> {
  const error: unknown = await stage
    .openSteps()
    .persistOrder({ order })
    .catch((failure: unknown) => failure);
  if (!(error instanceof ApplicationFailure)) throw new Error('not refused', { cause: error });
  return error;
}

test('persistOrder refuses for good, with the reason, what can never be stored', async () => {
  const { saleId } = await stage.stores.openSale(buildSale());
  const stored = buildOrder({ saleId });
  await stage.openSteps().persistOrder({ order: stored });
  const refused = {
    unknown_sku: buildOrder({ saleId, items: [{ sku: 'none', quantity: 1, unitPrice: 1 }] }),
    stock_exhausted: buildOrder({ saleId, items: [{ sku: 'lamp', quantity: 10, unitPrice: LAMP_PRICE }] }),
    duplicate_request: buildOrder({ saleId, idempotencyKey: stored.idempotencyKey }),
    invalid_order: buildOrder({ saleId, userId: 'u'.repeat(300) }),
  };
  for (const [reason, order] of Object.entries(refused)) {
    const first = await refusalOf(order);
    expect(first).toMatchObject({ type: 'OrderRefused', nonRetryable: true, details: [reason] });
    expect((await refusalOf(order)).details).toEqual(first.details);
    expect((await stage.look(order)).stored).toBeUndefined();
  }
  expect((await stage.look(stored)).mysql).toEqual({ held: 1, sold: 0 });
});

test('abandonOrder keeps a slow write from storing the order later', async () => {
  const order = await stage.reserveOrder();
  const { abandonOrder, persistOrder } = stage.openSteps();
  const { first, second, world } = await stage.twice(order, () =>
    abandonOrder({ order, reason: 'store_unavailable' }),
  );
  const failed = { status: 'failed', version: 1, payment: 'none', reason: 'store_unavailable' };
  expect(first).toEqual({ kind: 'abandoned', state: failed, stockSettled: true });
  expect(second).toEqual(first);
  expect(world).toMatchObject({
    stored: failed,
    projected: failed,
    mysql: { held: 0, sold: 0 },
    redis: { available: 10, held: 0, sold: 0 },
    slotsTaken: 0,
  });
  expect(await persistOrder({ order })).toEqual({ ...failed, stockSettled: true });
  expect((await stage.look(order)).mysql).toEqual({ held: 0, sold: 0 });
});

test('abandonOrder shows the end of an order that was shown as payable and that MySQL has lost', async () => {
  const order = await stage.reserveOrder();
  await stage.stores.reservations.project(order.orderNo, AWAITING);
  const { first, second, world } = await stage.twice(order, () =>
    stage.openSteps().abandonOrder({ order, reason: 'stock_exhausted' }),
  );
  const failed = { status: 'failed', version: 2, payment: 'none', reason: 'stock_exhausted' };
  expect(first).toEqual({ kind: 'abandoned', state: failed, stockSettled: true });
  expect(second).toEqual(first);
  expect(world).toMatchObject({ stored: failed, projected: failed });
});

test('abandonOrder leaves an order alone that a slow write has stored', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  const { first, second, world } = await stage.twice(order, () =>
    steps.abandonOrder({ order, reason: 'store_unavailable' }),
  );
  expect(first).toEqual({ kind: 'stored', state: AWAITING });
  expect(second).toEqual(first);
  expect(world).toEqual({ stored: AWAITING, projected: AWAITING, ...HELD, slotsTaken: 0 });
});

test('markPaid shows the order as its payment has made it and sells the held stock, once', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  await stage.stores.payments.record('sandbox', buildPayment(order));
  const { first, second, world } = await stage.twice(order, () => steps.markPaid(order));
  expect(first).toEqual({ ...PAID, stockSettled: true });
  expect(second).toEqual(first);
  expect(world).toEqual({ stored: PAID, projected: PAID, ...SOLD, slotsTaken: 0 });
  expect(await stage.paymentStatuses(order)).toEqual(['applied']);
});

test('markPaid without money, or with the wrong amount, leaves the order waiting', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  await stage.twice(order, () => steps.markPaid(order));
  await stage.stores.payments.record('sandbox', buildPayment(order, { amount: order.total - 1 }));
  const { second, world } = await stage.twice(order, () => steps.markPaid(order));
  expect(second).toEqual(AWAITING);
  expect(world).toEqual({ stored: AWAITING, projected: AWAITING, ...HELD, slotsTaken: 0 });
  expect(await stage.paymentStatuses(order)).toEqual(['parked']);
});

test('markPaid leaves the stock to confirmStock when Redis fails after MySQL has committed', async () => {
  const order = await stage.storeOrder(stage.openSteps());
  await stage.stores.payments.record('sandbox', buildPayment(order));
  const { reservations } = stage.stores;
  const confirm = () => Promise.reject(new Error('Redis is away'));
  const provider = noProvider;
  const steps = createActivities({
    ...stage.stores,
    provider,
    reservations: { ...reservations, confirm },
  });
  expect(await steps.markPaid(order)).toEqual(PAID);
  expect((await stage.look(order)).redis).toEqual(HELD.redis);
  await stage.openSteps().confirmStock(order);
  expect((await stage.look(order)).redis).toEqual(SOLD.redis);
});

test('cancelOrder ends an unpaid order in MySQL and releases its stock in Redis', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  const cancel = () => steps.cancelOrder({ orderNo: order.orderNo, reason: 'payment_timeout', force: false });
  const { first, second, world } = await stage.twice(order, cancel);
  const cancelled = { status: 'cancelled', version: 3, payment: 'none', reason: 'payment_timeout' };
  expect(first).toEqual({ kind: 'ended', state: cancelled, stockSettled: true });
  expect(second).toEqual(first);
  expect(world).toEqual({
    stored: cancelled,
    projected: cancelled,
    mysql: { held: 0, sold: 0 },
    redis: { available: 10, held: 0, sold: 0 },
    slotsTaken: 0,
  });
});

test('cancelOrder finds the order paid whose money came first, even when forced', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  await stage.stores.payments.record('sandbox', buildPayment(order));
  const { first, world } = await stage.twice(order, () =>
    steps.cancelOrder({ orderNo: order.orderNo, reason: 'shopper_request', force: true }),
  );
  expect(first).toEqual({ kind: 'ended', state: PAID, stockSettled: true });
  expect(world).toEqual({ stored: PAID, projected: PAID, ...SOLD, slotsTaken: 0 });
});

test('cancelOrder waits for open sessions unless forced, and none opens meanwhile', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  const { orderNo } = order;
  await stage.stores.paymentSessions.begin('sandbox', orderNo, signer.sign);
  const { first, world } = await stage.twice(order, () =>
    steps.cancelOrder({ orderNo, reason: 'shopper_request', force: false }),
  );
  const closing = { ...AWAITING, version: 2, reason: 'shopper_request' };
  expect(first).toEqual({ kind: 'sessions-open', state: closing });
  expect(world).toEqual({ stored: closing, projected: closing, ...HELD, slotsTaken: 0 });
  expect(await stage.stores.paymentSessions.begin('sandbox', orderNo, signer.sign)).toMatchObject({
    kind: 'not-payable',
  });
  const forced = await stage.twice(order, () =>
    steps.cancelOrder({ orderNo, reason: 'shopper_request', force: true }),
  );
  expect(forced.first).toMatchObject({ kind: 'ended', state: { status: 'cancelled', version: 3 } });
});

test('confirmStock sells the held stock of a paid order in Redis, once', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  await stage.stores.payments.record('sandbox', buildPayment(order));
  const { world } = await stage.twice(order, () => steps.confirmStock(order));
  expect(world).toEqual({ stored: PAID, projected: PAID, ...SOLD, slotsTaken: 0 });
});

test('releaseStock gives the held stock of a cancelled order in Redis back, once', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  await stage.stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
  const { world } = await stage.twice(order, () => steps.releaseStock(order));
  expect(world.redis).toEqual({ available: 10, held: 0, sold: 0 });
  expect(world.projected).toEqual(world.stored);
});

test('confirmStock and releaseStock move no stock before MySQL has the end of the order', async () => {
  const steps = stage.openSteps();
  const [unstored, open] = [await stage.reserveOrder(), await stage.storeOrder(steps)];
  for (const step of [steps.confirmStock, steps.releaseStock]) {
    await step(unstored);
    await expect(step(open)).rejects.toThrow('does not have the end');
  }
  for (const order of [unstored, open]) expect((await stage.look(order)).redis).toEqual(HELD.redis);
});

test('parkOrder shows the order to an operator, once', async () => {
  const { orderNo } = buildOrder();
  const { parkOrder } = stage.openSteps();
  await parkOrder({ orderNo, reason: 'Mark paid: the store is away' });
  await parkOrder({ orderNo, reason: 'Mark paid: still away' });
  expect(await stage.parkedReasons(orderNo)).toEqual(['Mark paid: the store is away']);
});
