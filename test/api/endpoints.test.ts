/** The endpoints of push over HTTP: set, shown, changed, tested, replayed, removed; and hostile input. */

import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import {
  createdEndpointReply,
  deliveriesReply,
  deliveryFileReply,
  endpointListReply,
  endpointReply,
  replayReply,
  testReply,
} from '../../src/api/calls/endpoints.ts';
import { MAX_DELIVERIES_PAGE } from '../../src/api/calls/endpoints.ts';
import { showBoard } from '../../src/api/gauges.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createMysqlPool, modify } from '../../src/mysql/connection.ts';
import { MAX_PUSH_ENDPOINTS } from '../../src/push/endpoints.sql.ts';
import { createStatusBoard, statusReaders } from '../../src/status/board.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { select, selectOne } from '../support/rows.ts';
import { JWT_SECRET, problemOf, refusalOf, send, type Reply } from '../support/shopper.ts';
import { openApi, type TestApi } from './open-api.ts';

let api: TestApi;
let saleId: string;
let authorization: string;
beforeAll(async () => {
  api = await openApi();
  authorization = `Bearer ${await signToken(JWT_SECRET, 'grace', '1h', { roles: ['admin'] })}`;
  ({ saleId } = await api.stores.openSale(
    buildSale({ skus: [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }] }),
  ));
});
beforeEach(async () => {
  for (const table of ['push_deliveries', 'push_endpoints', 'audit_log'])
    await modify(api.stores.pool, `DELETE FROM ${table}`);
});

const call = (method: string, path: string, body?: object | string, url = api.url): Promise<Reply> =>
  send(`${url}/v1/admin/endpoints${path}`, method, {
    headers: { authorization, ...(typeof body === 'string' && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body }),
  });

const TERMS = { url: 'http://127.0.0.1:1/hook' };

async function create(name = 'office', terms: object = TERMS) {
  const reply = await call('PUT', `/${name}`, terms);
  expect(reply.status).toBe(201);
  return createdEndpointReply.parse(reply.body);
}

const read = async (name = 'office') => endpointReply.parse((await call('GET', `/${name}`)).body);

/** As a worker has looked at all of the feed. */
async function feedAll(): Promise<void> {
  await modify(
    api.stores.pool,
    'UPDATE push_endpoints SET fed_sequence = (SELECT last_sequence FROM event_dispatch)',
  );
}

async function makeEvents(count: number): Promise<string[]> {
  const orders = Array.from({ length: count }, () => buildOrder({ saleId }));
  await api.stores.orders.storeOrders(orders, 'started');
  await dispatchEvents(api.stores);
  return orders.map(({ orderNo }) => orderNo);
}

/** All that there is about endpoints, and what was recorded of them. */
async function everything(): Promise<unknown> {
  const tables = ['push_endpoints', 'push_deliveries', 'audit_log'];
  return Promise.all(tables.map((table) => select(api.stores.pool, `SELECT * FROM ${table}`)));
}

