/** The feed of events over HTTP: reading, waiting, consumers, and what is refused. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { MAX_FEEDS_IN_FLIGHT } from '../../src/api/app.ts';
import { eventsReply, consumerReply, consumersReply } from '../../src/api/calls/events.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { MAX_EVENT_CONSUMERS } from '../../src/events/consumers.sql.ts';
import { createEventTicker } from '../../src/events/feed.ts';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildOrder, buildSale, uniqueSaleId } from '../support/factories.ts';
import { JWT_SECRET, problemOf, refusalOf, send, type Reply } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { openApi, type TestApi } from './open-api.ts';

let api: TestApi;
let saleId: string;
let authorization: string;
beforeAll(async () => {
  api = await openApi();
  authorization = `Bearer ${await signToken(JWT_SECRET, 'backoffice', '1h', { roles: ['admin'] })}`;
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 10_000, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  await storeSome(3);
});

async function storeSome(count: number): Promise<void> {
  await api.stores.orders.storeOrders(
    Array.from({ length: count }, () => buildOrder({ saleId })),
    'due',
  );
  await dispatchEvents(api.stores);
}

const call = (method: string, path: string, body?: object | string, url = api.url): Promise<Reply> =>
  send(`${url}/v1/admin/events${path}`, method, {
    headers: { authorization, ...(typeof body === 'string' && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body }),
  });

const read = async (query: string, url = api.url) =>
  eventsReply.parse((await call('GET', `?${query}`, undefined, url)).body);

const commit = (name: string, body: object): Promise<Reply> => call('PUT', `/consumers/${name}`, body);

const lastSequence = () => api.stores.eventRows.readLastSequence();

test('a reader goes through the feed page by page, and gets the same events again from the same place', async () => {
  const seen: number[] = [];
  for (let next = 0; ;) {
    const page = await read(`after=${next}&limit=2`);
    expect(page.events.length).toBeLessThanOrEqual(2);
    seen.push(...page.events.map(({ sequence }) => sequence));
    if (page.events.length === 0) break;
    next = page.next;
  }
  expect(seen).toEqual(Array.from({ length: await lastSequence() }, (_, i) => i + 1));
  expect(await read('after=0&limit=2')).toEqual(await read('limit=2'));
});

test('types and sales can be chosen', async () => {
  const other = await api.stores.openSale(buildSale());
  const order = buildOrder({ saleId: other.saleId });
  await api.stores.orders.storeOrder(order, 'due');
  await dispatchEvents(api.stores);

  expect((await read(`saleId=${other.saleId}`)).events).toHaveLength(1);
  expect((await read(`saleId=${uniqueSaleId()}`)).events).toEqual([]);
  const some = await read('type=order.awaiting_payment,order.paid&limit=500');
  expect(some.events.length).toBeGreaterThan(3);
  expect((await read('type=sale.closed')).events).toEqual([]);
});

test('an event of a type that only a newer version knows is passed on, and ends the feed for nobody', async () => {
  const after = await lastSequence();
  const { pool } = api.stores;
  const data = JSON.stringify({ sale: { saleId } });
  const sql = `INSERT INTO shop_events (type, sale_id, subject, data) VALUES ('sale.moved', ?, ?, ?)`;
  await pool.query(sql, [saleId, saleId, data]);
  await storeSome(1);

  const { events } = await read(`after=${after}`);
  expect(events.map(({ type }) => type).toSorted()).toEqual(['order.awaiting_payment', 'sale.moved']);
  expect(events.find(({ type }) => type === 'sale.moved')).toMatchObject({ saleId, data: JSON.parse(data) });
  expect((await read(`after=${after}&type=order.awaiting_payment`)).events).toHaveLength(1);
  // No other test is to meet it.
  await pool.query(`UPDATE shop_events SET type = 'sale.changed' WHERE type = 'sale.moved'`);
});

test('a caller that waits is answered as soon as there is an event', async () => {
  const last = await lastSequence();
  const waiting = read(`after=${last}&wait=25`);
  await storeSome(1);
  const { events, next } = await waiting;
  expect(events).toHaveLength(1);
  expect(next).toBe(last + 1);
});

test('a caller that waits for a type is not answered with another', async () => {
  const last = await lastSequence();
  const waiting = read(`after=${last}&wait=25&type=order.cancelled`);
  await storeSome(1);
  const order = buildOrder({ saleId });
  await api.stores.orders.storeOrder(order, 'due');
  await api.stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
  await dispatchEvents(api.stores);
  expect((await waiting).events.map(({ type }) => type)).toEqual(['order.cancelled']);
});

test('a wait that is in vain ends with no event', async () => {
  const last = await lastSequence();
  expect(await read(`after=${last}&wait=1`)).toEqual({ events: [], next: last });
});

test('callers who wait for events share one read of the last event', async () => {
  let reads = 0;
  let letGo = (): void => {};
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  const { eventRows } = api.stores;
  const counting = {
    readLastSequence: async () => {
      reads += 1;
      await gate;
      return eventRows.readLastSequence();
    },
  };
  const ticker = createEventTicker({ eventRows: counting });
  onTestFinished(() => ticker.stop());
  const last = await lastSequence();
  const { signal } = new AbortController();
  const waiting = Promise.all(Array.from({ length: 50 }, () => ticker.wait(last, signal)));
  await storeSome(1);
  letGo();
  await waiting;
  expect(reads).toBe(1);
});

/** An app whose waits are counted. */
async function openCounting() {
  const ticker = createEventTicker(api.stores);
  onTestFinished(() => ticker.stop());
  const counts = { begun: 0, ended: 0 };
  const counting = {
    ...ticker,
    async wait(...args: Parameters<typeof ticker.wait>) {
      counts.begun += 1;
      await ticker.wait(...args);
      counts.ended += 1;
    },
  };
  const app = await api.withParts({ eventTicker: counting });
  return { url: app.url, ticker, counts };
}

