/** The calling-off of a sale, or of a SKU of it: the job, the sale, and the money that is asked back. */

import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCallOffActivities } from '../../src/activities/call-off.ts';
import { refundRequestSchema, toRefundWish, type Reversal } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import type { CallOffJob } from '../../src/sales/calling-off.sql.ts';
import { refuseOrders, reportOf } from '../../src/sales/calling-off.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import type { TestStores } from '../support/stores.ts';
import { BY, line, openCallingOffWorld, type CallingOffWorld } from './calling-off-world.ts';

let world: CallingOffWorld;
let stores: TestStores;
beforeAll(async () => {
  world = await openCallingOffWorld();
  ({ stores } = world);
});
afterAll(() => world.close());

/** Money of the order's payment moves at the provider. */
async function reverse(order: Order, reversal: Pick<Reversal, 'kind' | 'amount' | 'status'>): Promise<void> {
  const { providerPaymentId } = await world.paymentOf(order);
  const providerReversalId = `${reversal.kind}-${order.orderNo}`;
  await stores.refunds.recordReversals('sandbox', [
    { ...reversal, currency: 'EUR', providerReversalId, providerPaymentId },
  ]);
}

test('a repeat answers with the same job, and one on other terms is refused', async () => {
  const saleId = await world.openSale();
  const mug = await world.callOff(saleId, { sku: 'mug' });

  expect(await stores.callingOffs.callOff({ saleId, sku: 'mug' }, false, BY)).toEqual({
    kind: 'repeated',
    job: mug,
  });
  const { kind } = await stores.callingOffs.callOff({ saleId, sku: 'mug' }, true, BY);
  expect(kind).toBe('otherwise');
  const whole = await world.callOff(saleId);
  expect(whole.jobId).not.toBe(mug.jobId);
  expect((await stores.callingOffs.callOff({ saleId, sku: 'lamp' }, false, BY)).kind).toBe('otherwise');
  expect((await stores.callingOffs.callOff({ saleId: 'nothing', sku: '' }, false, BY)).kind).toBe('unknown');
});

test('of a paid order all that is left is asked back once, whatever went back before', async () => {
  const saleId = await world.openSale();
  const charges = [{ code: 'shipping', name: 'Shipping', amount: 500 }];
  const order = await world.paidOrder(saleId, { items: [line('lamp', 2)], charges, total: 10_300 });
  const key = { idempotencyKey: 'goodwill', fingerprint: 'f' };
  const goodwill = { kind: 'money', amount: 300, restock: false, restoresLimit: false } as const;
  await stores.refunds.requestByOrder(order.orderNo, goodwill, BY, key);
  const job = await world.callOff(saleId, { restock: true });

  expect([await world.ask(order, job), await world.ask(order, job)]).toEqual(['requested', 'requested']);

  expect(await world.refundsOf(order)).toMatchObject([
    { amount: 300 },
    { amount: 10_000, items: [{ sku: 'lamp', quantity: 2 }], charges: true, restock: true },
  ]);
});

test('of a SKU its lines are asked back, and the charges where nothing else is left', async () => {
  const saleId = await world.openSale();
  const charges = [{ code: 'shipping', name: 'Shipping', amount: 500 }];
  const both = await world.paidOrder(saleId, {
    items: [line('lamp', 1), line('mug', 2)],
    charges,
    total: 8_300,
  });
  const alone = await world.paidOrder(saleId, { items: [line('mug', 1)], charges, total: 1_950 });
  const without = await world.paidOrder(saleId);
  const mug = await world.callOff(saleId, { sku: 'mug' });

  for (const order of [both, alone]) expect(await world.ask(order, mug)).toBe('requested');
  expect(await world.ask(without, mug)).toBe('nothing');
  expect(await world.refundsOf(both)).toMatchObject([
    { amount: 2_900, items: [{ sku: 'mug', quantity: 2 }], charges: false, restock: false },
  ]);
  expect(await world.refundsOf(alone)).toMatchObject([{ amount: 1_950, charges: true }]);

  const lamp = await world.callOff(saleId, { sku: 'lamp' });
  expect(await world.ask(both, lamp)).toBe('requested');
  expect((await world.refundsOf(both)).at(-1)).toMatchObject({ amount: 5_400, charges: true });
  expect(await world.refundsOf(both)).toHaveLength(2);
});

