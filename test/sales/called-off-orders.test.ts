/** What becomes of the orders of a sale, or of a SKU, that is called off. */

import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCallOffActivities } from '../../src/activities/call-off.ts';
import { modify } from '../../src/mysql/connection.ts';
import type { PageOfOpen } from '../../src/orders/called-off.sql.ts';
import type { Order } from '../../src/orders/content.ts';
import { endOne, takeClosing } from '../../src/orders/endings.sql.ts';
import { reportOf } from '../../src/sales/calling-off.ts';
import type { MoneyWorld } from '../money/money-world.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder } from '../support/factories.ts';
import { buildPayment } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import type { TestStores } from '../support/stores.ts';
import { BY, line, openCallingOffWorld, type CallingOffWorld } from './calling-off-world.ts';

let world: CallingOffWorld;
let stores: TestStores;
let money: MoneyWorld;
beforeAll(async () => {
  world = await openCallingOffWorld();
  ({ stores, money } = world);
});
afterAll(() => world.close());

const keepNone = () => Promise.resolve(new Set<string>());

test('an order that is stored afterwards is closed in the same transaction, and ends without a workflow', async () => {
  const saleId = await world.openSale();
  await world.callOff(saleId);
  const order = buildOrder({ saleId });

  const outcome = await stores.orders.storeOrder(order, 'due');

  const closing = { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'called_off' };
  expect(outcome).toEqual({ kind: 'stored', state: closing });
  expect(await money.stateOf(order)).toEqual(closing);
  expect(await money.historyOf(order)).toEqual(['1 awaiting_payment none', '2 awaiting_payment none']);
  const taken = await takeClosing(stores.pool, 10);
  expect(taken.map(({ orderNo }) => orderNo)).toContain(order.orderNo);
  expect((await endOne(stores.pool, order.orderNo, { force: false }))?.state).toMatchObject({
    status: 'cancelled',
    version: 3,
    reason: 'called_off',
  });
});

test('an order whose workflow stores it, or is being started, is closed for that workflow', async () => {
  const saleId = await world.openSale();
  await world.callOff(saleId);
  for (const presence of ['started', 'claimed'] as const) {
    const order = buildOrder({ saleId });
    expect(await stores.orders.storeOrder(order, presence)).toMatchObject({
      state: { reason: 'called_off' },
    });
    const sql = 'SELECT end_due_at FROM orders WHERE order_no = ?';
    expect(await selectOne(stores.pool, sql, [order.orderNo])).toEqual({ end_due_at: null });
  }
});

test('an order that is stored twice is closed once', async () => {
  const saleId = await world.openSale();
  await world.callOff(saleId);
  const order = buildOrder({ saleId });
  const outcomes = [
    await stores.orders.storeOrder(order, 'due'),
    await stores.orders.storeOrder(order, 'due'),
  ];
  expect(outcomes.map((outcome) => 'state' in outcome && outcome.state.version)).toEqual([2, 2]);
});

test('money that comes for a closed order goes back, before it is stored and afterwards', async () => {
  const saleId = await world.openSale();
  const job = await world.callOff(saleId);
  const early = buildOrder({ saleId });
  const { payment } = await money.withMoney(early);
  await stores.orders.storeOrder(early, 'due');
  expect(await money.rowOf(payment)).toMatchObject({ status: 'refund_due', refund_reason: 'called_off' });
  expect(await money.stateOf(early)).toMatchObject({ payment: 'none', reason: 'called_off' });

  const late = await world.storeOrder(saleId);
  const { payment: second } = await money.withMoney(late);
  expect(await money.rowOf(second)).toMatchObject({ status: 'refund_due', refund_reason: 'called_off' });
  expect(await money.stateOf(late)).toMatchObject({ status: 'awaiting_payment', version: 2 });

  const ended = await world.storeOrder(saleId);
  await stores.orders.cancel(ended.orderNo, 'payment_timeout', { force: true });
  const { payment: last } = await money.withMoney(ended);
  expect(await money.rowOf(last)).toMatchObject({ status: 'refund_due', refund_reason: 'order_ended' });
  expect((await reportOf(stores, job)).late).toEqual({ orders: 3, amount: 3 * 4_900 });
});