describe('an endpoint', () => {
  test('is created with a secret that is shown once, and the same call changes nothing more', async () => {
    const terms = { ...TERMS, types: ['order.paid'], saleId, description: ' fulfilment ' };
    const { secret, ...created } = await create('office', terms);
    expect(secret).toMatch(/^whsec_[\w+/]{43}=$/);
    expect(created).toMatchObject({
      name: 'office',
      url: TERMS.url,
      types: ['order.paid'],
      saleId,
      description: 'fulfilment',
      state: 'active',
      disabledFor: null,
      rotatingUntil: null,
      health: { state: 'up', waiting: 0, behind: 0, lastSuccessAt: null },
    });

    const again = await call('PUT', '/office', terms);
    expect(again.status).toBe(200);
    expect(endpointReply.parse(again.body)).toEqual(created);
    expect(await read()).toEqual(created);
    const stored = await selectOne(api.stores.pool, 'SELECT secret FROM push_endpoints');
    expect(stored).toEqual({ secret });
  });

  test('is changed by a further call, and tried at once at its new address', async () => {
    await create();
    await modify(api.stores.pool, 'UPDATE push_endpoints SET failures = 9, failing_since = NOW(3)');
    expect((await read()).health).toMatchObject({ state: 'down', failures: 9 });
    const changed = await call('PUT', '/office', { url: 'https://office.shop.example/hook' });
    expect(endpointReply.parse(changed.body)).toMatchObject({
      url: 'https://office.shop.example/hook',
      health: { state: 'up', failures: 0, failingSince: null },
    });
  });

  test('is listed by name, without its secret', async () => {
    await create('zeta');
    await create('alpha');
    const { endpoints } = endpointListReply.parse((await call('GET', '')).body);
    expect(endpoints.map(({ name }) => name)).toEqual(['alpha', 'zeta']);
  });

  test('is one of a bounded number', async () => {
    for (let i = 0; i < MAX_PUSH_ENDPOINTS; i += 1) await create(`office-${i}`);
    expect(refusalOf(await call('PUT', '/one-more', TERMS))).toBe('409 too_many_endpoints');
    expect((await call('PUT', '/office-7', TERMS)).status).toBe(200);
  });

  test('is removed once, and may be removed again', async () => {
    await create();
    expect((await call('DELETE', '/office')).status).toBe(204);
    expect((await call('DELETE', '/office')).status).toBe(204);
    expect(refusalOf(await call('GET', '/office'))).toBe('404 endpoint_not_found');
  });

  test('is disabled and enabled, each as often as one likes', async () => {
    await create();
    for (const again of [1, 2]) {
      const disabled = await call('POST', '/office/disable');
      expect(disabled.body, String(again)).toMatchObject({ state: 'disabled', disabledFor: 'operator' });
    }
    expect(refusalOf(await call('POST', '/office/test'))).toBe('409 endpoint_disabled');
    for (const again of [1, 2]) {
      const enabled = await call('POST', '/office/enable');
      expect(enabled.body, String(again)).toMatchObject({ state: 'active', disabledFor: null });
    }
  });

  test('gets a new secret, and keeps the former one until it is retired', async () => {
    const { secret } = await create();
    const rotated = createdEndpointReply.parse((await call('POST', '/office/rotate-secret')).body);
    const again = createdEndpointReply.parse((await call('POST', '/office/rotate-secret')).body);
    expect(new Set([secret, rotated.secret, again.secret]).size).toBe(3);
    expect(Date.parse(String(again.rotatingUntil))).toBeGreaterThan(Date.now());
    const sql = 'SELECT secret, former_secret FROM push_endpoints';
    expect(await selectOne(api.stores.pool, sql)).toEqual({ secret: again.secret, former_secret: secret });

    const retired = endpointReply.parse((await call('POST', '/office/retire-secret')).body);
    expect(retired.rotatingUntil).toBeNull();
    expect(await selectOne(api.stores.pool, sql)).toEqual({ secret: again.secret, former_secret: null });
  });

  test('has each change of it recorded under who made it, and no secret', async () => {
    const { secret } = await create();
    await call('POST', '/office/rotate-secret');
    await call('DELETE', '/office');
    const rows = await select(api.stores.pool, 'SELECT actor, action, subject, detail FROM audit_log');
    expect(rows.map(({ actor, action, subject }) => [actor, action, subject])).toEqual([
      ['grace', 'endpoint_created', 'endpoint office'],
      ['grace', 'secret_rotated', 'endpoint office'],
      ['grace', 'endpoint_removed', 'endpoint office'],
    ]);
    expect(JSON.stringify(rows)).not.toContain(secret);
  });

  test('is tested by one attempt at a time', async () => {
    await create();
    const first = testReply.parse((await call('POST', '/office/test')).body);
    expect(testReply.parse((await call('POST', '/office/test')).body)).toEqual(first);
    expect((await read()).health.waiting).toBe(1);
  });
});