test('of a SKU nothing is asked back beside money that went back unasked, as that may be for its units', async () => {
  const saleId = await world.openSale();
  const both = await world.paidOrder(saleId, { items: [line('lamp', 1), line('mug', 2)], total: 7_800 });
  const mug = await world.callOff(saleId, { sku: 'mug' });
  // As after the loss of the very refund that the job had requested.
  await reverse(both, { kind: 'refund', amount: 2_900, status: 'succeeded' });

  expect(await world.ask(both, mug)).toBe('not_refundable');

  expect(await world.refundsOf(both)).toEqual([]);
  const lamp = await world.callOff(saleId, { sku: 'lamp' });
  expect(await world.ask(both, lamp)).toBe('not_refundable');
  const all = await world.callOff(saleId);
  expect(await world.ask(both, all)).toBe('requested');
  expect(await world.refundsOf(both)).toMatchObject([{ amount: 4_900 }]);
});

/** With more units than the orders of a test take. */
async function openLargeSale(): Promise<string> {
  const { skus } = buildSale();
  return (await stores.openSale(buildSale({ skus: skus.map((item) => ({ ...item, total: 100 })) }))).saleId;
}

test.each([
  ['', 6_350 + 1_950 + 8_300 + 1_800 + 4 * 1_450],
  ['mug', 1_450 + 1_950 + 2_900 + 1_800 + 4 * 1_450],
  ['lamp', 4_900 + 4_900 + 1_800],
])('a dry run of SKU "%s" counts what its job then asks back', async (sku, amount) => {
  const saleId = await openLargeSale();
  const shipping = [{ code: 'shipping', name: 'Shipping', amount: 500 }];
  const voucher = [{ code: 'voucher', name: 'Voucher', amount: -6_000 }];
  const both = { items: [line('lamp', 1), line('mug', 2)] };
  const returned = await world.paidOrder(saleId, both);
  const orders = [
    returned,
    await world.paidOrder(saleId, { items: [line('mug', 1)], charges: shipping, total: 1_950 }),
    await world.paidOrder(saleId, { ...both, charges: shipping, total: 8_300 }),
    await world.paidOrder(saleId, { ...both, charges: voucher, total: 1_800 }),
    await world.paidOrder(saleId, { items: [line('mug', 4)] }),
  ];
  const oneMug = toRefundWish(refundRequestSchema.parse({ lines: [{ sku: 'mug', quantity: 1 }] }));
  const key = { idempotencyKey: 'one-mug', fingerprint: 'f' };
  await stores.refunds.requestByOrder(returned.orderNo, oneMug, BY, key);

  const dry = await stores.callingOffs.preview({ saleId, sku });

  const job = await world.callOff(saleId, { sku });
  for (const order of orders) await world.ask(order, job);
  const { requested } = await reportOf(stores, job);
  expect(dry).toMatchObject({ paid: requested, open: { orders: 0 }, next: null });
  expect(requested.amount).toBe(amount);
});

test('a dry run says of a dispute what it keeps from going back, beside what goes back', async () => {
  const saleId = await world.openSale();
  const [whole, part] = [await world.paidOrder(saleId), await world.paidOrder(saleId)];
  await reverse(whole, { kind: 'dispute', amount: 4_900, status: 'pending' });
  await reverse(part, { kind: 'dispute', amount: 1_000, status: 'pending' });

  expect(await stores.callingOffs.preview({ saleId, sku: '' })).toMatchObject({
    paid: { orders: 1, amount: 3_900 },
    disputed: { orders: 2, amount: 5_900 },
  });
});

test('an order is listed as disputed also where the dispute is opened after its page was read', async () => {
  const saleId = await world.openSale();
  const order = await world.paidOrder(saleId);
  const job = await world.callOff(saleId);
  // All of the money is with the payer, so nothing is asked for.
  const listPaid: typeof stores.callingOffs.listPaid = async (...args) => {
    const page = await stores.callingOffs.listPaid(...args);
    await reverse(order, { kind: 'dispute', amount: 4_900, status: 'pending' });
    return page;
  };

  await world.passOn(job, 'paid', '', { callingOffs: { ...stores.callingOffs, listPaid } });

  expect(await world.refundsOf(order)).toEqual([]);
  expect((await reportOf(stores, job)).exceptions).toEqual([{ orderNo: order.orderNo, cause: 'disputed' }]);
});

