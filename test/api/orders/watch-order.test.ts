/** Long polls and event streams: what they answer, when, and to whom. */

import { beforeAll, expect, test } from 'vitest';
import { WATCHER_BOUNDS } from '../../../src/api/watchers.ts';
import { CLOCK_TOLERANCE_MS } from '../../../src/limits.ts';
import type { OrderState } from '../../../src/orders/order.ts';
import { orderKeys } from '../../../src/redis/keys.ts';
import { createTestClock } from '../../support/clock.ts';
import { openEvents } from '../../support/event-stream.ts';
import { buildSale } from '../../support/factories.ts';
import { orderOf, refusalOf, type Shopper } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { scrape } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openRaw } from '../raw-http.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  ({ saleId } = await api.stores.openSale(buildSale({ skus: [lamps] })));
  shopper = await api.shopper();
});

const lamps = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null };
const paid: OrderState = { status: 'paid', version: 2, payment: 'applied', reason: null };
const cancelled: OrderState = { status: 'cancelled', version: 2, payment: 'none', reason: 'shopper_request' };

const project = (orderNo: string, state: OrderState) => api.stores.reservations.project(orderNo, state);

/** Cancels a stored order in both stores, and no message tells of it. @returns its version */
async function cancelUnheard(orderNo: string): Promise<number> {
  const { state } = await api.stores.orders.cancel(orderNo, 'shopper_request', { force: true });
  const version = String(state.version);
  await api.stores.redis.hset(orderKeys(orderNo).order, { ...cancelled, version });
  return state.version;
}

function events(orderNo: string, headers: Record<string, string> = {}, url = api.url) {
  return openEvents(url, orderNo, { authorization: shopper.authorization, ...headers });
}

/** Once so many wait in all, by the gauge. */
async function untilWaiting(count: number, url = api.url): Promise<void> {
  await waitFor(`${count} to wait`, async () => {
    const samples = await scrape(url);
    const kinds = ['poll', 'stream'].map((kind) => samples.get(`holdfast_watchers{kind="${kind}"}`) ?? 0);
    return kinds.reduce((sum, each) => sum + each) === count;
  });
}

test('a long poll without a version is answered with the next change', async () => {
  const orderNo = await shopper.buy(saleId);

  const polled = shopper.call('GET', `/v1/orders/${orderNo}?wait=25`);
  await untilWaiting(1);
  await api.store(orderNo);

  const reply = await polled;
  expect(orderOf(reply)).toMatchObject({ orderNo, status: 'awaiting_payment', version: 1 });
  expect(reply.headers.get('etag')).toBe('"1"');
  await untilWaiting(0);
});

test('a long poll with the present version waits, and one with another is answered at once', async () => {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);

  const behind = await shopper.call('GET', `/v1/orders/${orderNo}?wait=25`, {
    headers: { 'if-none-match': '"0"' },
  });
  const polled = shopper.call('GET', `/v1/orders/${orderNo}?wait=25`, {
    headers: { 'if-none-match': '"1"' },
  });
  await untilWaiting(1);
  await project(orderNo, cancelled);

  expect(orderOf(behind)).toMatchObject({ version: 1 });
  expect(orderOf(await polled)).toMatchObject({ status: 'cancelled', version: 2 });
});

test('at the end of its wait a long poll answers 304 for a version that it was given, else the order', async () => {
  const orderNo = await shopper.buy(saleId);

  const [known, unknown] = await Promise.all([
    shopper.call('GET', `/v1/orders/${orderNo}?wait=1`, { headers: { 'if-none-match': '"0"' } }),
    shopper.call('GET', `/v1/orders/${orderNo}?wait=1`),
  ]);

  expect(known).toMatchObject({ status: 304, body: '' });
  expect(orderOf(unknown)).toMatchObject({ version: 0 });
});

test('a long poll on a final order is answered at once, and waits for its money where its version is given', async () => {
  const orderNo = await shopper.buy(saleId);
  await project(orderNo, paid);

  const atOnce = await shopper.call('GET', `/v1/orders/${orderNo}?wait=25`);
  const any = await shopper.call('GET', `/v1/orders/${orderNo}?wait=25`, {
    headers: { 'if-none-match': '*' },
  });
  const polled = shopper.call('GET', `/v1/orders/${orderNo}?wait=25`, {
    headers: { 'if-none-match': '"2"' },
  });
  await untilWaiting(1);
  await project(orderNo, { ...paid, version: 3, payment: 'refunded', refunded: 4_900 });

  expect(orderOf(atOnce)).toMatchObject({ status: 'paid' });
  expect(any).toMatchObject({ status: 304 });
  expect(orderOf(await polled)).toMatchObject({ payment: 'refunded', version: 3 });
});

test.each(['26', '-1', 'soon', '5&source=workflow'])('a wait of %s is refused', async (wait) => {
  const orderNo = await shopper.buy(saleId);

  expect(refusalOf(await shopper.call('GET', `/v1/orders/${orderNo}?wait=${wait}`))).toBe(
    '400 invalid_request',
  );
});

