/** Deadlines that staff extend: against the timer, a payment, a wish to cancel, and the end from MySQL. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { readFeed } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay, sign } from '../support/payment-notices.ts';
import { everything, expectBooksToBalance, select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
// No order of an earlier test is overdue.
beforeEach(() => modify(stores.pool, `UPDATE orders SET status = 'failed'`));

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const OLGA = { actor: 'olga', reason: 'the bank was down' };
const GENTLY = { force: false };

async function stored(overrides: Partial<Order> = {}, presence: 'due' | 'started' = 'due'): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId, ...overrides });
  await stores.orders.storeOrder(order, presence);
  return order;
}
/** Its deadline has passed. */
const late = (presence: 'due' | 'started' = 'due') =>
  stored({ reservedAtMs: Date.now() - HOUR_MS, paymentWindowMs: HOUR_MS - MINUTE_MS }, presence);

const extend = ({ orderNo }: Order, untilMs: number) => stores.deadlines.extend(orderNo, untilMs, OLGA);
const stateOf = async ({ orderNo }: Order) => (await stores.orders.read(orderNo))?.state;
const begin = ({ orderNo }: Order) => stores.paymentSessions.begin('sandbox', orderNo, sign);
const endPage = () => stores.endings.endPage(Date.now(), 100);
const untilOf = async ({ orderNo }: Order) =>
  (await selectOne(stores.pool, 'SELECT deadline, extended_until FROM orders WHERE order_no = ?', [orderNo]))[
    'deadline'
  ];

test('a deadline is extended by one version, with an event of its own and an entry of who did it', async () => {
  const order = await stored();
  const untilMs = Date.now() + 2 * HOUR_MS;
  expect(await extend(order, untilMs)).toMatchObject({ kind: 'extended', isNews: true });

  const state = { status: 'awaiting_payment', version: 2, payment: 'none', reason: null };
  expect(await stateOf(order)).toEqual({ ...state, extendedUntilMs: untilMs });
  expect(await untilOf(order)).toEqual(new Date(untilMs));
  const events = (await readFeed(stores)).filter((event) => event.saleId === order.saleId);
  const first = new Date(order.reservedAtMs + order.paymentWindowMs).toISOString();
  const later = new Date(untilMs).toISOString();
  // Each as of its own version, though they are read afterwards.
  expect(events).toMatchObject([
    { type: 'order.awaiting_payment', version: 1, data: { order: { deadline: first } } },
    { type: 'order.deadline_extended', version: 2, data: { order: { deadline: later } } },
  ]);
  const log = 'SELECT actor, action, reason, detail FROM audit_log WHERE subject = ?';
  const [entry, ...others] = await select(stores.pool, log, [order.orderNo]);
  expect(others).toEqual([]);
  expect(entry).toMatchObject({ actor: 'olga', action: 'deadline_extended', reason: OLGA.reason });
  expect(JSON.parse(String(entry?.['detail']))).toEqual({ before: first, after: later });
});

test('a repeat adds nothing, and a later time is one more extension', async () => {
  const order = await stored();
  const untilMs = Date.now() + HOUR_MS;
  await extend(order, untilMs);
  const before = await everything(stores.pool, order.saleId);
  expect(await extend(order, untilMs)).toMatchObject({ kind: 'extended', isNews: false });
  expect(await everything(stores.pool, order.saleId)).toEqual(before);
  expect(await extend(order, untilMs + 1)).toMatchObject({ kind: 'extended', isNews: true });
  expect(await stateOf(order)).toMatchObject({ version: 3, extendedUntilMs: untilMs + 1 });
});

test('two who extend at once to the same time extend it once', async () => {
  const order = await stored();
  const untilMs = Date.now() + HOUR_MS;
  const outcomes = await Promise.all([extend(order, untilMs), extend(order, untilMs)]);
  expect(outcomes.filter((outcome) => outcome.kind === 'extended' && outcome.isNews)).toHaveLength(1);
  expect(await stateOf(order)).toMatchObject({ version: 2 });
});

test('an earlier time, one that has passed, and one more than a day after the reservation are refused', async () => {
  const [order, passed] = [await stored(), await late()];
  const [deadlineMs, latestMs] = [
    order.reservedAtMs + order.paymentWindowMs,
    order.reservedAtMs + 24 * HOUR_MS,
  ];
  const refused = { kind: 'out-of-range', afterMs: deadlineMs, untilMs: latestMs };
  expect(await extend(order, deadlineMs - 1)).toEqual(refused);
  expect(await extend(order, latestMs + 1)).toEqual(refused);
  expect(await extend(passed, Date.now() - 1_000)).toMatchObject({ kind: 'out-of-range' });
  expect(await extend(order, latestMs)).toMatchObject({ kind: 'extended' });
  expect(await extend(buildOrder(), latestMs)).toEqual({ kind: 'not-stored' });
});

test('an order that is paid, closing, being ended or over is not extended', async () => {
  const [paid, wanted, ended, ending] = [await stored(), await stored(), await stored(), await stored()];
  await pay(stores, paid);
  await stores.orders.requestCancel(wanted.orderNo);
  await stores.orders.cancel(ended.orderNo, 'payment_timeout', GENTLY);
  await modify(stores.pool, 'UPDATE orders SET end_begun_at = NOW(3) WHERE order_no = ?', [ending.orderNo]);
  for (const order of [paid, wanted, ended, ending]) {
    const before = await everything(stores.pool, order.saleId);
    expect(await extend(order, Date.now() + HOUR_MS)).toMatchObject({ kind: 'not-open' });
    expect(await everything(stores.pool, order.saleId)).toEqual(before);
  }
  expect(await stateOf(paid)).toMatchObject({ status: 'paid' });
});