test('refunds under way are counted where an order is to be asked back, and at the end of a pass', async () => {
  const saleId = await world.openSale();
  const orders: Order[] = [];
  for (let i = 0; i < 4; i += 1) orders.push(await world.paidOrder(saleId));
  orders.sort((a, b) => (a.orderNo < b.orderNo ? -1 : 1));
  const job = await world.callOff(saleId);
  for (const order of orders.slice(0, 3)) await world.ask(order, job);
  let counts = 0;
  // As if as many refunds were under way as may be.
  const countPending: typeof stores.callingOffs.countPending = async (jobId) => {
    counts += 1;
    return { ...(await stores.callingOffs.countPending(jobId)), busy: 50 };
  };
  // The first page is full, of two orders that were asked for, again and again.
  const listPaid: typeof stores.callingOffs.listPaid = async (of, after, limit) => {
    const page = await stores.callingOffs.listPaid(of, after, after === '' ? 2 : limit);
    if (after !== '') return page;
    return { ...page, orders: Array.from({ length: limit / 2 }, () => page.orders).flat() };
  };
  const callingOffs = { ...stores.callingOffs, countPending, listPaid };
  const passOn = (after: string) => world.passOn(job, 'paid', after, { callingOffs });

  const { next } = await passOn('');
  expect([next, counts]).toEqual([{ phase: 'paid', after: orders[1]?.orderNo }, 0]);

  expect(await passOn(next?.after ?? '')).toMatchObject({ left: 0, isFull: true });
  expect(counts).toBe(1);
  for (const order of orders.slice(3)) await world.ask(order, job);
  expect(await passOn(next?.after ?? '')).toEqual({ next: undefined, left: 4, isFull: false });
  expect(counts).toBe(2);
});

test('what staff have withdrawn is not asked for again', async () => {
  const saleId = await world.openSale();
  const order = await world.paidOrder(saleId);
  const job = await world.callOff(saleId);
  await world.ask(order, job);
  const [refund] = await stores.refunds.readRefundsOf(order.orderNo);
  await stores.refunds.withdraw(order.orderNo, refund?.refundId ?? 0, BY);

  await world.ask(order, job);

  expect(await world.refundsOf(order)).toMatchObject([{ status: 'failed' }]);
  expect(await reportOf(stores, job)).toMatchObject({ withdrawn: { orders: 1 }, requested: { orders: 0 } });
});