test('a wait of 0 is a poll like any other', async () => {
  const orderNo = await shopper.buy(saleId);

  expect(orderOf(await shopper.call('GET', `/v1/orders/${orderNo}?wait=0`))).toMatchObject({ version: 0 });
});

test("another user's order is found by neither, and leaves no place taken", async () => {
  const orderNo = await shopper.buy(saleId);
  const other = await api.shopper();

  expect(refusalOf(await other.call('GET', `/v1/orders/${orderNo}?wait=25`))).toBe('404 order_not_found');
  expect(refusalOf(await other.call('GET', `/v1/orders/${orderNo}/events`))).toBe('404 order_not_found');
  expect(refusalOf(await shopper.call('GET', '/v1/orders/nonsense/events'))).toBe('404 order_not_found');
  await untilWaiting(0);
});

test('a stream begins with the order as it is, tells each change, and ends with a final status', async () => {
  const orderNo = await shopper.buy(saleId);

  const stream = await events(orderNo);
  const first = await stream.next();
  await api.store(orderNo);
  const second = await stream.next();
  await project(orderNo, { ...cancelled, status: 'awaiting_payment' });
  const third = await stream.next();
  await project(orderNo, { ...paid, version: 3 });
  const { orders, text } = await stream.rest();

  expect(
    [first, second, third, ...orders].map(({ status, version, payment }) => [version, status, payment]),
  ).toEqual([
    [0, 'queued', 'none'],
    [1, 'awaiting_payment', 'none'],
    [2, 'awaiting_payment', 'none'],
    [3, 'paid', 'applied'],
  ]);
  expect(text).toMatch(/^retry: \d+\n\n/);
  await untilWaiting(0);
});

test('no cache keeps a stream, and no proxy keeps it back', async () => {
  const orderNo = await shopper.buy(saleId);
  await project(orderNo, cancelled);

  const { headers } = await events(orderNo);

  expect(headers.get('cache-control')).toBe('no-store');
  expect(headers.get('x-accel-buffering')).toBe('no');
  expect(headers.get('x-request-id')).toBeTruthy();
});

test('a stream with the Last-Event-ID of the present version begins with the next', async () => {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);

  const stream = await events(orderNo, { 'last-event-id': '1' });
  await untilWaiting(1);
  await project(orderNo, cancelled);
  const { orders } = await stream.rest();
  const again = await events(orderNo, { 'last-event-id': '1' });

  expect(orders.map(({ version }) => version)).toEqual([2]);
  expect((await again.rest()).orders.map(({ version }) => version)).toEqual([2]);
});

test('a client that has the last event of an ended order is told with 204 not to come back', async () => {
  const orderNo = await shopper.buy(saleId);
  await project(orderNo, cancelled);

  const reply = await shopper.call('GET', `/v1/orders/${orderNo}/events`, {
    headers: { 'last-event-id': '2' },
  });

  expect(reply).toMatchObject({ status: 204, body: '' });
});

test('HEAD of a stream answers its headers and does not wait', async () => {
  const orderNo = await shopper.buy(saleId);
  const { authorization } = shopper;

  const reply = await fetch(`${api.url}/v1/orders/${orderNo}/events`, {
    method: 'HEAD',
    headers: { authorization },
  });

  expect(reply.status).toBe(200);
  expect(reply.headers.get('content-type')).toBe('text/event-stream');
  await untilWaiting(0);
});

test('a stream ends when its token expires', async () => {
  const orderNo = await shopper.buy(saleId);
  const clock = createTestClock();
  const app = await api.withParts({ clock });
  const stream = await events(orderNo, {}, app.url);
  await untilWaiting(1, app.url);

  // The token is good for an hour, and is still taken for as long as clocks may differ.
  clock.pass(60 * 60_000 + CLOCK_TOLERANCE_MS);

  expect((await stream.rest()).orders.map(({ version }) => version)).toEqual([0]);
});

test('a change is told to all who wait for the order, and to nobody who waits for another', async () => {
  const [orderNo, otherNo] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  const stream = await events(orderNo);
  await stream.next();
  const polled = shopper.call('GET', `/v1/orders/${orderNo}?wait=25`);
  const other = shopper.call('GET', `/v1/orders/${otherNo}?wait=25`);
  await untilWaiting(3);

  await api.store(orderNo);

  expect(await stream.next()).toMatchObject({ version: 1 });
  expect(orderOf(await polled)).toMatchObject({ version: 1 });
  // The stream and the other.
  await untilWaiting(2);
  await project(otherNo, cancelled);
  expect(orderOf(await other)).toMatchObject({ orderNo: otherNo, version: 2 });
  stream.close();
  await untilWaiting(0);
});

test('a caller that goes away leaves its place', async () => {
  const orderNo = await shopper.buy(saleId);
  const aborting = new AbortController();
  const { authorization } = shopper;
  const polled = fetch(`${api.url}/v1/orders/${orderNo}?wait=25`, {
    headers: { authorization },
    signal: aborting.signal,
  }).catch(() => 'gone');
  await untilWaiting(1);

  aborting.abort();

  expect(await polled).toBe('gone');
  await untilWaiting(0);
});

