/** No answer is newer than what the next look can read, also for a caller that names no version. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { signToken } from '../../../src/api/http/auth.ts';
import { readDoubtLeftMs } from '../../../src/orders/rows.sql.ts';
import { openStores } from '../../../src/stores/open.ts';
import { openTcpProxy } from '../../../stack/servers/tcp-proxy.ts';
import { buildSale } from '../../support/factories.ts';
import { openHttpApp } from '../../support/http-app.ts';
import { JWT_SECRET, orderOf, problemOf, refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { silent, type TestStores } from '../../support/stores.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  shopper = await api.shopper();
});

async function buyStored(): Promise<string> {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  return orderNo;
}

/** The same API, whose commands about orders fail while Redis is cut off. */
async function openCut() {
  let isCut = false;
  const { reservations } = api.stores;
  const unlessCut = <T>(call: () => Promise<T>): Promise<T> =>
    isCut ? Promise.reject(new Error('Command timed out')) : call();
  const app = await api.withParts({
    reservations: {
      ...reservations,
      lookUp: (orderNo) => unlessCut(() => reservations.lookUp(orderNo)),
      project: (orderNo, state) => unlessCut(() => reservations.project(orderNo, state)),
    },
    notifier: {
      paid: () => {},
      cancelRequested: () => {},
      calledOff: () => {},
      retried: () => {},
      drain: async () => {},
    },
  });
  onTestFinished(async () => {
    await app.close();
    // What one test has doubted is no news for the next.
    await api.stores.pool.query('DELETE FROM projection_doubts');
  });
  return { shopper: await app.shopper(shopper.userId), cut: (value: boolean) => (isCut = value) };
}

test('a payment page that is refused shows no state that the next look does not have', async () => {
  const orderNo = await buyStored();
  // As another process commits it a moment before it is projected.
  await api.stores.orders.requestCancel(orderNo);

  const refused = await shopper.pay(orderNo);

  expect(refusalOf(refused)).toBe('409 not_payable');
  expect(problemOf(refused)['order']).toMatchObject({ version: 2, closing: true });
  expect(await shopper.readOrder(orderNo)).toEqual(problemOf(refused)['order']);
});

test('what was read from MySQL while Redis did not answer is not taken back when it answers again', async () => {
  const orderNo = await buyStored();
  const { shopper: caller, cut } = await openCut();
  cut(true);
  const asked = orderOf(await caller.cancel(orderNo));
  expect(asked).toMatchObject({ version: 2, closing: true });
  expect(await caller.readOrder(orderNo)).toEqual(asked);
  cut(false);

  expect(await caller.readOrder(orderNo)).toEqual(asked);
  expect((await api.stores.reservations.readOrder(orderNo))?.state.version).toBe(2);
});

test('an answer that could not be projected is not taken back either', async () => {
  const orderNo = await buyStored();
  const { shopper: caller, cut } = await openCut();
  await api.stores.orders.requestCancel(orderNo);
  cut(true);
  const refused = await caller.pay(orderNo);
  cut(false);

  expect(await caller.readOrder(orderNo)).toEqual(problemOf(refused)['order']);
});

test('a page that knows the version of an order which MySQL has lost gets its end', async () => {
  const { orders, reservations, pool } = api.stores;
  const orderNo = await buyStored();
  const stored = await orders.read(orderNo);
  if (!stored) throw new Error('it was stored');
  expect(stored.state.version).toBe(1);
  for (const table of ['order_events', 'order_items', 'orders'])
    await pool.query(`DELETE FROM ${table} WHERE order_no = ?`, [orderNo]);
  const poll = () => shopper.getOrder(orderNo, { 'if-none-match': '"1"' });
  expect((await poll()).status).toBe(304);

  const { state } = await orders.abandon(stored.order, 'stock_exhausted');

  await reservations.project(orderNo, state);
  const reply = await poll();
  expect(reply.status).toBe(200);
  expect(orderOf(reply)).toMatchObject({ status: 'failed', version: 2 });
});

/** An API of its own, whose wire to Redis a test can cut; that of `api` never breaks. */
async function openCutOff() {
  const [redisUrl = ''] = api.stores.config.REDIS_URL;
  const wire = await openTcpProxy(new URL(redisUrl).host);
  const stores = await openStores({ ...api.stores.config, REDIS_URL: [`redis://${wire.address}`] }, silent);
  const app = await openHttpApp({ stores, engine: api.engine });
  onTestFinished(async () => {
    await app.close();
    await stores.close();
    await wire.close();
    // What one test has doubted is no news for the next.
    await api.stores.pool.query('DELETE FROM projection_doubts');
  });
  wire.cut();
  await waitFor('the wire to be cut', () => stores.redis.status !== 'ready');
  return { url: app.url, shopper: await app.shopper(shopper.userId), stores };
}

/** They wait for a slow MySQL, as on a busy machine. To an API it would be away, and nothing be in doubt. */
const patientDoubts = () => ({
  ...api.stores.projectionDoubts,
  readLeftMs: () => readDoubtLeftMs(api.stores.pool, 60_000),
});

