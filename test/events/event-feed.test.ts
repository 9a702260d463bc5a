/** The feed as shops get it: the type of each event, and the order as of that very version. */

import { beforeAll, expect, test } from 'vitest';
import { EVENT_TYPES, type EventType } from '../../src/events/event.ts';
import { readEvents, type FeedEvent, type FeedPage, type FeedQuery } from '../../src/events/feed.ts';
import type { Order } from '../../src/orders/content.ts';
import { park } from '../../src/parked/parked.sql.ts';
import { recordShopEvent } from '../../src/sales/rows.sql.ts';
import { dispatchEvents, readFeed } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildPayment, buildReversal, reverse } from '../support/payment-notices.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 10_000, limitPerUser: null }];
  ({ saleId } = await stores.openSale(buildSale({ skus })));
});

async function store(overrides: Partial<Order> = {}): Promise<Order> {
  const order = buildOrder({ saleId, ...overrides });
  await stores.orders.storeOrder(order, 'due');
  return order;
}

const eventsOf = async ({ orderNo }: Pick<Order, 'orderNo'>): Promise<FeedEvent[]> =>
  (await readFeed(stores)).filter((event) => 'orderNo' in event && event.orderNo === orderNo);

const typesOf = async (order: Order) => (await eventsOf(order)).map(({ type }) => type);

async function readPage(query: {
  after?: number;
  limit?: number;
  types?: EventType[];
  saleId?: string;
}): Promise<FeedPage> {
  const { after = 0, limit = 500, types } = query;
  const filter = { types: types && new Set(types), saleId: query.saleId };
  const page = await readEvents(stores, { after, limit, filter });
  if (page.kind !== 'page') throw new Error(page.kind);
  return page;
}

test('a purchase that is paid, and whose money goes back, is published step by step', async () => {
  const order = await store();
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  await reverse(stores, buildReversal(payment));

  expect(await typesOf(order)).toEqual(['order.awaiting_payment', 'order.paid', 'order.payment_changed']);
});

test('an order that its shopper cancels is closing before it is cancelled', async () => {
  const order = await store();
  await stores.orders.requestCancel(order.orderNo);
  await stores.orders.cancel(order.orderNo, 'shopper_request', { force: true });
  expect(await typesOf(order)).toEqual(['order.awaiting_payment', 'order.closing', 'order.cancelled']);
});

test('an order that could not be stored is published as failed, without items', async () => {
  const order = buildOrder({ saleId });
  await stores.orders.abandon(order, 'store_unavailable');
  expect(await eventsOf(order)).toMatchObject([
    {
      type: 'order.failed',
      data: { order: { status: 'failed', reason: 'store_unavailable', items: [], total: 4_900 } },
    },
  ]);
});

test('each event shows the order as it was then, however much has become of it since', async () => {
  const charges = [{ code: 'shipping', name: 'Shipping', amount: 500 }];
  const shop = { charges, reference: 'R-1', metadata: { channel: 'app' } };
  const order = await store({ userId: 'Grace Hopper', total: 5_400, ...shop });
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);

  const [stored, paid] = await eventsOf(order);
  const { orderNo, reservedAtMs, paymentWindowMs } = order;
  const content = {
    orderNo,
    saleId,
    userId: 'Grace Hopper',
    items: [{ sku: 'lamp', quantity: 1, unitPrice: 4_900 }],
    ...shop,
    total: 5_400,
    currency: 'EUR',
    reservedAt: new Date(reservedAtMs).toISOString(),
    deadline: new Date(reservedAtMs + paymentWindowMs).toISOString(),
    reason: null,
  };
  const common = { saleId, orderNo, occurredAt: expect.any(String), sequence: expect.any(Number) };
  expect(stored).toEqual({
    ...common,
    id: `${orderNo}.1`,
    type: 'order.awaiting_payment',
    version: 1,
    data: { order: { ...content, status: 'awaiting_payment', version: 1, payment: 'none', refunded: 0 } },
  });
  expect(paid?.data).toEqual({
    order: { ...content, status: 'paid', version: 2, payment: 'applied', refunded: 0 },
  });
});

test('after a person was erased no event shows them any more', async () => {
  const order = await store({ userId: 'someone@example.com' });
  expect(JSON.stringify(await eventsOf(order))).toContain('someone@example.com');
  await stores.pool.query('UPDATE orders SET user_id = ? WHERE order_no = ?', ['erased-7', order.orderNo]);
  const published = JSON.stringify(await eventsOf(order));
  expect(published).not.toContain('someone@example.com');
  expect(published).toContain('erased-7');
});

