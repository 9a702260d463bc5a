/** What becomes of orders and money once a sale, or a SKU of it, is called off: the rules in the stores. */

import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCallOffActivities, type CallOffPage } from '../../src/activities/call-off.ts';
import type { Reversal } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import type { PageOfOpen } from '../../src/orders/called-off.sql.ts';
import type { Order } from '../../src/orders/content.ts';
import { endClosing, takeClosing } from '../../src/orders/endings.sql.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import type { CallOffJob } from '../../src/sales/calling-off.sql.ts';
import { refuseOrders, reportOf } from '../../src/sales/calling-off.ts';
import { createMoneyWorld, type MoneyWorld } from '../money/money-world.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { buildPayment } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});
afterAll(() => stores.close());

const BY = { actor: 'grace', reason: 'It rains' };

async function callOff(saleId: string, { sku = '', restock = false } = {}): Promise<CallOffJob> {
  const outcome = await stores.callingOffs.callOff({ saleId, sku }, restock, BY);
  if (!('job' in outcome)) throw new Error(outcome.kind);
  return outcome.job;
}

const openSale = async (): Promise<string> => (await stores.openSale(buildSale())).saleId;

const line = (sku: string, quantity: number) => ({
  sku,
  quantity,
  unitPrice: sku === 'lamp' ? 4_900 : 1_450,
});

/** Paid, of these lines and charges. */
async function paidOrder(saleId: string, overrides: Partial<Order> = {}): Promise<Order> {
  const order = buildOrder({ saleId, ...overrides });
  await stores.orders.storeOrder(order, 'started');
  await world.withMoney(order);
  await stores.orders.markPaid(order.orderNo);
  return order;
}

const refundsOf = async ({ orderNo }: Order) =>
  (await stores.refunds.readRefundsOf(orderNo)).map(({ amount, items, charges, restock, status }) => ({
    amount,
    items,
    charges,
    restock,
    status,
  }));

async function paymentOf({ orderNo }: Order): Promise<{ paymentId: number; providerPaymentId: string }> {
  const sql = 'SELECT payment_id, provider_payment_id FROM payments WHERE order_no = ?';
  const row = await selectOne(stores.pool, sql, [orderNo]);
  return { paymentId: Number(row['payment_id']), providerPaymentId: String(row['provider_payment_id']) };
}

/** Money of the order's payment moves at the provider. */
async function reverse(order: Order, reversal: Pick<Reversal, 'kind' | 'amount' | 'status'>): Promise<void> {
  const { providerPaymentId } = await paymentOf(order);
  const providerReversalId = `${reversal.kind}-${order.orderNo}`;
  await stores.refunds.recordReversals('sandbox', [
    { ...reversal, currency: 'EUR', providerReversalId, providerPaymentId },
  ]);
}

const keepNone = () => Promise.resolve(new Set<string>());

const ask = async (order: Order, job: CallOffJob) =>
  (await stores.callingOffs.requestCalledOff(order.orderNo, job)).outcome;

test('a repeat answers with the same job, and one on other terms is refused', async () => {
  const saleId = await openSale();
  const mug = await callOff(saleId, { sku: 'mug' });

  expect(await stores.callingOffs.callOff({ saleId, sku: 'mug' }, false, BY)).toEqual({
    kind: 'repeated',
    job: mug,
  });
  const { kind } = await stores.callingOffs.callOff({ saleId, sku: 'mug' }, true, BY);
  expect(kind).toBe('otherwise');
  const whole = await callOff(saleId);
  expect(whole.jobId).not.toBe(mug.jobId);
  expect((await stores.callingOffs.callOff({ saleId, sku: 'lamp' }, false, BY)).kind).toBe('otherwise');
  expect((await stores.callingOffs.callOff({ saleId: 'nothing', sku: '' }, false, BY)).kind).toBe('unknown');
});