test('of a called-off SKU only the orders that have it are closed', async () => {
  const saleId = await world.openSale();
  await world.callOff(saleId, { sku: 'mug' });
  const [other, both] = [
    buildOrder({ saleId }),
    buildOrder({ saleId, items: [line('lamp', 1), line('mug', 1)] }),
  ];
  const outcomes = await stores.orders.storeOrders([other, both], 'due');
  const reasonOf = ({ orderNo }: Order) => {
    const outcome = outcomes.get(orderNo);
    return outcome && 'state' in outcome ? outcome.state.reason : outcome;
  };
  expect([reasonOf(other), reasonOf(both)]).toEqual([null, 'called_off']);
});

test('a report says which orders are being cancelled and which are, of a SKU as of its sale', async () => {
  const saleId = await world.openSale();
  const [ofSku, ofSale] = [await world.callOff(saleId, { sku: 'mug' }), await world.callOff(saleId)];
  const lamp = await world.storeOrder(saleId);
  const both = await world.storeOrder(saleId, { items: [line('lamp', 1), line('mug', 1)] });
  const figures = async () =>
    Promise.all(
      [ofSku, ofSale].map(async (job) => {
        const { open, cancelled } = await reportOf(stores, job);
        return [open, cancelled];
      }),
    );
  const none = { orders: 0, amount: 0 };
  const [one, two] = [
    { orders: 1, amount: both.total },
    { orders: 2, amount: both.total + lamp.total },
  ];

  expect(await figures()).toEqual([
    [one, none],
    [two, none],
  ]);
  for (const { orderNo } of [lamp, both, both]) await endOne(stores.pool, orderNo, { force: false });
  expect(await figures()).toEqual([
    [none, one],
    [none, two],
  ]);
});

test('a free order that is stored after the end opens its job again, which gives it back', async () => {
  const saleId = await world.openSale();
  const job = await world.callOff(saleId);
  await stores.callingOffs.endJob(job.jobId);
  const free = buildOrder({ saleId, items: [{ ...line('lamp', 1), unitPrice: 0 }] });

  expect(await stores.orders.storeOrder(free, 'due')).toMatchObject({ state: { status: 'paid' } });

  expect(await world.isOpen(job)).toBe(true);
  expect(await world.ask(free, job)).toBe('requested');
  expect(await world.refundsOf(free)).toMatchObject([{ amount: 0, items: [{ sku: 'lamp', quantity: 1 }] }]);
  expect(await money.stateOf(free)).toMatchObject({ status: 'paid', payment: 'refunded' });
});

test('an order that MySQL has lost and that was shown as paid is paid again, and its job gives its money back', async () => {
  const saleId = await world.openSale();
  const job = await world.callOff(saleId);
  await stores.callingOffs.endJob(job.jobId);
  const shown = { status: 'paid', version: 2, payment: 'applied', reason: null } as const;
  const order = buildOrder({ saleId, shown });
  await money.withMoney(order);

  await stores.orders.storeOrder(order, 'started');

  expect(await world.isOpen(job)).toBe(true);
  expect(await money.stateOf(order)).toEqual(shown);
  expect(await world.ask(order, job)).toBe('requested');
  expect(await world.refundsOf(order)).toMatchObject([{ amount: 4_900 }]);
});

test('an order that is shown as paid and whose payment MySQL has lost too is not closed before it is found', async () => {
  const saleId = await world.openSale();
  const order = await acceptOrder(stores, saleId);
  const shown = { status: 'paid', version: 2, payment: 'applied', reason: null } as const;
  await stores.reservations.project(order.orderNo, shown);
  await stores.orders.storeOrder({ ...order, shown }, 'started');
  const other = await acceptOrder(stores, saleId);
  await stores.orders.storeOrder(other, 'started');
  const job = await world.callOff(saleId);

  expect((await world.passOn(job, 'open')).left).toBe(2);
  expect(await money.stateOf(order)).toMatchObject({ status: 'awaiting_payment', reason: null });
  expect(await money.stateOf(other)).toMatchObject({ reason: 'called_off' });

  await money.withMoney(order);
  expect(await money.stateOf(order)).toEqual(shown);
});

test('a free order that is stored while the last pass goes on is found by another', async () => {
  const saleId = await world.openSale();
  const job = await world.callOff(saleId);
  const { jobId } = job;
  const { endCallOffPass } = createCallOffActivities(stores);
  const end = (left: number) => new MockActivityEnvironment().run(endCallOffPass, { jobId, left });
  await world.passOn(job, 'open');
  expect((await world.passOn(job, 'paid')).left).toBe(0);
  const free = await world.storeOrder(saleId, { items: [{ ...line('lamp', 1), unitPrice: 0 }] });

  expect(await end(0)).toBe(false);

  await world.passOn(job, 'open');
  expect((await world.passOn(job, 'paid')).left).toBeGreaterThan(0);
  expect(await world.refundsOf(free)).toMatchObject([{ amount: 0 }]);
  expect(await end(0)).toBe(true);
  expect((await stores.callingOffs.readJob(jobId))?.endedAt).not.toBeNull();
});