test('events of the shop are published as they were recorded, with a stable id', async () => {
  const before = (await readFeed(stores)).at(-1)?.sequence ?? 0;
  await recordShopEvent(stores.pool, {
    type: 'sale.closed',
    saleId,
    subject: saleId,
    data: { sale: { saleId, unsold: 3 } },
  });
  await park(stores.pool, 'payment', 'pay_1', 'nothing fits', { cause: 'no_order_named', inputs: {} });
  const events = await readFeed(stores, before);
  expect(events).toMatchObject([
    { type: 'sale.closed', saleId, data: { sale: { saleId, unsold: 3 } } },
    { type: 'parked.opened', saleId: null, data: { parked: { reference: 'pay_1' } } },
  ]);
  for (const { id } of events) expect(id).toMatch(/^shop\.\d+$/);
  expect(await readFeed(stores, before)).toEqual(events);
});

test('a reader of some types or of one sale gets those, and goes on behind what was left out', async () => {
  const other = await stores.openSale(buildSale());
  const before = (await readFeed(stores)).at(-1)?.sequence ?? 0;
  const wanted = buildOrder({ saleId: other.saleId });
  await stores.orders.storeOrder(wanted, 'due');
  await stores.orders.cancel(wanted.orderNo, 'payment_timeout', { force: true });
  await store();
  await dispatchEvents(stores);

  const ofSale = await readPage({ after: before, saleId: other.saleId });
  expect(ofSale.events).toHaveLength(3);
  expect(ofSale.next).toBe(before + 4);

  const cancelled = await readPage({ after: before, types: ['order.cancelled', 'order.paid'] });
  expect(cancelled.events.map(({ id }) => id)).toEqual([`${wanted.orderNo}.3`]);
  expect(await readPage({ after: cancelled.next, types: ['order.cancelled'] })).toMatchObject({
    events: [],
    next: cancelled.next,
  });
});

test('a page that is full ends at its last event, filtered or not', async () => {
  const before = (await readFeed(stores)).at(-1)?.sequence ?? 0;
  for (let i = 0; i < 4; i += 1) await store();
  await dispatchEvents(stores);
  for (const types of [undefined, ['order.awaiting_payment'] satisfies EventType[]]) {
    const first = await readPage({ after: before, limit: 3, ...(types && { types }) });
    expect([first.events.length, first.next]).toEqual([3, before + 3]);
    const second = await readPage({ after: first.next, limit: 3, ...(types && { types }) });
    expect([second.events.length, second.next]).toEqual([1, before + 4]);
  }
});

test('a search that finds nothing ends after some thousands of events, and says how far it came', async () => {
  const rows = Array.from({ length: 6_000 }, () => ['sale.changed', saleId, saleId, '{}']);
  await stores.pool.query('INSERT INTO shop_events (type, sale_id, subject, data) VALUES ?', [rows]);
  const before = (await readPage({})).last;
  await dispatchEvents(stores);
  const first = await readPage({ after: before, types: ['sale.opened'] });
  expect(first).toMatchObject({ events: [], next: before + 5_000, last: before + 6_000 });
  const second = await readPage({ after: first.next, types: ['sale.opened'] });
  expect(second).toMatchObject({ events: [], next: before + 6_000 });
});

test('a reader that asks for what follows an event that does not exist gets the number of the last one', async () => {
  await dispatchEvents(stores);
  const { last } = await readPage({});
  const feed = { read: (query: FeedQuery) => readEvents(stores, query) };
  expect(await feed.read({ after: last + 1, limit: 1, filter: {} })).toEqual({ kind: 'ahead', last });
});

test('an order that was deleted by hand does not end the feed for the others', async () => {
  const [gone, kept] = [await store(), await store()];
  await stores.pool.query('DELETE FROM orders WHERE order_no = ?', [gone.orderNo]);
  expect(await eventsOf(gone)).toEqual([]);
  expect(await eventsOf(kept)).toHaveLength(1);
});

test('every type of an order’s event is one that the feed knows', async () => {
  const known = new Set<string>(EVENT_TYPES);
  for (const { type } of await readFeed(stores)) expect(known.has(type)).toBe(true);
});
