/** The end of orders that no workflow has begun, from MySQL alone. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { inTransaction, modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { ageClaim } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay, sign } from '../support/payment-notices.ts';
import { everything, expectBooksToBalance, select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const SKUS = [
  { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 10_000, limitPerUser: null },
  { sku: 'mug', name: 'Mug', unitPrice: 1_450, total: 10_000, limitPerUser: null },
];
const WINDOW_MS = 60_000;
const GENTLY = { force: false };

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
// Nothing of an earlier test is due.
beforeEach(() =>
  modify(stores.pool, `UPDATE orders SET end_due_at = NULL, engine_due_at = NULL, status = 'failed'`),
);

const openSale = async () => (await stores.openSale(buildSale({ skus: SKUS }))).saleId;

/** Their deadlines have passed, the first one's longest ago. */
function buildLate(saleId: string, count: number, overrides: Partial<Order> = {}): Order[] {
  const reservedAtMs = Date.now() - WINDOW_MS - 1_000 - count;
  return Array.from({ length: count }, (_, i) =>
    buildOrder({ saleId, reservedAtMs: reservedAtMs + i, paymentWindowMs: WINDOW_MS, ...overrides }),
  );
}

async function storeLate(saleId: string, count = 1, presence: 'due' | 'claimed' | 'started' = 'due') {
  const orders = buildLate(saleId, count);
  await stores.orders.storeOrders(orders, presence);
  return orders;
}

const endPage = (limit = 100) => stores.endings.endPage(Date.now(), limit);
const numbersOf = (changes: readonly { orderNo: string }[]) => changes.map(({ orderNo }) => orderNo);
const stateOf = async (order: Order | undefined) => (await stores.orders.read(order?.orderNo ?? ''))?.state;

const marksOf = ({ orderNo }: Pick<Order, 'orderNo'>) =>
  selectOne(
    stores.pool,
    `SELECT workflow_started_at IS NOT NULL AS begun, engine_due_at IS NOT NULL AS due,
       end_begun_at IS NOT NULL AS ending, end_due_at IS NOT NULL AS left_to_do FROM orders WHERE order_no = ?`,
    [orderNo],
  );

async function beginSession({ orderNo }: Order): Promise<string> {
  // As it was before the deadline.
  await modify(stores.pool, 'UPDATE orders SET reserved_at = NOW(3) WHERE order_no = ?', [orderNo]);
  const begun = await stores.paymentSessions.begin('sandbox', orderNo, sign);
  if (begun.kind !== 'begun') throw new Error(begun.kind);
  return begun.session.sessionId;
}

/** What differs between any two orders: ids, and times. */
const OWN = /^(order_no|sale_id|idempotency_key|batch_id|entry_id|deadline|.*_at)$/;

async function rowsOf(saleId: string): Promise<unknown> {
  const tables = {
    ...(await everything(stores.pool, saleId)),
    parked: await select(
      stores.pool,
      `SELECT kind, cause, settled_by, resolved_at IS NULL AS open FROM parked
       WHERE reference IN (SELECT order_no FROM orders WHERE sale_id = ?) ORDER BY reference`,
      [saleId],
    ),
  };
  return Object.fromEntries(
    Object.entries(tables).map(([name, rows]) => [
      name,
      rows
        .map((row) => JSON.stringify(Object.entries(row).filter(([column]) => !OWN.test(column))))
        .toSorted(),
    ]),
  );
}