test('a stop ends every wait at once, and none begins after it', async () => {
  const last = await lastSequence();
  const { url, ticker, counts } = await openCounting();
  const waiting = read(`after=${last}&wait=25`, url);
  await waitFor('the wait', () => counts.begun === 1);
  ticker.stop();
  expect((await waiting).events).toEqual([]);
  expect((await read(`after=${last}&wait=25`, url)).events).toEqual([]);
});

test('a caller that has gone waits no longer', async () => {
  const { url, counts } = await openCounting();
  const gone = new AbortController();
  const left = fetch(`${url}/v1/admin/events?after=${await lastSequence()}&wait=25`, {
    headers: { authorization },
    signal: gone.signal,
  });
  await waitFor('the wait', () => counts.begun === 1);
  gone.abort();
  await expect(left).rejects.toThrow();
  await waitFor('its end', () => counts.ended === 1);
});

test('callers that wait have a lane of their own, and keep no other call waiting', async () => {
  const last = await lastSequence();
  const { url, ticker, counts } = await openCounting();
  const waiting = Array.from({ length: MAX_FEEDS_IN_FLIGHT }, () => read(`after=${last}&wait=25`, url));
  await waitFor('all to wait', () => counts.begun === MAX_FEEDS_IN_FLIGHT);

  expect(refusalOf(await call('GET', '', undefined, url))).toBe('503 overloaded');
  expect((await call('GET', '/consumers', undefined, url)).status).toBe(200);
  ticker.stop();
  await Promise.all(waiting);
});

test('a consumer reads on from what it has committed', async () => {
  expect(refusalOf(await call('GET', '/consumers/fulfilment'))).toBe('404 consumer_not_found');
  const first = await read('consumer=fulfilment&limit=2');
  expect(first.events.map(({ sequence }) => sequence)).toEqual([1, 2]);
  expect(await read('consumer=fulfilment&limit=2')).toEqual(first);

  const committed = consumerReply.parse((await commit('fulfilment', { position: first.next })).body);
  expect(committed).toMatchObject({ name: 'fulfilment', position: 2, lag: (await lastSequence()) - 2 });
  expect((await read('consumer=fulfilment&limit=1')).events[0]?.sequence).toBe(3);

  const listed = consumersReply.parse((await call('GET', '/consumers')).body);
  expect(listed).toMatchObject({
    consumers: [{ name: 'fulfilment', position: 2 }],
    last: await lastSequence(),
  });
  expect((await call('GET', '/consumers/fulfilment')).body).toMatchObject({ position: 2 });
});

test('a position goes forward, the same twice is one, and back only on request', async () => {
  expect((await commit('books', { position: 2 })).status).toBe(200);
  expect((await commit('books', { position: 2 })).status).toBe(200);
  const refused = await commit('books', { position: 1 });
  expect(refusalOf(refused)).toBe('409 position_behind');
  expect(problemOf(refused)).toMatchObject({ position: 2 });
  expect((await call('GET', '/consumers/books')).body).toMatchObject({ position: 2 });

  expect((await commit('books', { position: 1, rewind: true })).body).toMatchObject({ position: 1 });
  expect((await read('consumer=books&limit=1')).events[0]?.sequence).toBe(2);
});

test('a position that no event has is refused, when it is committed and when it is read from', async () => {
  const beyond = (await lastSequence()) + 1;
  for (const reply of [await commit('early', { position: beyond }), await call('GET', `?after=${beyond}`)]) {
    expect(refusalOf(reply)).toBe('409 position_ahead');
    expect(problemOf(reply)).toMatchObject({ last: beyond - 1 });
  }
  expect(refusalOf(await call('GET', '/consumers/early'))).toBe('404 consumer_not_found');
});

test('of commits at once the greatest position stays', async () => {
  await storeSome(5);
  const positions = [5, 1, 4, 2, 3];
  await Promise.all(positions.map((position) => commit('rivals', { position })));
  expect((await call('GET', '/consumers/rivals')).body).toMatchObject({ position: 5 });
});