describe('a replay', () => {
  test('of an event, and of all of an order', async () => {
    await create();
    const [orderNo = '', other = ''] = await makeEvents(2);
    await api.stores.orders.requestCancel(orderNo);
    await dispatchEvents(api.stores);
    await feedAll();
    const one = await call('POST', '/office/replay', { eventId: `${other}.1` });
    expect([one.status, replayReply.parse(one.body)]).toEqual([202, { events: 1 }]);
    const all = await call('POST', '/office/replay', { orderNo });
    expect(replayReply.parse(all.body)).toEqual({ events: 2 });

    const { deliveries } = deliveriesReply.parse((await call('GET', '/office/deliveries')).body);
    expect(deliveries.map(({ eventId, dueAt }) => [eventId, dueAt !== null])).toEqual([
      [`${other}.1`, true],
      [`${orderNo}.1`, true],
      // Behind the one before it.
      [`${orderNo}.2`, false],
    ]);
    // What waits already is not added again.
    await call('POST', '/office/replay', { orderNo });
    expect((await read()).health.waiting).toBe(3);
  });

  test('leaves out what the endpoint has yet to come to', async () => {
    await create();
    const [orderNo] = await makeEvents(1);
    const reply = await call('POST', '/office/replay', { orderNo });
    expect(replayReply.parse(reply.body)).toEqual({ events: 0 });
  });

  test('of a time is one at a time', async () => {
    await create();
    await makeEvents(1);
    await feedAll();
    const time = { since: '2020-01-01T00:00:00Z', until: '2100-01-01T00:00:00+02:00' };
    expect(replayReply.parse((await call('POST', '/office/replay', time)).body)).toEqual({ events: null });
    expect((await read()).replaying).toBe(true);
    expect((await call('POST', '/office/replay', time)).status).toBe(202);
    const other = { ...time, since: '2021-01-01T00:00:00Z' };
    expect(refusalOf(await call('POST', '/office/replay', other))).toBe('409 replay_running');
  });

  test.each([{ eventId: 'shop.999999' }, { eventId: 'nothing' }, { orderNo: 'none-0-1-X' }])(
    'of what is not there is refused: %j',
    async (body) => {
      await create();
      const before = await everything();
      expect(refusalOf(await call('POST', '/office/replay', body))).toBe('404 event_not_found');
      expect(await everything()).toEqual(before);
    },
  );
});

test('deliveries are shown by status or order, page by page', async () => {
  await create();
  const orderNos = await makeEvents(5);
  await feedAll();
  for (const orderNo of orderNos) await call('POST', '/office/replay', { orderNo });
  const seen: string[] = [];
  for (let next: number | null = 0; next !== null;) {
    const reply = await call('GET', `/office/deliveries?limit=2&after=${next}`);
    const page = deliveriesReply.parse(reply.body);
    expect(page.deliveries.length).toBeLessThanOrEqual(2);
    seen.push(...page.deliveries.map(({ eventId }) => eventId));
    ({ next } = page);
  }
  expect(seen).toEqual(orderNos.map((orderNo) => `${orderNo}.1`));
  const ofOrder = await call('GET', `/office/deliveries?orderNo=${orderNos[3]}`);
  expect(deliveriesReply.parse(ofOrder.body).deliveries.map(({ eventId }) => eventId)).toEqual([seen[3]]);
  const delivered = await call('GET', '/office/deliveries?status=delivered');
  expect(deliveriesReply.parse(delivered.body)).toEqual({ deliveries: [], next: null });
});