test('an order that is stored afterwards is closed in the same transaction, and ends without a workflow', async () => {
  const saleId = await openSale();
  await callOff(saleId);
  const order = buildOrder({ saleId });

  const outcome = await stores.orders.storeOrder(order, 'due');

  const closing = { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'called_off' };
  expect(outcome).toEqual({ kind: 'stored', state: closing });
  expect(await world.stateOf(order)).toEqual(closing);
  expect(await world.historyOf(order)).toEqual(['1 awaiting_payment none', '2 awaiting_payment none']);
  const taken = await takeClosing(stores.pool, 10);
  expect(taken.map(({ orderNo }) => orderNo)).toContain(order.orderNo);
  expect((await endClosing(stores.pool, order.orderNo, { force: false }))?.state).toMatchObject({
    status: 'cancelled',
    version: 3,
    reason: 'called_off',
  });
});

test('an order whose workflow stores it, or is being started, is closed for that workflow', async () => {
  const saleId = await openSale();
  await callOff(saleId);
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
  const saleId = await openSale();
  await callOff(saleId);
  const order = buildOrder({ saleId });
  const outcomes = [
    await stores.orders.storeOrder(order, 'due'),
    await stores.orders.storeOrder(order, 'due'),
  ];
  expect(outcomes.map((outcome) => 'state' in outcome && outcome.state.version)).toEqual([2, 2]);
});

test('money that comes for a closed order goes back, before it is stored and afterwards', async () => {
  const saleId = await openSale();
  const job = await callOff(saleId);
  const early = buildOrder({ saleId });
  const { payment } = await world.withMoney(early);
  await stores.orders.storeOrder(early, 'due');
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refund_due', refund_reason: 'called_off' });
  expect(await world.stateOf(early)).toMatchObject({ payment: 'none', reason: 'called_off' });

  const late = buildOrder({ saleId });
  await stores.orders.storeOrder(late, 'due');
  const { payment: second } = await world.withMoney(late);
  expect(await world.rowOf(second)).toMatchObject({ status: 'refund_due', refund_reason: 'called_off' });
  expect(await stores.orders.markPaid(late.orderNo)).toMatchObject({ status: 'awaiting_payment' });

  const ended = buildOrder({ saleId });
  await stores.orders.storeOrder(ended, 'due');
  await stores.orders.cancel(ended.orderNo, 'payment_timeout', { force: true });
  const { payment: last } = await world.withMoney(ended);
  expect(await world.rowOf(last)).toMatchObject({ status: 'refund_due', refund_reason: 'order_ended' });
  expect((await reportOf(stores, job)).late).toEqual({ orders: 3, amount: 3 * 4_900 });
});