test('of refunds under way those count that are neither refused nor disputed; accepted ones take no place', async () => {
  const saleId = await world.openSale();
  const [refused, disputed, accepted, busy] = [
    await world.paidOrder(saleId),
    await world.paidOrder(saleId),
    await world.paidOrder(saleId),
    await world.paidOrder(saleId),
  ];
  const job = await world.callOff(saleId);
  for (const order of [refused, disputed, accepted, busy]) await world.ask(order, job);
  // The provider may accept what it refused at first.
  for (const order of [refused, accepted]) await stores.refunds.recordRefusal(await world.paymentOf(order));
  await reverse(disputed, { kind: 'dispute', amount: 4_900, status: 'pending' });
  await reverse(accepted, { kind: 'refund', amount: 4_900, status: 'pending' });

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

test('a refund that fails after the provider accepted it, or after it succeeded, is worked on again', async () => {
  const saleId = await world.openSale();
  const order = await world.paidOrder(saleId);
  const job = await world.callOff(saleId);
  await world.ask(order, job);
  const counts = async () => {
    const { unended, busy } = await stores.callingOffs.countPending(job.jobId);
    const { requested, refunded } = await reportOf(stores, job);
    return [unended, busy, requested.orders, refunded.orders];
  };
  const seen: unknown[] = [await counts()];
  for (const status of ['pending', 'succeeded', 'failed'] as const) {
    await reverse(order, { kind: 'refund', amount: 4_900, status });
    await stores.pool.query('UPDATE refunds SET given_back = TRUE WHERE order_no = ?', [order.orderNo]);
    seen.push(await counts());
  }

  expect(seen).toEqual([
    [1, 1, 1, 0],
    [1, 0, 1, 0],
    [0, 0, 0, 1],
    [1, 1, 1, 0],
  ]);
});

test('a refusal of an earlier refund makes the one of a job no refused one', async () => {
  const saleId = await world.openSale();
  const order = await world.paidOrder(saleId);
  const payment = await world.paymentOf(order);
  await stores.refunds.recordRefusal(payment);
  const job = await world.callOff(saleId);
  await world.ask(order, job);

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
  expect((await reportOf(stores, job)).exceptions).toEqual([{ orderNo: order.orderNo, cause: 'refused' }]);
  const refusal = { code: 'charge_disputed', message: 'There is an open dispute about it.' };
  await stores.refunds.recordRefusal(payment, { target: 4_900, refusal });
  expect((await reportOf(stores, job)).exceptions).toMatchObject([{ cause: 'refused', refusal }]);
});

test('a refund that an operator has settled by hand takes no place and keeps no job from its end', async () => {
  const saleId = await world.openSale();
  const order = await world.paidOrder(saleId);
  const job = await world.callOff(saleId);
  await world.ask(order, job);
  const { paymentId, providerPaymentId } = await world.paymentOf(order);
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
  const saleId = await world.openSale();
  const orders: Order[] = [];
  for (let i = 0; i < 5; i += 1) orders.push(await world.paidOrder(saleId));
  const job = await world.callOff(saleId);
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
  const pass = () => world.passOn(job, 'paid', '', { callingOffs });

  expect(await pass()).toEqual({ next: undefined, left: 5, isFull: false });
  expect(await pass()).toEqual({ next: undefined, left: 1, isFull: false });
  expect((await Promise.all(orders.map(world.refundsOf))).flat()).toHaveLength(4);

  // So few of so many are refused each for itself.
  others.asked = 10_001;
  expect(await pass()).toEqual({ next: undefined, left: 6, isFull: false });
  expect((await Promise.all(orders.map(world.refundsOf))).flat()).toHaveLength(5);
});

test('a called-off SKU stays so through a change of the sale, and a rebuild', async () => {
  const sale = await stores.openSale(buildSale());
  const { saleId } = sale;
  await refuseOrders(stores, await world.callOff(saleId, { sku: 'mug' }));
  const put = { action: 'put', sale: { ...sale, name: 'Renamed' }, isDraft: false } as const;
  const recorded = await stores.saleChanges.record({ ...put, ifMatch: undefined, isNew: false }, BY);
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  await stores.saleChanges.complete(recorded.change, stores.saleStock);
  const refused = { kind: 'called-off', sku: 'mug' };
  expect(await world.reserveMug(saleId)).toEqual(refused);

  await rebuildSale(stores, saleId, { cause: 'unfinished' });

  expect(await world.reserveMug(saleId)).toEqual(refused);
  expect(await stores.sales.read(saleId)).toMatchObject({ calledOff: 'skus', sale: { name: 'Renamed' } });
});

test('a called-off SKU that is taken out and put again before its sale is in Redis is refused', async () => {
  const sale = buildSale();
  const { saleId } = sale;
  await stores.sales.create(sale);
  await refuseOrders(stores, await world.callOff(saleId, { sku: 'mug' }));
  const put = { action: 'put', isDraft: false, ifMatch: undefined, isNew: false } as const;
  const without = { ...sale, skus: sale.skus.filter(({ sku }) => sku !== 'mug') };
  for (const changed of [without, sale])
    expect((await stores.saleChanges.record({ ...put, sale: changed }, BY)).kind).toBe('changed');

  await stores.sales.warmUp(saleId, stores.saleStock);

  expect(await world.reserveMug(saleId)).toEqual({ kind: 'called-off', sku: 'mug' });
});

test('a sale that is called off before it opens is closed, and one that was never in Redis too', async () => {
  const opensAtMs = Date.now() + 3_600_000;
  const sale = buildSale({ opensAtMs, closesAtMs: opensAtMs + 1 });
  await stores.sales.create(sale);
  const job = await world.callOff(sale.saleId);
  await refuseOrders(stores, job);
  await refuseOrders(stores, job);
  const found = await stores.sales.read(sale.saleId);
  expect(found?.sale.closesAtMs).toBeLessThanOrEqual(found?.nowMs ?? 0);
});

test('what calling off has done is in the log of actions and in the feed, once each', async () => {
  const saleId = await world.openSale();
  const { jobId } = await world.callOff(saleId);
  await world.callOff(saleId);
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
    const saleId = await world.openSale();
    const job = await world.callOff(saleId, { sku });
    await world.storeOrder(saleId, { items: [line('mug', 1)] });
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
    expect((await world.reserveMug(saleId)).kind).toBe(sku === '' ? 'closed' : 'called-off');
    const actions = "SELECT detail FROM audit_log WHERE action = 'called_off' AND subject = ?";
    // The first is not lost here.
    expect(await select(stores.pool, actions, [`sale ${saleId}`])).toHaveLength(2);
  },
);

test('a job that MySQL has lost ends where the same was called off again, or where its sale is lost too', async () => {
  const saleId = await world.openSale();
  const job = await world.callOff(saleId);
  await loseJob(job);
  const another = await world.callOff(saleId);
  const steps = createCallOffActivities(stores);

  expect(await steps.endCallOffPass({ jobId: job.jobId, terms: job, left: 1 })).toBe(true);
  const elsewhere = { ...job, saleId: 'elsewhere' };
  expect(await steps.endCallOffPass({ jobId: job.jobId, terms: elsewhere, left: 1 })).toBe(true);

  expect(await stores.callingOffs.readJob(job.jobId)).toBeUndefined();
  expect(await stores.callingOffs.findJob({ saleId, sku: '' })).toEqual(another);
});