describe('a delivery', () => {
  const idOf = async (path: string) =>
    deliveriesReply.parse((await call('GET', path)).body).deliveries[0]?.id ?? 0;

  test('of an event is shown with what is sent, and what was answered to each try', async () => {
    await create();
    const [orderNo = ''] = await makeEvents(1);
    await feedAll();
    await call('POST', '/office/replay', { orderNo });
    const { endpointId } = (await api.stores.endpoints.read('office')) ?? { endpointId: 0 };
    const [delivery] = (await api.stores.deliveries.take(endpointId))?.deliveries ?? [];
    if (!delivery) throw new Error('nothing was due');
    const tried = { at: '2026-01-01T00:00:00.000Z', tookMs: 7, status: 500, error: null, answer: 'no' };
    const pauses = { retryMs: 60_000, askedMs: 0, probeMs: () => 0 };
    await api.stores.deliveries.fail({ ...delivery, tried }, 'answered 500', pauses);

    const reply = await call('GET', `/office/deliveries/${delivery.deliveryId}`);
    expect(deliveryFileReply.parse(reply.body)).toMatchObject({
      id: delivery.deliveryId,
      eventId: `${orderNo}.1`,
      status: 'waiting',
      lastError: 'answered 500',
      body: { id: `${orderNo}.1`, type: 'order.awaiting_payment', orderNo, data: { order: { orderNo } } },
      tries: [tried],
    });
  });

  test('of a test is shown with its body, and not tried yet', async () => {
    await create();
    const { eventId } = testReply.parse((await call('POST', '/office/test')).body);
    const reply = await call('GET', `/office/deliveries/${await idOf('/office/deliveries')}`);
    expect(deliveryFileReply.parse(reply.body)).toMatchObject({
      body: { id: eventId, type: 'endpoint.test', data: { endpoint: 'office' } },
      tries: [],
    });
  });

  test('of an event that was deleted has no body', async () => {
    await create();
    const [orderNo = ''] = await makeEvents(1);
    await feedAll();
    await call('POST', '/office/replay', { orderNo });
    for (const table of ['order_events', 'orders'])
      await modify(api.stores.pool, `DELETE FROM ${table} WHERE order_no = ?`, [orderNo]);
    const reply = await call('GET', `/office/deliveries/${await idOf('/office/deliveries')}`);
    expect(deliveryFileReply.parse(reply.body).body).toBeNull();
  });

  test.each(['999999', '0', 'x'])('that the endpoint does not have, %s, is not found', async (id) => {
    await create();
    await create('other');
    await call('POST', '/other/test');
    for (const each of [id, await idOf('/other/deliveries')])
      expect(refusalOf(await call('GET', `/office/deliveries/${each}`))).toBe('404 delivery_not_found');
    expect(refusalOf(await call('GET', '/none/deliveries/1'))).toBe('404 endpoint_not_found');
  });
});