test('open orders get the cancel request a page at a time; a paid one gets none, and others keep their reason', async () => {
  const saleId = await world.openSale();
  const job = { saleId, sku: '' };
  const unbegun = await world.storeOrder(saleId);
  const [begun, paid, cancelled] = [buildOrder({ saleId }), buildOrder({ saleId }), buildOrder({ saleId })];
  for (const order of [begun, paid, cancelled]) await stores.orders.storeOrder(order, 'started');
  await money.receive(buildPayment(paid));
  await stores.orders.requestCancel(cancelled.orderNo);

  const first = await stores.callingOffs.closeOpen(job, '', 2, keepNone);
  const second = await stores.callingOffs.closeOpen(job, first.next ?? '', 2, keepNone);

  expect([first.open, second.open, second.next]).toEqual([2, 1, undefined]);
  const closed = [...first.closed, ...second.closed].map(({ orderNo }) => orderNo);
  expect(closed.toSorted()).toEqual([unbegun.orderNo, begun.orderNo].toSorted());
  const dueOf = ({ orderNo }: Order) =>
    selectOne(
      stores.pool,
      'SELECT closing_reason, engine_due_at IS NOT NULL AS engine, end_due_at IS NOT NULL AS ender FROM orders WHERE order_no = ?',
      [orderNo],
    );
  expect(await dueOf(unbegun)).toEqual({ closing_reason: 'called_off', engine: 0, ender: 1 });
  expect(await dueOf(begun)).toEqual({ closing_reason: 'called_off', engine: 1, ender: 0 });
  expect(await dueOf(paid)).toMatchObject({ closing_reason: null });
  expect(await dueOf(cancelled)).toMatchObject({ closing_reason: 'shopper_request' });
  expect((await stores.callingOffs.closeOpen(job, '', 10, keepNone)).closed).toEqual([]);
});

test('an order that cannot be closed is parked, keeps its job open, and none of the others back', async () => {
  const saleId = await world.openSale();
  const orders = Array.from({ length: 5 }, () => buildOrder({ saleId }));
  for (const order of orders) await stores.orders.storeOrder(order, 'due');
  const byNumber = orders.map(({ orderNo }) => orderNo).toSorted();
  const broken = byNumber[2] ?? '';
  // An event has its next version already.
  await modify(stores.pool, 'UPDATE order_events SET version = 2 WHERE order_no = ?', [broken]);

  const closed: string[] = [];
  let open = 0;
  for (let after: string | undefined = ''; after !== undefined;) {
    const page: PageOfOpen = await stores.callingOffs.closeOpen({ saleId, sku: '' }, after, 100, keepNone);
    closed.push(...page.closed.map(({ orderNo }) => orderNo));
    open += page.open;
    after = page.next;
  }

  expect([open, closed]).toEqual([5, byNumber.filter((orderNo) => orderNo !== broken)]);
  const parked = await select(
    stores.pool,
    `SELECT reference, cause FROM parked WHERE kind = 'order' AND resolved_at IS NULL AND reference IN (?)`,
    [byNumber],
  );
  expect(parked).toEqual([{ reference: broken, cause: 'step_failing' }]);
});

test('an order whose deadline was extended is closed all the same, and none is extended afterwards', async () => {
  const saleId = await world.openSale();
  const order = await world.storeOrder(saleId, {}, 'started');
  const untilMs = order.reservedAtMs + order.paymentWindowMs + 60_000;
  expect((await stores.deadlines.extend(order.orderNo, untilMs, BY)).kind).toBe('extended');

  const { closed } = await stores.callingOffs.closeOpen({ saleId, sku: '' }, '', 10, keepNone);

  const state = { reason: 'called_off', version: 3, extendedUntilMs: untilMs };
  expect(closed).toMatchObject([{ orderNo: order.orderNo, state }]);
  expect(await money.stateOf(order)).toMatchObject(state);
  expect((await stores.deadlines.extend(order.orderNo, untilMs + 60_000, BY)).kind).toBe('not-open');
  const cancelled = await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  expect(cancelled).toMatchObject({ kind: 'ended', state: { status: 'cancelled', reason: 'called_off' } });
});