test('a consumer is removed for good, also twice, and there are not more than some', async () => {
  await commit('old', { position: 1 });
  for (let times = 0; times < 2; times += 1)
    expect((await call('DELETE', '/consumers/old')).status).toBe(204);
  expect(refusalOf(await call('GET', '/consumers/old'))).toBe('404 consumer_not_found');

  const { consumers } = consumersReply.parse((await call('GET', '/consumers')).body);
  for (let i = consumers.length; i < MAX_EVENT_CONSUMERS; i += 1) await commit(`n${i}`, { position: 0 });
  expect(refusalOf(await commit('one-more', { position: 0 }))).toBe('409 too_many_consumers');
  // Those that are there go on.
  expect((await commit('fulfilment', { position: 3 })).status).toBe(200);
  for (let i = consumers.length; i < MAX_EVENT_CONSUMERS; i += 1) await call('DELETE', `/consumers/n${i}`);
});

test.each([
  'after=-1',
  'after=1.5',
  'after=1e3',
  'after=0x10',
  'after=',
  'after=9999999999999999',
  'after=1&after=2',
  "after=1'%20OR%201=1",
  'after=NaN',
  'limit=0',
  'limit=501',
  'limit=-5',
  'limit=all',
  'wait=26',
  'wait=-1',
  'wait=0.5',
  'wait=1h',
  'type=',
  'type=order.gone',
  'type=order.paid,',
  'type=order.paid&type=sale.closed',
  'saleId=',
  'saleId=Summer%20Sale',
  `saleId=${'a'.repeat(33)}`,
  'saleId=%00',
  'consumer=',
  'consumer=..%2F..',
  'consumer=UPPER',
  `consumer=${'a'.repeat(65)}`,
  'consumer=books&after=1',
  'sale=summer',
  '__proto__=1',
])('a reader who asks for %s learns what is wrong', async (query) => {
  expect(refusalOf(await call('GET', `?${query}`))).toBe('400 invalid_request');
});

test.each<[string, object | string, string]>([
  ['x', '', '400 invalid_request'],
  ['x', '[]', '400 invalid_request'],
  ['x', '{"position":', '400 malformed_request'],
  ['x', {}, '400 invalid_request'],
  ['x', { position: -1 }, '400 invalid_request'],
  ['x', { position: 1.5 }, '400 invalid_request'],
  ['x', { position: '1' }, '400 invalid_request'],
  ['x', { position: null }, '400 invalid_request'],
  ['x', { position: 1e20 }, '400 invalid_request'],
  ['x', { position: 1, rewind: 'yes' }, '400 invalid_request'],
  ['x', { position: 1, force: true }, '400 invalid_request'],
  ['UPPER', { position: 1 }, '400 invalid_request'],
  ['a..b', { position: 1 }, '400 invalid_request'],
  ['%00', { position: 1 }, '400 invalid_request'],
  ['a%2Fb', { position: 1 }, '400 invalid_request'],
  ["x'--", { position: 1 }, '400 invalid_request'],
  ['a'.repeat(65), { position: 1 }, '400 invalid_request'],
])('a commit to %s of %j is refused and changes nothing', async (name, body, refusal) => {
  const before = await call('GET', '/consumers');
  expect(refusalOf(await call('PUT', `/consumers/${name}`, body))).toBe(refusal);
  expect((await call('GET', '/consumers')).body).toEqual(before.body);
});

test('a name that cannot be is not found, and its removal removes nothing', async () => {
  for (const name of ['UPPER', '%00', 'a%2Fb', "x'--", 'a'.repeat(500)]) {
    expect(refusalOf(await call('GET', `/consumers/${name}`))).toBe('404 consumer_not_found');
    expect((await call('DELETE', `/consumers/${name}`)).status).toBe(204);
  }
});

test('while MySQL is away the feed says so, and a caller who waits gets that answer as soon as it is', async () => {
  const pool = createMysqlPool('mysql://user@127.0.0.1:1/none');
  onTestFinished(() => pool.end());
  const app = await api.withParts({
    eventRows: mysqlStores(pool).eventRows,
    eventConsumers: mysqlStores(pool).eventConsumers,
  });
  const calls: [string, string, object?][] = [
    ['GET', '?after=1'],
    ['GET', '?consumer=books'],
    ['GET', '/consumers'],
    ['GET', '/consumers/books'],
    ['PUT', '/consumers/books', { position: 1 }],
    ['DELETE', '/consumers/books'],
  ];
  for (const [method, path, body] of calls)
    expect(refusalOf(await call(method, path, body, app.url))).toBe('503 events_unavailable');

  const broken = await api.withParts({
    eventTicker: createEventTicker({ eventRows: mysqlStores(pool).eventRows }),
  });
  const waiting = await call('GET', `?after=${await lastSequence()}&wait=25`, undefined, broken.url);
  expect(refusalOf(waiting)).toBe('503 events_unavailable');
});