describe('hostile input', () => {
  const BAD_TERMS: [string, unknown][] = [
    ['no body', ''],
    ['no object', []],
    ['no address', {}],
    ['a number for an address', { url: 7 }],
    ['text that is no address', { url: 'office' }],
    ['another scheme', { url: 'file:///etc/passwd' }],
    ['a password', { url: 'https://a:b@office.shop.example/' }],
    ['an endless address', { url: `https://office.shop.example/${'x'.repeat(3_000)}` }],
    ['an unknown type', { ...TERMS, types: ['order.eaten'] }],
    ['no types', { ...TERMS, types: [] }],
    ['text for types', { ...TERMS, types: 'order.paid' }],
    ['a hundred types', { ...TERMS, types: Array.from({ length: 100 }, () => 'order.paid') }],
    ['a sale that cannot be', { ...TERMS, saleId: '../x' }],
    ['a long description', { ...TERMS, description: 'x'.repeat(256) }],
    ['a control character', { ...TERMS, description: 'a\u0000b' }],
    ['an unknown member', { ...TERMS, secret: 'whsec_mine' }],
    ['a prototype', '{"__proto__":{"url":"http://127.0.0.1/"}}'],
    ['half of a body', '{"url":"http'],
  ];
  const BAD_NAMES = [
    'Office',
    'a_b',
    'a--b',
    '-a',
    'a-',
    '%21',
    'a%00b',
    'a%2Fb',
    'x'.repeat(65),
    '%F0%9F%98%80',
  ];

  test.each(BAD_TERMS)('%s makes no endpoint and changes none', async (_, body) => {
    await create();
    const before = await everything();
    for (const name of ['fresh', 'office']) {
      const reply = await call('PUT', `/${name}`, typeof body === 'string' ? body : Object(body));
      expect(refusalOf(reply)).toMatch(/^400 (invalid_request|malformed_request)$/);
    }
    expect(await everything()).toEqual(before);
  });

  test.each(BAD_NAMES)('%s is no name', async (name) => {
    const before = await everything();
    expect(problemOf(await call('PUT', `/${name}`, TERMS)).status).toBe(400);
    for (const action of ['rotate-secret', 'retire-secret', 'enable', 'disable', 'test'])
      expect(refusalOf(await call('POST', `/${name}/${action}`))).toBe('404 endpoint_not_found');
    expect(refusalOf(await call('GET', `/${name}`))).toBe('404 endpoint_not_found');
    expect((await call('DELETE', `/${name}`)).status).toBe(204);
    expect(await everything()).toEqual(before);
  });

  test('an unknown endpoint is not found by any call', async () => {
    const before = await everything();
    for (const action of ['rotate-secret', 'retire-secret', 'enable', 'disable', 'test'])
      expect(refusalOf(await call('POST', `/none/${action}`))).toBe('404 endpoint_not_found');
    const replay = await call('POST', '/none/replay', { eventId: 'shop.1' });
    expect(refusalOf(replay)).toBe('404 endpoint_not_found');
    expect(refusalOf(await call('GET', '/none/deliveries'))).toBe('404 endpoint_not_found');
    expect(await everything()).toEqual(before);
  });

  test.each([
    '',
    {},
    [],
    { eventId: '' },
    { eventId: 7 },
    { eventId: 'x'.repeat(129) },
    { eventId: 'shop.1', orderNo: 'a' },
    { since: '2026-11-21T10:00:00Z' },
    { since: '2026-11-21T10:00:00Z', until: '2026-11-21T10:00:00Z' },
    { since: '2026-11-21', until: '2026-11-22' },
    { since: 0, until: 1 },
    { since: '2026-11-21T10:00:00Z', until: '2026-11-21T11:00:00Z', types: [] },
  ])('a replay by %j is refused', async (body) => {
    await create();
    const before = await everything();
    const reply = await call('POST', '/office/replay', body);
    expect(refusalOf(reply)).toMatch(/^400 (invalid_request|malformed_request)$/);
    expect(await everything()).toEqual(before);
  });

  test('a replay whose period ends before it begins is refused by name', async () => {
    await create();
    const period = { since: '2026-11-21T10:00:00Z', until: '2026-11-21T10:00:00Z' };
    const { body } = await call('POST', '/office/replay', period);
    expect(body).toMatchObject({ faults: [{ path: 'until', message: 'must be after since' }] });
  });

  test.each([
    'status=lost',
    'status=waiting&status=parked',
    `orderNo=nope`,
    'orderNo=demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG&status=waiting',
    'after=-1',
    'after=1e3',
    'limit=0',
    `limit=${MAX_DELIVERIES_PAGE + 1}`,
    'limit=9999999999999999',
    'sort=id',
  ])('deliveries by %s are refused', async (query) => {
    await create();
    expect(refusalOf(await call('GET', `/office/deliveries?${query}`))).toBe('400 invalid_request');
  });

  test('an address inside a private network is refused unless that is allowed', async () => {
    const strict = await api.withParts({ pushRules: { allowPrivate: false, requireHttps: true } });
    for (const url of [
      'https://127.0.0.1/',
      'https://localhost/',
      'https://[::1]/',
      'http://office.example/',
    ]) {
      const reply = await call('PUT', '/office', { url }, strict.url);
      expect(problemOf(reply)).toMatchObject({ code: 'invalid_request', faults: [{ path: 'url' }] });
    }
    expect((await call('PUT', '/office', { url: 'https://office.example/' }, strict.url)).status).toBe(201);
  });
});

test('while the store is away nothing is promised', async () => {
  const pool = createMysqlPool('mysql://user@127.0.0.1:1/none');
  const away = await api.withParts({ endpoints: mysqlStores(pool).endpoints });
  onTestFinished(async () => {
    await away.close();
    await pool.end();
  });
  expect(refusalOf(await call('PUT', '/office', TERMS, away.url))).toBe('503 endpoints_unavailable');
  expect(refusalOf(await call('GET', '', undefined, away.url))).toBe('503 endpoints_unavailable');
});

test('the metrics show how each endpoint fares, and nothing of it while the store is away', async () => {
  await create();
  await call('POST', '/office/test');
  const metrics = createMetrics();
  const readers = statusReaders(async () => api.stores, api.stores);
  const board = createStatusBoard(readers);
  showBoard(metrics, board);
  await board.look();
  const text = await metrics.read();
  expect(text).toContain('holdfast_push_waiting{endpoint="office"} 1');
  expect(text).toContain('holdfast_push_failing_seconds{endpoint="office"} 0');
  expect(text).toContain('holdfast_push_disabled{endpoint="office"} 0');

  const blind = createMetrics();
  const away = createStatusBoard({ ...readers, endpoints: () => Promise.reject(new Error('away')) });
  showBoard(blind, away);
  await away.look();
  expect(await blind.read()).not.toContain('endpoint="office"');
});