test('an order that never began ends as by its workflow: the rows differ in ids and times alone', async () => {
  async function makeOrders(presence: 'due' | 'started'): Promise<Order[]> {
    const saleId = await openSale();
    const [lamp, mug] = SKUS.map(({ sku, unitPrice }) => ({ sku, unitPrice, quantity: 2 }));
    const [plain, unwanted, mixed, parked] = [
      ...buildLate(saleId, 2),
      ...buildLate(saleId, 1, { items: lamp && mug ? [mug, lamp] : [] }),
      ...buildLate(saleId, 1, { userId: 'grace' }),
    ];
    const orders = [plain, unwanted, mixed, parked].flatMap((order) => order ?? []);
    await stores.orders.storeOrders(orders, presence);
    await stores.orders.requestCancel(unwanted?.orderNo ?? '');
    await stores.orders.park(parked?.orderNo ?? '', 'for the test', null);
    return orders;
  }

  const byWorkflow = await makeOrders('started');
  for (const { orderNo } of byWorkflow)
    expect(await stores.orders.cancel(orderNo, 'payment_timeout', GENTLY)).toMatchObject({ kind: 'ended' });
  const without = await makeOrders('due');
  // The time is over in which the API signals the wish itself.
  await ageClaim(stores.pool, 'start', 'all');
  const { taken, changed } = await endPage();
  expect(taken).toBe(without.length);
  expect(new Set(numbersOf(changed))).toEqual(new Set(numbersOf(without)));

  const [one, other] = [byWorkflow[0]?.saleId ?? '', without[0]?.saleId ?? ''];
  expect(await rowsOf(other)).toEqual(await rowsOf(one));
  await expectBooksToBalance(stores, other);
  for (const { orderNo, state } of changed) expect((await stores.orders.read(orderNo))?.state).toEqual(state);
  expect((await stateOf(without[1]))?.reason).toBe('shopper_request');
});

test('only what no workflow has begun ends: not what is begun, paid, claimed, ended, or has time left', async () => {
  const saleId = await openSale();
  const [begun] = await storeLate(saleId, 1, 'started');
  const [claimed] = await storeLate(saleId, 1, 'claimed');
  const [paid] = await storeLate(saleId);
  if (paid) await pay(stores, paid);
  const inTime = buildOrder({ saleId });
  await stores.orders.storeOrder(inTime, 'due');
  const before = await everything(stores.pool, saleId);

  expect(await endPage()).toMatchObject({ taken: 0, changed: [] });

  expect(await everything(stores.pool, saleId)).toEqual(before);
  await ageClaim(stores.pool, 'start', 'all');
  expect(numbersOf((await endPage()).changed)).toEqual([claimed?.orderNo]);
  expect(await endPage()).toMatchObject({ taken: 0 });
  expect((await stateOf(begun))?.status).toBe('awaiting_payment');
});

test('the deadline is judged by the clock that is given', async () => {
  const saleId = await openSale();
  const order = buildOrder({ saleId, paymentWindowMs: WINDOW_MS });
  await stores.orders.storeOrder(order, 'due');
  const deadlineMs = order.reservedAtMs + WINDOW_MS;
  expect(await stores.endings.endPage(deadlineMs - 1, 10)).toMatchObject({ changed: [] });
  expect(numbersOf((await stores.endings.endPage(deadlineMs, 10)).changed)).toEqual([order.orderNo]);
});

test('two processes that end at once end each order once', async () => {
  const saleId = await openSale();
  const orders = await storeLate(saleId, 60);
  const pages = await Promise.all(Array.from({ length: 6 }, () => endPage(10)));
  const rest = await endPage();
  const ended = [...pages, rest].flatMap((page) => numbersOf(page.changed));
  expect(ended.toSorted()).toEqual(numbersOf(orders).toSorted());
  await expectBooksToBalance(stores, saleId);
});

test('an order that another transaction holds keeps none of the others back', async () => {
  const saleId = await openSale();
  const [held, free] = await storeLate(saleId, 2);
  await inTransaction(stores.pool, async (connection) => {
    await connection.query('SELECT order_no FROM orders WHERE order_no = ? FOR UPDATE', [held?.orderNo]);
    expect(numbersOf((await endPage()).changed)).toEqual([free?.orderNo]);
  });
  expect(numbersOf((await endPage()).changed)).toEqual([held?.orderNo]);
});

test('money that comes after the end goes back', async () => {
  const [order] = await storeLate(await openSale());
  await endPage();
  if (order) await pay(stores, order);
  expect(
    await select(stores.pool, 'SELECT refund_reason FROM payments WHERE order_no = ?', [order?.orderNo]),
  ).toEqual([{ refund_reason: 'order_ended' }]);
});