test('beyond the places of a user and of the process a caller is refused, and may come back', async () => {
  const bounds = { ...WATCHER_BOUNDS, watchersMax: 3, watchersPerUserMax: 2 };
  const app = await api.withParts({ watcherBounds: bounds });
  const [one, two] = [await app.shopper(), await app.shopper()];
  const [first, second] = [await one.buy(saleId), await two.buy(saleId)];
  const streams = await Promise.all(
    [first, first].map((orderNo) => openEvents(app.url, orderNo, { authorization: one.authorization })),
  );

  const calls = (orderNo: string) => [`/v1/orders/${orderNo}?wait=25`, `/v1/orders/${orderNo}/events`];
  const ofUser = await Promise.all(calls(first).map((path) => one.call('GET', path)));
  streams.push(await openEvents(app.url, second, { authorization: two.authorization }));
  const ofAll = await Promise.all(calls(second).map((path) => two.call('GET', path)));

  const [manyOfUser, many] = ['429 too_many_watchers', '503 watchers_full'];
  expect(ofUser.map(refusalOf)).toEqual([manyOfUser, manyOfUser]);
  expect(ofAll.map(refusalOf)).toEqual([many, many]);
  for (const { headers } of [...ofUser, ...ofAll]) expect(headers.get('retry-after')).toMatch(/^[1-9]$/);
  const samples = await scrape(app.url);
  expect(samples.get('holdfast_watchers_refused_total{limit="user"}')).toBe(2);
  expect(samples.get('holdfast_watchers_refused_total{limit="all"}')).toBe(2);
  streams[0]?.close();
  await untilWaiting(2, app.url);
  await openEvents(app.url, second, { authorization: two.authorization });
});

test('those that wait hold no place in the lane of the others', async () => {
  const orderNo = await shopper.buy(saleId);
  const app = await api.withParts({
    watcherBounds: { ...WATCHER_BOUNDS, watchersPerUserMax: 1_000 },
  });
  const { authorization } = shopper;
  const streams = await Promise.all(
    Array.from({ length: 300 }, () => openEvents(app.url, orderNo, { authorization })),
  );

  const reply = await fetch(`${app.url}/v1/orders/${orderNo}`, { headers: { authorization } });

  expect(reply.status).toBe(200);
  await Promise.all(streams.map((stream) => stream.next()));
});

test('at the end of its wait a long poll answers with a change of which no message told it', async () => {
  const [orderNo, otherNo] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  await api.store(orderNo);
  const clock = createTestClock();
  const app = await api.withParts({ clock });
  const caller = await app.shopper(shopper.userId);
  // The process listens to the sale from here on, so that it does not look the next one up for that.
  const told = caller.call('GET', `/v1/orders/${otherNo}?wait=25`);
  await untilWaiting(1, app.url);
  await project(otherNo, cancelled);
  await told;
  const polled = caller.call('GET', `/v1/orders/${orderNo}?wait=25`, {
    headers: { 'if-none-match': '"1"' },
  });
  await untilWaiting(1, app.url);

  const version = await cancelUnheard(orderNo);
  await untilWaiting(1, app.url);
  clock.pass(25_000);

  expect(orderOf(await polled)).toMatchObject({ status: 'cancelled', version });
});

test('a long poll that cannot read its order at the end of its wait is refused, as its answer could be old', async () => {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  const { reservations, orders } = api.stores;
  let isCut = false;
  let looks = 0;
  const unlessCut = <T>(look: () => Promise<T>): Promise<T> =>
    isCut ? Promise.reject(new Error('connection lost')) : look();
  const clock = createTestClock();
  const app = await api.withParts({
    clock,
    reservations: {
      ...reservations,
      lookUp(no) {
        looks += 1;
        return unlessCut(() => reservations.lookUp(no));
      },
    },
    orders: { ...orders, read: (no) => unlessCut(() => orders.read(no)) },
  });
  const cutOff = await app.shopper(shopper.userId);
  const polled = cutOff.call('GET', `/v1/orders/${orderNo}?wait=25`);
  // The call's own, and the one of the subscription.
  await waitFor('two looks', () => looks === 2);
  await untilWaiting(1, app.url);

  isCut = true;
  const version = await cancelUnheard(orderNo);
  expect(await shopper.readOrder(orderNo)).toMatchObject({ version });
  clock.pass(25_000);

  const reply = await polled;
  expect(refusalOf(reply)).toBe('503 status_unavailable');
  expect(reply.headers.get('retry-after')).toMatch(/^\d+$/);
});

test('streams that wait behind another answer give their places back when the connection breaks', async () => {
  const orderNo = await shopper.buy(saleId);
  const ask = (path: string) =>
    `GET /v1/orders/${path} HTTP/1.1\r\nHost: x\r\nAuthorization: ${shopper.authorization}\r\n\r\n`;
  const connection = await openRaw(api.url);
  connection.write(ask(`${orderNo}?wait=25`) + ask(`${orderNo}/events`).repeat(3));
  await untilWaiting(4);

  connection.close();

  await untilWaiting(0);
});