/** Another app on the wire that never breaks, which doubts nothing yet. It has just answered from Redis. */
async function openOther(orderNo: string) {
  const app = await api.withParts({ projectionDoubts: patientDoubts() });
  const caller = await app.shopper(shopper.userId);
  expect(await caller.readOrder(orderNo)).toMatchObject({ version: 1 });
  return caller;
}

test('what one API answers while its own link to Redis is cut is not taken back by another', async () => {
  const orderNo = await buyStored();
  const cutOff = await openCutOff();
  const other = await openOther(orderNo);
  await api.stores.orders.requestCancel(orderNo);

  const answered = await cutOff.shopper.readOrder(orderNo);

  expect(answered).toMatchObject({ version: 2, closing: true });
  expect(await other.readOrder(orderNo)).toEqual(answered);
});

test.each([
  ['cancel', () => ({}), { version: 2, closing: true }],
  ['deadline', () => ({ until: new Date(Date.now() + 2 * 60 * 60_000).toISOString() }), { version: 2 }],
])(
  'what the %s of staff answers while its link to Redis is cut is not taken back by another API',
  async (call, body, now) => {
    const orderNo = await buyStored();
    const cutOff = await openCutOff();
    const other = await openOther(orderNo);
    const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['operator'] });

    const answered = await send(`${cutOff.url}/v1/admin/orders/${orderNo}/${call}`, 'POST', {
      headers: { authorization: `Bearer ${token}` },
      body: body(),
    });

    expect(answered.body).toMatchObject(now);
    const seen = await other.readOrder(orderNo);
    expect(seen).toMatchObject(now);
    expect(answered.body).toMatchObject(seen);
  },
);

test('a repeat with the same key through another API is not older either', async () => {
  const key = { 'idempotency-key': 'a-key-of-two-apis' };
  const cart = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };
  const { orderNo, reservedAt } = orderOf(await shopper.placeOrder(cart, key));
  await api.store(orderNo);
  const cutOff = await openCutOff();
  const other = await openOther(orderNo);
  await api.stores.orders.requestCancel(orderNo);

  const listed = await cutOff.shopper.call('GET', `/v1/orders?date=${reservedAt.slice(0, 10)}`);

  const repeated = orderOf(await other.placeOrder(cart, key));
  expect(repeated).toMatchObject({ orderNo, version: 2, closing: true });
  expect(listed.body).toMatchObject({ orders: expect.arrayContaining([repeated]) });
});

test('a cancel that could not be projected is not taken back by another API', async () => {
  const orderNo = await buyStored();
  const cutOff = await openCutOff();
  const other = await openOther(orderNo);

  const asked = orderOf(await cutOff.shopper.cancel(orderNo));

  expect(asked).toMatchObject({ version: 2, closing: true });
  expect(await other.readOrder(orderNo)).toEqual(asked);
});

test('of many polls through another API none that begins after an answer is older than it', async () => {
  const orderNo = await buyStored();
  const cutOff = await openCutOff();
  const other = await openOther(orderNo);
  await api.stores.orders.requestCancel(orderNo);
  let isAnswered = false;
  const late: number[] = [];

  const answering = cutOff.shopper.readOrder(orderNo).then(({ version }) => {
    isAnswered = true;
    return version;
  });
  while (late.length < 20) {
    const isLate = isAnswered;
    const { version } = await other.readOrder(orderNo);
    if (isLate) late.push(version);
  }

  expect(await answering).toBe(2);
  expect(new Set(late)).toEqual(new Set([2]));
});

test('what the others cannot be told of is not answered', async () => {
  const orderNo = await buyStored();
  const cutOff = await openCutOff();
  await api.stores.pool.query('RENAME TABLE projection_doubts TO away');
  try {
    expect(refusalOf(await cutOff.shopper.getOrder(orderNo))).toBe('503 status_unavailable');
    expect(refusalOf(await cutOff.shopper.pay(orderNo))).toBe('503 status_unavailable');
  } finally {
    await api.stores.pool.query('RENAME TABLE away TO projection_doubts');
  }
  expect(await cutOff.shopper.readOrder(orderNo)).toMatchObject({ version: 1 });
});

test.each<[string, (redis: TestStores['redis'], key: string) => Promise<unknown>]>([
  ['is something else', async (redis, key) => [await redis.del(key), await redis.set(key, 'no hash')]],
  ['lacks a field', (redis, key) => redis.hdel(key, 'total')],
  ['has a field that is no JSON', (redis, key) => redis.hset(key, 'items', '[')],
])('an order that %s in Redis makes no API doubt all others', async (_, damage) => {
  const orderNo = await buyStored();
  const { redis } = api.stores;
  const [key = ''] = await redis.keys(`*:order:${orderNo}`);
  await damage(redis, key);

  expect(await shopper.readOrder(orderNo)).toMatchObject({ version: 1 });
  expect(await patientDoubts().readLeftMs()).toBe(0);
});