test('an order with an open session only becomes closing, and no session opens any more', async () => {
  const saleId = await openSale();
  const [paged, plain] = await storeLate(saleId, 2);
  if (!paged) throw new Error('an order');
  const sessionId = await beginSession(paged);

  const { changed } = await endPage();
  const state = { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'payment_timeout' };
  const ended = { status: 'cancelled', version: 3, payment: 'none', reason: 'payment_timeout' };
  expect(new Set(changed)).toEqual(
    new Set([
      { orderNo: paged.orderNo, state },
      { orderNo: plain?.orderNo, state: ended },
    ]),
  );
  expect(await stateOf(paged)).toEqual(state);
  expect(await marksOf(paged)).toEqual({ begun: 0, due: 0, ending: 1, left_to_do: 1 });
  expect((await stores.paymentSessions.begin('sandbox', paged.orderNo, sign)).kind).toBe('not-payable');
  expect(await endPage()).toMatchObject({ taken: 0 });

  expect(await stores.endings.takeClosing(10)).toEqual([{ orderNo: paged.orderNo, isOverdue: false }]);
  expect(await stores.endings.takeClosing(10)).toEqual([]);
  expect(await stores.endings.endOne(paged.orderNo, GENTLY)).toBeUndefined();
  await stores.paymentSessions.recordClosed(sessionId, 'voided');
  expect(await stores.endings.endOne(paged.orderNo, GENTLY)).toMatchObject({
    state: { status: 'cancelled', version: 3, reason: 'payment_timeout' },
  });
  await expectBooksToBalance(stores, saleId);
});

test('a closing order is claimed once more when its claim has run out, and is over its time after a minute', async () => {
  const [order] = await storeLate(await openSale());
  if (!order) throw new Error('an order');
  await beginSession(order);
  await endPage();
  await stores.endings.takeClosing(10);
  await ageClaim(stores.pool, 'end', 'all');
  await ageClaim(stores.pool, 'closing', 'all', 61);
  expect(await stores.endings.takeClosing(10)).toEqual([{ orderNo: order.orderNo, isOverdue: true }]);
  expect(await stores.endings.endOne(order.orderNo, { force: true })).toMatchObject({
    state: { status: 'cancelled' },
  });
});

test('a payment that comes while its order is closing pays for it, and nothing but Redis is left to follow', async () => {
  const [order] = await storeLate(await openSale());
  if (!order) throw new Error('an order');
  await beginSession(order);
  await endPage();
  await pay(stores, order);

  const paid = { status: 'paid', version: 3, payment: 'applied', reason: null };
  expect(await stateOf(order)).toEqual(paid);
  expect(await stores.endings.takeClosing(10)).toEqual([]);
  // The process that had claimed it comes to end it.
  expect(await stores.endings.endOne(order.orderNo, { force: true })).toBeUndefined();
  await stores.endings.putOff(order.orderNo, 60_000);
  expect(await marksOf(order)).toMatchObject({ begun: 0, due: 0, left_to_do: 1 });
  await ageClaim(stores.pool, 'end', order.orderNo);
  expect(await stores.endings.takeEnded(10)).toEqual([{ orderNo: order.orderNo, state: paid }]);
});

test('an ended order stays due until Redis has it, whoever dies', async () => {
  const [order] = await storeLate(await openSale());
  const { changed } = await endPage();
  expect(await stores.endings.takeEnded(10)).toEqual([]);
  await ageClaim(stores.pool, 'end', 'all');
  expect(await stores.endings.takeEnded(10)).toEqual(changed);
  expect(await stores.endings.takeEnded(10)).toEqual([]);
  await stores.endings.completeFollow(numbersOf(changed), false);
  await ageClaim(stores.pool, 'end', 'all');
  expect(await stores.endings.takeEnded(10)).toEqual([]);
  expect(order && (await marksOf(order))).toEqual({ begun: 0, due: 0, ending: 0, left_to_do: 0 });
});