test('of a called-off SKU only the orders that have it are closed', async () => {
  const saleId = await openSale();
  await callOff(saleId, { sku: 'mug' });
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

test('a free order that is stored after the end opens its job again, which gives it back', async () => {
  const saleId = await openSale();
  const job = await callOff(saleId);
  await stores.callingOffs.endJob(job.jobId);
  const free = buildOrder({ saleId, items: [{ ...line('lamp', 1), unitPrice: 0 }] });

  expect(await stores.orders.storeOrder(free, 'due')).toMatchObject({ state: { status: 'paid' } });

  expect((await stores.callingOffs.listOpenJobs(undefined, 1_000)).map(({ jobId }) => jobId)).toContain(
    job.jobId,
  );
  expect(await ask(free, job)).toBe('requested');
  expect(await refundsOf(free)).toMatchObject([{ amount: 0, items: [{ sku: 'lamp', quantity: 1 }] }]);
  expect(await world.stateOf(free)).toMatchObject({ status: 'paid', payment: 'refunded' });
});

test('an order that MySQL has lost and that was shown as paid is paid again, and its job gives its money back', async () => {
  const saleId = await openSale();
  const job = await callOff(saleId);
  await stores.callingOffs.endJob(job.jobId);
  const shown = { status: 'paid', version: 3, payment: 'applied', reason: null } as const;
  const order = buildOrder({ saleId, shown });
  await world.withMoney(order);

  await stores.orders.storeOrder(order, 'started');

  expect((await stores.callingOffs.listOpenJobs(undefined, 1_000)).map(({ jobId }) => jobId)).toContain(
    job.jobId,
  );
  expect(await stores.orders.markPaid(order.orderNo)).toMatchObject(shown);
  expect(await ask(order, job)).toBe('requested');
  expect(await refundsOf(order)).toMatchObject([{ amount: 4_900 }]);
});

test('an order that is shown as paid and whose payment MySQL has lost too is not closed before it is found', async () => {
  const saleId = await openSale();
  const order = await acceptOrder(stores, saleId);
  const shown = { status: 'paid', version: 3, payment: 'applied', reason: null } as const;
  await stores.reservations.project(order.orderNo, shown);
  await stores.orders.storeOrder({ ...order, shown }, 'started');
  const other = await acceptOrder(stores, saleId);
  await stores.orders.storeOrder(other, 'started');
  const { jobId } = await callOff(saleId);
  const { callOffPage } = createCallOffActivities(stores);
  const begin = { jobId, cursor: { phase: 'open', after: '' } } as const;
  const closeOpen = (): Promise<CallOffPage> => new MockActivityEnvironment().run(callOffPage, begin);

  expect((await closeOpen()).left).toBe(2);
  expect(await world.stateOf(order)).toMatchObject({ status: 'awaiting_payment', reason: null });
  expect(await world.stateOf(other)).toMatchObject({ reason: 'called_off' });

  await world.withMoney(order);
  expect(await stores.orders.markPaid(order.orderNo)).toEqual(shown);
});

test('a free order that is stored while the last pass goes on is found by another', async () => {
  const saleId = await openSale();
  const { jobId } = await callOff(saleId);
  const { callOffPage, endCallOffPass } = createCallOffActivities(stores);
  const passTo = (phase: 'open' | 'paid'): Promise<CallOffPage> =>
    new MockActivityEnvironment().run(callOffPage, { jobId, cursor: { phase, after: '' } });
  const end = (left: number) => new MockActivityEnvironment().run(endCallOffPass, { jobId, left });
  await passTo('open');
  expect((await passTo('paid')).left).toBe(0);
  const free = buildOrder({ saleId, items: [{ ...line('lamp', 1), unitPrice: 0 }] });
  await stores.orders.storeOrder(free, 'due');

  expect(await end(0)).toBe(false);

  await passTo('open');
  expect((await passTo('paid')).left).toBeGreaterThan(0);
  expect(await refundsOf(free)).toMatchObject([{ amount: 0 }]);
  expect(await end(0)).toBe(true);
  expect((await stores.callingOffs.readJob(jobId))?.endedAt).not.toBeNull();
});

test('open orders get the wish to cancel a page at a time; those with money keep it, and others their reason', async () => {
  const saleId = await openSale();
  const job = { saleId, sku: '' };
  const unbegun = buildOrder({ saleId });
  await stores.orders.storeOrder(unbegun, 'due');
  const [begun, paid, cancelled] = [buildOrder({ saleId }), buildOrder({ saleId }), buildOrder({ saleId })];
  for (const order of [begun, paid, cancelled]) await stores.orders.storeOrder(order, 'started');
  await world.receive(buildPayment(paid));
  await stores.orders.requestCancel(cancelled.orderNo);

  const first = await stores.callingOffs.closePage(job, '', 3, keepNone);
  const second = await stores.callingOffs.closePage(job, first.last ?? '', 3, keepNone);

  expect([first.open, second.open, second.last]).toEqual([3, 1, undefined]);
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
  expect((await stores.callingOffs.closePage(job, '', 10, keepNone)).closed).toEqual([]);
});

test('an order that cannot be closed is parked, keeps its job open, and none of the others back', async () => {
  const saleId = await openSale();
  const orders = Array.from({ length: 5 }, () => buildOrder({ saleId }));
  for (const order of orders) await stores.orders.storeOrder(order, 'due');
  const byNumber = orders.map(({ orderNo }) => orderNo).toSorted();
  const broken = byNumber[2] ?? '';
  // An event has its next version already.
  await modify(stores.pool, 'UPDATE order_events SET version = 2 WHERE order_no = ?', [broken]);

  const closed: string[] = [];
  let open = 0;
  for (let after: string | undefined = ''; after !== undefined;) {
    const page: PageOfOpen = await stores.callingOffs.closePage({ saleId, sku: '' }, after, 100, keepNone);
    closed.push(...page.closed.map(({ orderNo }) => orderNo));
    open += page.open;
    after = page.last;
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
  const saleId = await openSale();
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'started');
  const untilMs = order.reservedAtMs + order.paymentWindowMs + 60_000;
  expect((await stores.deadlines.extend(order.orderNo, untilMs, BY)).kind).toBe('extended');

  const { closed } = await stores.callingOffs.closePage({ saleId, sku: '' }, '', 10, keepNone);

  const state = { reason: 'called_off', version: 3, extendedUntilMs: untilMs };
  expect(closed).toMatchObject([{ orderNo: order.orderNo, state }]);
  expect(await world.stateOf(order)).toMatchObject(state);
  expect((await stores.deadlines.extend(order.orderNo, untilMs + 60_000, BY)).kind).toBe('not-open');
  const cancelled = await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  expect(cancelled).toMatchObject({ kind: 'ended', state: { status: 'cancelled', reason: 'called_off' } });
});

test('of a paid order all that is left is asked back once, whatever went back before', async () => {
  const saleId = await openSale();
  const charges = [{ code: 'shipping', name: 'Shipping', amount: 500 }];
  const order = await paidOrder(saleId, { items: [line('lamp', 2)], charges, total: 10_300 });
  const key = { idempotencyKey: 'goodwill', fingerprint: 'f' };
  const goodwill = { kind: 'money', amount: 300, restock: false, restoresLimit: false } as const;
  await stores.refunds.requestByOrder(order.orderNo, goodwill, BY, key);
  const job = await callOff(saleId, { restock: true });

  expect([await ask(order, job), await ask(order, job)]).toEqual(['requested', 'requested']);

  expect(await refundsOf(order)).toMatchObject([
    { amount: 300 },
    { amount: 10_000, items: [{ sku: 'lamp', quantity: 2 }], charges: true, restock: true },
  ]);
});

test('of a SKU its lines are asked back, and the charges where nothing else is left', async () => {
  const saleId = await openSale();
  const charges = [{ code: 'shipping', name: 'Shipping', amount: 500 }];
  const both = await paidOrder(saleId, { items: [line('lamp', 1), line('mug', 2)], charges, total: 8_300 });
  const alone = await paidOrder(saleId, { items: [line('mug', 1)], charges, total: 1_950 });
  const without = await paidOrder(saleId);
  const mug = await callOff(saleId, { sku: 'mug' });

  for (const order of [both, alone]) expect(await ask(order, mug)).toBe('requested');
  expect(await ask(without, mug)).toBe('nothing');
  expect(await refundsOf(both)).toMatchObject([
    { amount: 2_900, items: [{ sku: 'mug', quantity: 2 }], charges: false, restock: false },
  ]);
  expect(await refundsOf(alone)).toMatchObject([{ amount: 1_950, charges: true }]);

  const lamp = await callOff(saleId, { sku: 'lamp' });
  expect(await ask(both, lamp)).toBe('requested');
  expect((await refundsOf(both)).at(-1)).toMatchObject({ amount: 5_400, charges: true });
  expect(await refundsOf(both)).toHaveLength(2);
});

test('of a SKU nothing is asked back beside money that went back unasked, as that may be for its units', async () => {
  const saleId = await openSale();
  const both = await paidOrder(saleId, { items: [line('lamp', 1), line('mug', 2)], total: 7_800 });
  const mug = await callOff(saleId, { sku: 'mug' });
  // As after the loss of the very refund that the job had requested.
  await reverse(both, { kind: 'refund', amount: 2_900, status: 'succeeded' });

  expect(await ask(both, mug)).toBe('not_refundable');

  expect(await refundsOf(both)).toEqual([]);
  const lamp = await callOff(saleId, { sku: 'lamp' });
  expect(await ask(both, lamp)).toBe('not_refundable');
  const all = await callOff(saleId);
  expect(await ask(both, all)).toBe('requested');
  expect(await refundsOf(both)).toMatchObject([{ amount: 4_900 }]);
});

test('an order is listed as disputed also where the dispute is opened after its page was read', async () => {
  const saleId = await openSale();
  const order = await paidOrder(saleId);
  const job = await callOff(saleId);
  // All of the money is with the payer, so nothing is asked for.
  const listPaid: typeof stores.callingOffs.listPaid = async (...args) => {
    const page = await stores.callingOffs.listPaid(...args);
    await reverse(order, { kind: 'dispute', amount: 4_900, status: 'pending' });
    return page;
  };
  const { callOffPage } = createCallOffActivities({
    ...stores,
    callingOffs: { ...stores.callingOffs, listPaid },
  });

  const cursor = { phase: 'paid', after: '' } as const;
  await new MockActivityEnvironment().run(callOffPage, { jobId: job.jobId, cursor });

  expect(await refundsOf(order)).toEqual([]);
  expect((await reportOf(stores, job)).exceptions).toEqual([{ orderNo: order.orderNo, cause: 'disputed' }]);
});

test('refunds under way are counted where an order is to be asked back, and at the end of a pass', async () => {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 102, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const orders: Order[] = [];
  for (let i = 0; i < 102; i += 1) orders.push(await paidOrder(saleId));
  orders.sort((a, b) => (a.orderNo < b.orderNo ? -1 : 1));
  const job = await callOff(saleId);
  for (const order of orders.slice(0, 101)) await ask(order, job);
  let counts = 0;
  const countPending: typeof stores.callingOffs.countPending = (jobId) => {
    counts += 1;
    return stores.callingOffs.countPending(jobId);
  };
  const callingOffs = { ...stores.callingOffs, countPending };
  const { callOffPage } = createCallOffActivities({ ...stores, callingOffs });
  const passOn = (after: string): Promise<CallOffPage> => {
    const cursor = { phase: 'paid', after } as const;
    return new MockActivityEnvironment().run(callOffPage, { jobId: job.jobId, cursor });
  };

  const { next } = await passOn('');
  expect([next?.phase, counts]).toEqual(['paid', 0]);

  expect(await passOn(next?.after ?? '')).toMatchObject({ left: 0, isFull: true });
  expect(counts).toBe(1);
  for (const order of orders.slice(101)) await ask(order, job);
  expect(await passOn(next?.after ?? '')).toEqual({ next: undefined, left: 102, isFull: false });
  expect(counts).toBe(2);
});

test('what staff have withdrawn is not asked for again', async () => {
  const saleId = await openSale();
  const order = await paidOrder(saleId);
  const job = await callOff(saleId);
  await ask(order, job);
  const [refund] = await stores.refunds.readRefundsOf(order.orderNo);
  await stores.refunds.withdraw(order.orderNo, refund?.refundId ?? 0, BY);

  await ask(order, job);

  expect(await refundsOf(order)).toMatchObject([{ status: 'failed' }]);
  expect(await reportOf(stores, job)).toMatchObject({ withdrawn: { orders: 1 }, requested: { orders: 0 } });
});

test('of refunds under way those count that are neither refused nor disputed; accepted ones take no place', async () => {
  const saleId = await openSale();
  const [refused, disputed, accepted, busy] = [
    await paidOrder(saleId),
    await paidOrder(saleId),
    await paidOrder(saleId),
    await paidOrder(saleId),
  ];
  const job = await callOff(saleId);
  for (const order of [refused, disputed, accepted, busy]) await ask(order, job);
  // The provider may accept what it refused at first.
  for (const order of [refused, accepted]) await stores.refunds.recordRefusal(await paymentOf(order));
  const reversal = { amount: 4_900, currency: 'EUR', status: 'pending' as const };
  const of = async (order: Order) => (await paymentOf(order)).providerPaymentId;
  await stores.refunds.recordReversals('sandbox', [
    { ...reversal, kind: 'dispute', providerReversalId: 'd', providerPaymentId: await of(disputed) },
    { ...reversal, kind: 'refund', providerReversalId: 'r', providerPaymentId: await of(accepted) },
  ]);

  expect(await stores.callingOffs.countPending(job.jobId)).toEqual({
    asked: 4,
    unended: 2,
    busy: 1,
    refused: 1,
  });
  const { exceptions, requested } = await reportOf(stores, job);
  expect(requested).toEqual({ orders: 4, amount: 4 * 4_900 });
  expect(exceptions.toSorted((a, b) => (a.cause < b.cause ? -1 : 1))).toEqual([
    { orderNo: disputed.orderNo, cause: 'disputed' },
    { orderNo: refused.orderNo, cause: 'refused' },
  ]);
});

test('a refusal of an earlier refund makes the one of a job no refused one', async () => {
  const saleId = await openSale();
  const order = await paidOrder(saleId);
  const payment = await paymentOf(order);
  await stores.refunds.recordRefusal(payment);
  const job = await callOff(saleId);
  await ask(order, job);

  expect(await stores.callingOffs.countPending(job.jobId)).toEqual({
    asked: 1,
    unended: 1,
    busy: 1,
    refused: 0,
  });
  expect((await reportOf(stores, job)).exceptions).toEqual([]);
  await stores.refunds.recordRefusal(payment);
  expect(await stores.callingOffs.countPending(job.jobId)).toEqual({
    asked: 1,
    unended: 0,
    busy: 0,
    refused: 1,
  });
  expect((await reportOf(stores, job)).exceptions).toMatchObject([{ cause: 'refused' }]);
});

test('a refund that an operator has settled by hand takes no place and keeps no job from its end', async () => {
  const saleId = await openSale();
  const order = await paidOrder(saleId);
  const job = await callOff(saleId);
  await ask(order, job);
  const { paymentId, providerPaymentId } = await paymentOf(order);
  await stores.refunds.park(paymentId, 'no answer', { cause: 'step_failing', step: 'refundPayment' });
  expect(await stores.callingOffs.countPending(job.jobId)).toEqual({
    asked: 1,
    unended: 0,
    busy: 0,
    refused: 1,
  });

  const parked = await stores.parkedWork.list({ kind: 'refund', limit: 1_000 });
  const entry = parked.find(({ reference }) => reference === providerPaymentId);
  await stores.parkedWork.resolve(entry?.parkedId ?? 0, BY);

  expect(await stores.callingOffs.countPending(job.jobId)).toEqual({
    asked: 1,
    unended: 0,
    busy: 0,
    refused: 0,
  });
  expect((await reportOf(stores, job)).exceptions).toEqual([]);

  // By this nothing is known of a refund that is requested later.
  const sql = 'UPDATE parked SET resolved_at = NOW(3) - INTERVAL 1 DAY WHERE reference = ?';
  await modify(stores.pool, sql, [providerPaymentId]);
  expect(await stores.callingOffs.countPending(job.jobId)).toMatchObject({ unended: 1, busy: 1 });
});

test('while many refunds are refused a pass tries ten more, and ends with something left', async () => {
  const saleId = await openSale();
  const orders: Order[] = [];
  for (let i = 0; i < 5; i += 1) orders.push(await paidOrder(saleId));
  const job = await callOff(saleId);
  // As if others of this job were, too.
  const others = { asked: 9_000, busy: 6, refused: 500 };
  const countPending = async () => {
    const { asked, unended, busy, refused } = await stores.callingOffs.countPending(job.jobId);
    return {
      asked: asked + others.asked,
      unended,
      busy: busy + others.busy,
      refused: refused + others.refused,
    };
  };
  const callingOffs = { ...stores.callingOffs, countPending };
  const { callOffPage } = createCallOffActivities({ ...stores, callingOffs });
  const cursor = { phase: 'paid', after: '' } as const;
  const pass = (): Promise<CallOffPage> =>
    new MockActivityEnvironment().run(callOffPage, { jobId: job.jobId, cursor });

  expect(await pass()).toEqual({ next: undefined, left: 5, isFull: false });
  expect(await pass()).toEqual({ next: undefined, left: 1, isFull: false });
  expect((await Promise.all(orders.map(refundsOf))).flat()).toHaveLength(4);

  // So few of so many are refused each for itself.
  others.asked = 10_001;
  expect(await pass()).toEqual({ next: undefined, left: 6, isFull: false });
  expect((await Promise.all(orders.map(refundsOf))).flat()).toHaveLength(5);
});

test('a called-off SKU stays so through a change of the sale, and a rebuild', async () => {
  const sale = await stores.openSale(buildSale());
  const { saleId } = sale;
  await refuseOrders(stores, await callOff(saleId, { sku: 'mug' }));
  const put = { action: 'put', sale: { ...sale, name: 'Renamed' }, isDraft: false } as const;
  const recorded = await stores.saleChanges.record({ ...put, ifMatch: undefined, isNew: false }, BY);
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  await stores.saleChanges.complete(recorded.change, stores.saleStock);
  const items = [{ sku: 'mug', quantity: 1 }];
  const refused = { kind: 'called-off', sku: 'mug' };
  expect(await stores.reservations.reserve(buildReserveRequest({ saleId, items }))).toEqual(refused);

  await rebuildSale(stores, saleId, { cause: 'requested', actor: 'grace' });

  expect(await stores.reservations.reserve(buildReserveRequest({ saleId, items }))).toEqual(refused);
  expect(await stores.sales.read(saleId)).toMatchObject({ calledOff: 'skus', sale: { name: 'Renamed' } });
});

test('a called-off SKU that is taken out and put again before its sale is in Redis is refused', async () => {
  const sale = buildSale();
  const { saleId } = sale;
  await stores.sales.create(sale);
  await refuseOrders(stores, await callOff(saleId, { sku: 'mug' }));
  const put = { action: 'put', isDraft: false, ifMatch: undefined, isNew: false } as const;
  const without = { ...sale, skus: sale.skus.filter(({ sku }) => sku !== 'mug') };
  for (const changed of [without, sale])
    expect((await stores.saleChanges.record({ ...put, sale: changed }, BY)).kind).toBe('changed');

  await stores.sales.warmUp(saleId, stores.saleStock);

  const items = [{ sku: 'mug', quantity: 1 }];
  const reserved = await stores.reservations.reserve(buildReserveRequest({ saleId, items }));
  expect(reserved).toEqual({ kind: 'called-off', sku: 'mug' });
});

test('a sale that is called off before it opens is closed, and one that was never in Redis too', async () => {
  const opensAtMs = Date.now() + 3_600_000;
  const sale = buildSale({ opensAtMs, closesAtMs: opensAtMs + 1 });
  await stores.sales.create(sale);
  const job = await callOff(sale.saleId);
  await refuseOrders(stores, job);
  await refuseOrders(stores, job);
  const found = await stores.sales.read(sale.saleId);
  expect(found?.sale.closesAtMs).toBeLessThanOrEqual(found?.nowMs ?? 0);
});

test('what calling off has done is in the log of actions and in the feed, once each', async () => {
  const saleId = await openSale();
  const { jobId } = await callOff(saleId);
  await callOff(saleId);
  await stores.callingOffs.endJob(jobId);
  await stores.callingOffs.endJob(jobId);
  const actions = await select(stores.pool, 'SELECT actor, action FROM audit_log WHERE subject = ?', [
    `sale ${saleId}`,
  ]);
  expect(actions).toEqual([
    { actor: 'grace', action: 'called_off' },
    { actor: 'holdfast', action: 'call_off_ended' },
  ]);
  const events = await select(stores.pool, 'SELECT type FROM shop_events WHERE sale_id = ?', [saleId]);
  expect(events.map(({ type }) => type)).toEqual(['sale.called_off', 'sale.call_off_ended']);
});

/** As if its commit were gone, and with it that of the sale's end. */
async function loseJob({ jobId, saleId }: CallOffJob): Promise<void> {
  await stores.pool.query('DELETE FROM calling_offs WHERE job_id = ?', [jobId]);
  await stores.pool.query('UPDATE sales SET called_off = NULL WHERE sale_id = ?', [saleId]);
}

test.each(['', 'mug'])(
  'a job that MySQL has lost, of SKU "%s", is written again by its terms, once',
  async (sku) => {
    const saleId = await openSale();
    const job = await callOff(saleId, { sku });
    const order = buildOrder({ saleId, items: [line('mug', 1)] });
    await stores.orders.storeOrder(order, 'due');
    await loseJob(job);
    const steps = createCallOffActivities(stores);
    const call = { jobId: job.jobId, terms: job, cursor: { phase: 'open', after: '' } } as const;

    // Redis answers late, and the step comes again.
    const late = {
      ...stores,
      saleStock: { ...stores.saleStock, change: () => Promise.reject(new Error('away')) },
    };
    await expect(
      new MockActivityEnvironment().run(createCallOffActivities(late).callOffPage, call),
    ).rejects.toThrow();
    for (let times = 0; times < 2; times += 1)
      await new MockActivityEnvironment().run(steps.callOffPage, call);

    const terms = { ...job, calledOffAt: expect.any(Date) as unknown };

    expect(await stores.callingOffs.readJob(job.jobId)).toMatchObject(terms);
    expect(await stores.sales.read(saleId)).toMatchObject({ calledOff: sku === '' ? 'sale' : 'skus' });
    const reserved = await stores.reservations.reserve(
      buildReserveRequest({ saleId, items: [{ sku: 'mug', quantity: 1 }] }),
    );
    expect(reserved.kind).toBe(sku === '' ? 'closed' : 'called-off');
    const actions = "SELECT detail FROM audit_log WHERE action = 'called_off' AND subject = ?";
    // The first is not lost here.
    expect(await select(stores.pool, actions, [`sale ${saleId}`])).toHaveLength(2);
  },
);

test('a job that MySQL has lost ends where the same was called off again, or where its sale is lost too', async () => {
  const saleId = await openSale();
  const job = await callOff(saleId);
  await loseJob(job);
  const another = await callOff(saleId);
  const steps = createCallOffActivities(stores);

  expect(await steps.endCallOffPass({ jobId: job.jobId, terms: job, left: 1 })).toBe(true);
  const elsewhere = { ...job, saleId: 'elsewhere' };
  expect(await steps.endCallOffPass({ jobId: job.jobId, terms: elsewhere, left: 1 })).toBe(true);

  expect(await stores.callingOffs.readJob(job.jobId)).toBeUndefined();
  expect(await stores.callingOffs.findJob({ saleId, sku: '' })).toEqual(another);
});