test('against the timer: the step that would cancel says how long is left, and later cancels', async () => {
  const order = await late('started');
  const untilMs = Date.now() + HOUR_MS;
  await extend(order, untilMs);
  const before = await everything(stores.pool, order.saleId);

  const outcome = await stores.orders.cancel(order.orderNo, 'payment_timeout', GENTLY);
  if (outcome.kind !== 'extended') throw new Error(outcome.kind);
  expect(outcome.leftMs).toBeGreaterThan(HOUR_MS - MINUTE_MS);
  expect(outcome.leftMs).toBeLessThanOrEqual(HOUR_MS);
  expect(await everything(stores.pool, order.saleId)).toEqual(before);

  // That time is over.
  await modify(stores.pool, 'UPDATE orders SET extended_until = ? WHERE order_no = ?', [
    new Date(Date.now() - 1),
    order.orderNo,
  ]);
  expect(await stores.orders.cancel(order.orderNo, 'payment_timeout', GENTLY)).toMatchObject({
    kind: 'ended',
    state: { status: 'cancelled', reason: 'payment_timeout', version: 4 },
  });
  await expectBooksToBalance(stores, order.saleId);
});

test('against the timer in the same moment: either the order ends or it goes on, never both', async () => {
  for (let i = 0; i < 10; i += 1) {
    const order = await late('started');
    const [extension, cancel] = await Promise.all([
      extend(order, Date.now() + HOUR_MS),
      stores.orders.cancel(order.orderNo, 'payment_timeout', GENTLY),
    ]);
    const { status } = (await stateOf(order)) ?? {};
    const expected = extension.kind === 'extended' ? 'awaiting_payment' : 'cancelled';
    expect([status, cancel.kind]).toEqual([expected, expected === 'cancelled' ? 'ended' : 'extended']);
  }
});

test('a payment, and a wish to cancel, end an extended order as any other', async () => {
  const [paid, wanted] = [await late('started'), await late('started')];
  for (const order of [paid, wanted]) await extend(order, Date.now() + HOUR_MS);
  await pay(stores, paid);
  expect(await stores.orders.cancel(paid.orderNo, 'payment_timeout', GENTLY)).toMatchObject({
    kind: 'ended',
    state: { status: 'paid', version: 3 },
  });
  await stores.orders.requestCancel(wanted.orderNo);
  expect(await stores.orders.cancel(wanted.orderNo, 'payment_timeout', GENTLY)).toMatchObject({
    kind: 'ended',
    state: { status: 'cancelled', reason: 'shopper_request' },
  });
});

test('the ending from MySQL goes by the later deadline', async () => {
  const order = await late();
  await extend(order, Date.now() + HOUR_MS);
  expect((await endPage()).changed.map(({ orderNo }) => orderNo)).not.toContain(order.orderNo);
  const { changed } = await stores.endings.endPage(Date.now() + HOUR_MS + 1, 100);
  expect(changed).toContainEqual({
    orderNo: order.orderNo,
    state: expect.objectContaining({ status: 'cancelled', version: 4 }) as unknown,
  });
  await expectBooksToBalance(stores, order.saleId);
});

test('the ending from MySQL in the same moment: either the order ends or it goes on, never both', async () => {
  for (let i = 0; i < 10; i += 1) {
    const order = await late();
    const [extension] = await Promise.all([extend(order, Date.now() + HOUR_MS), endPage()]);
    const { status } = (await stateOf(order)) ?? {};
    expect(status).toBe(extension.kind === 'extended' ? 'awaiting_payment' : 'cancelled');
  }
});

test('a workflow that begins again gets the later deadline for its window', async () => {
  const order = await stored({}, 'started');
  const untilMs = Date.now() + 5 * HOUR_MS;
  await extend(order, untilMs);
  expect((await stores.orders.read(order.orderNo))?.windowEndsAtMs).toBe(untilMs);
});

test('a page that closes at the old deadline is outdated, and the next one has the new', async () => {
  const order = await stored();
  const first = await begin(order);
  if (first.kind !== 'begun') throw new Error(first.kind);
  const untilMs = Date.now() + HOUR_MS;
  await extend(order, untilMs);
  expect(await begin(order)).toEqual({ kind: 'outdated', session: first.session });
  await stores.paymentSessions.recordClosed(first.session.sessionId, 'voided');
  expect(await begin(order)).toMatchObject({ kind: 'begun', session: { expiresAtMs: untilMs } });
  expect(await begin(order)).toMatchObject({ kind: 'begun', session: { expiresAtMs: untilMs } });
});

test('an order that MySQL has lost keeps the deadline that its shopper was shown', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const extendedUntilMs = Date.now() + 2 * HOUR_MS;
  const shown = { status: 'awaiting_payment', version: 2, payment: 'none', reason: null } as const;
  const order = buildOrder({ saleId, shown: { ...shown, extendedUntilMs } });
  await stores.orders.storeOrder(order, 'due');
  expect(await stateOf(order)).toEqual({ ...shown, extendedUntilMs });
  expect(await untilOf(order)).toEqual(new Date(extendedUntilMs));
});