test('every end is due for Redis to follow: paid and cancelled, by whomever, and of a free order', async () => {
  const saleId = await openSale();
  const [paid, cancelled, late] = [buildOrder({ saleId }), buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.storeOrders([paid, cancelled, late], 'started');
  const abandoned = buildOrder({ saleId });
  const free = buildOrder({ saleId, items: [{ sku: 'mug', quantity: 1, unitPrice: 0 }], total: 0 });

  await pay(stores, paid);
  await stores.orders.cancel(cancelled.orderNo, 'shopper_request', GENTLY);
  await stores.orders.abandon(abandoned, 'lost_hold');
  await stores.orders.storeOrder(free, 'due');

  expect(await stores.endings.takeEnded(10)).toEqual([]);
  await ageClaim(stores.pool, 'end', 'all');
  const due = numbersOf(await stores.endings.takeEnded(10));
  expect(new Set(due)).toEqual(new Set(numbersOf([paid, cancelled, abandoned, free])));
});

test("a workflow's own end needs no signal, and another end is signalled until the workflow follows it", async () => {
  const saleId = await openSale();
  const [own, other] = [buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.storeOrders([own, other], 'started');
  await stores.orders.cancel(own.orderNo, 'shopper_request', GENTLY);
  await pay(stores, other);
  expect(await marksOf(own)).toMatchObject({ due: 0 });
  expect(await marksOf(other)).toMatchObject({ due: 1 });
  await stores.endings.completeFollow([other.orderNo], false);
  expect(await marksOf(other)).toMatchObject({ due: 1, left_to_do: 0 });
  await stores.endings.completeFollow([other.orderNo], true);
  expect(await marksOf(other)).toMatchObject({ due: 0 });
});

test('an order that cannot be ended keeps none of the others back, and is due to be ended alone', async () => {
  const saleId = await openSale();
  const [first, broken, last] = await storeLate(saleId, 3);
  // Its line names a SKU that the sale does not have.
  await modify(stores.pool, `UPDATE order_items SET sku = 'gone' WHERE order_no = ?`, [broken?.orderNo]);

  const ended: string[] = [];
  for (let taken = 1; taken > 0;) {
    const page = await endPage();
    ended.push(...numbersOf(page.changed));
    taken = page.taken;
  }

  expect(new Set(ended)).toEqual(new Set([first?.orderNo, last?.orderNo]));
  expect((await stores.endings.takeClosing(10)).map(({ orderNo }) => orderNo)).toEqual([broken?.orderNo]);
  await expect(stores.endings.endOne(broken?.orderNo ?? '', GENTLY)).rejects.toThrow('has no SKU');
  await modify(stores.pool, `UPDATE order_items SET sku = 'lamp' WHERE order_no = ?`, [broken?.orderNo]);
  expect(await stores.endings.endOne(broken?.orderNo ?? '', GENTLY)).toMatchObject({
    state: { status: 'cancelled', version: 3 },
  });
  await expectBooksToBalance(stores, saleId);
});

test('an order whose start may have reached Temporal is due once more when it has ended, to tell its workflow', async () => {
  const saleId = await openSale();
  const [claimed] = await storeLate(saleId, 1, 'claimed');
  const [plain] = await storeLate(saleId, 1, 'due');
  await ageClaim(stores.pool, 'start', 'all');
  await endPage();

  // The claim may have been made just now, and its start may still succeed.
  expect(await stores.orderClaims.take(10)).toEqual([]);
  await ageClaim(stores.pool, 'start', 'all');
  const due = await stores.orderClaims.take(10);
  expect(due).toMatchObject([{ order: { orderNo: claimed?.orderNo }, state: { status: 'cancelled' } }]);
  await stores.orderClaims.complete(due);

  for (const order of [claimed, plain])
    expect(order && (await marksOf(order))).toMatchObject({ begun: 0, due: 0 });
});

test('so is one that was stored before, and whose entry came again to be started', async () => {
  const saleId = await openSale();
  const [order] = await storeLate(saleId, 1, 'due');
  if (!order) throw new Error('an order');
  await stores.orders.storeOrder(order, 'claimed');
  await endPage();
  await ageClaim(stores.pool, 'start', 'all');

  expect(await stores.orderClaims.take(10)).toMatchObject([
    { order: { orderNo: order.orderNo }, state: { status: 'cancelled' } },
  ]);
});

test('an order that ended while it was being started is due, to tell its workflow', async () => {
  const saleId = await openSale();
  const order = buildOrder({ saleId, paymentWindowMs: WINDOW_MS });
  await stores.orders.storeOrder(order, 'due');
  const claimed = await stores.orderClaims.take(10, 10, order.reservedAtMs);
  // The process that starts it is frozen for longer than its claim lasts, and tells Temporal late.
  await ageClaim(stores.pool, 'start', 'all');
  await stores.endings.endPage(order.reservedAtMs + WINDOW_MS, 10);
  const before = await stores.orderClaims.take(10);
  await stores.orderClaims.complete(before);

  await stores.orderClaims.complete(claimed);

  expect(await stores.orderClaims.take(10)).toMatchObject([
    { order: { orderNo: order.orderNo }, state: { status: 'cancelled' } },
  ]);
});
