/** Purchases that wait until their order is stored, while no worker and no relay runs at all. */

import { EventEmitter, once } from 'node:events';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { ulid } from 'ulidx';
import { beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { z } from 'zod';
import type { Finder } from '../../../src/api/calls/find-order.ts';
import { createWaits, readWait } from '../../../src/api/calls/wait.ts';
import type { Metrics } from '../../../src/metrics.ts';
import type { Storing } from '../../../src/orders/storing.ts';
import { rebuildSale } from '../../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { listWaiting } from '../../../src/redis/outbox.ts';
import { openStores, type Stores } from '../../../src/stores/open.ts';
import { openTcpProxy, type TcpProxy } from '../../../stack/servers/tcp-proxy.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { partly } from '../../support/partly.ts';
import { selectOne } from '../../support/rows.ts';
import {
  orderOf,
  pressPay,
  problemOf,
  refusalOf,
  sessionOf,
  send,
  type Reply,
} from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { waitFor } from '../../support/wait.ts';
import { scrape, scrapeCounter } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
/** No wait in it ends before its order is stored. */
let app: HttpApp;
let saleId: string;

beforeAll(async () => {
  api = await openApi();
  app = await api.withParts({ clock: createTestClock() });
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
});

const WAIT = { prefer: 'wait=7' };
const cart = (quantity = 1) => ({ saleId, items: [{ sku: 'lamp', quantity }] });
const CANCEL = { onTimeout: 'cancel' };
const key = (name = ulid()) => ({ 'idempotency-key': name });
const orderNoIn = ({ headers }: Reply) => headers.get('location')?.split('/').at(-1) ?? '';
const isInOutbox = async (orderNo: string) =>
  (await listWaiting(api.stores.redis, { saleId, shard: 0 })).includes(orderNo);

interface WiredApp {
  wired: HttpApp;
  wire: TcpProxy;
  stores: Stores;
  /** The clock of its waits. */
  clock: TestClock;
}

/** An API of its own, behind a wire to MySQL that the test may cut. */
async function openBehindWire(): Promise<WiredApp> {
  const url = new URL(api.stores.config.MYSQL_URL);
  const wire = await openTcpProxy(url.host);
  onTestFinished(() => wire.close());
  url.host = wire.address;
  const stores = await openStores({ ...api.stores.config, MYSQL_URL: url.href }, silent);
  onTestFinished(() => stores.close());
  const clock = createTestClock();
  const wired = await api.withParts({ ...stores, finalAnswerHeader: { name: 'Final', value: 'yes' }, clock });
  return { wired, wire, stores, clock };
}

const isWaiting = ({ url }: HttpApp, count: number) =>
  waitFor(`${count} to wait`, async () => (await scrape(url)).get('holdfast_waiting_purchases') === count);

/** Lets the wait of this one call end before its order is stored. */
async function endWait(waited: HttpApp, clock: TestClock, call: Promise<Reply>): Promise<Reply> {
  await isWaiting(waited, 1);
  clock.pass(7_000);
  return call;
}

test('a purchase that waits answers 201 with the order as MySQL has it, and no worker runs', async () => {
  const buyer = await app.shopper();

  const reply = await buyer.placeOrder(cart(), WAIT);

  expect(reply.status).toBe(201);
  expect(reply.headers.get('preference-applied')).toBe('wait=7');
  expect(reply.headers.get('retry-after')).toBeNull();
  const order = orderOf(reply);
  expect(order).toMatchObject({ status: 'awaiting_payment', version: 1, payment: 'none', closing: false });
  expect(reply.headers.get('location')).toBe(`/v1/orders/${order.orderNo}`);
  expect((await api.stores.orders.read(order.orderNo))?.state).toMatchObject({ version: 1 });
  expect(await buyer.readOrder(order.orderNo)).toEqual(order);
  await waitFor('the entry to be taken off', async () => !(await isInOutbox(order.orderNo)));
  expect(
    await selectOne(
      api.stores.pool,
      'SELECT engine_due_at <= NOW(3) AS due, workflow_started_at FROM orders WHERE order_no = ?',
      [order.orderNo],
    ),
  ).toEqual({ due: 1, workflow_started_at: null });
});

test('what was stored for its caller is paid at once by its payment', async () => {
  const buyer = await app.shopper();
  const { orderNo } = orderOf(await buyer.placeOrder(cart(), WAIT));

  const opened = await buyer.pay(orderNo);
  await pressPay(sessionOf(opened).url);

  expect(opened.status).toBe(201);
  await buyer.awaitStatus(orderNo, 'paid');
});

test('a purchase that does not ask is answered before its order is stored', async () => {
  const reply = await (await app.shopper()).placeOrder(cart());

  expect(reply.status).toBe(202);
  expect(reply.headers.get('preference-applied')).toBeNull();
  expect(await isInOutbox(orderOf(reply).orderNo)).toBe(true);
});

test('200 purchases that wait at once are stored in few transactions, each order once', async () => {
  const { stores, clock } = await openBehindWire();
  const batches: number[] = [];
  const { storeOrders } = stores.orders;
  stores.orders.storeOrders = (orders, presence) => {
    batches.push(orders.length);
    return storeOrders(orders, presence);
  };
  const watched = await api.withParts({ ...stores, clock });
  const shoppers = await Promise.all(Array.from({ length: 200 }, () => watched.shopper()));

  const replies = await Promise.all(shoppers.map((shopper) => shopper.placeOrder(cart(), WAIT)));

  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([201]));
  expect(batches.reduce((sum, size) => sum + size, 0)).toBe(200);
  expect(batches.length).toBeLessThan(100);
});

test('a query makes no difference', async () => {
  const buyer = await app.shopper();
  const reply = await buyer.call('POST', '/v1/orders?channel=app', {
    body: cart(),
    headers: { ...key(), ...WAIT },
  });
  expect(reply.status).toBe(201);
  expect(reply.headers.get('preference-applied')).toBe('wait=7');
  expect(reply.headers.get('retry-after')).toBeNull();
});

test('refusals come as without a wait', async () => {
  const buyer = await app.shopper();
  const reply = await buyer.placeOrder({ saleId, items: [{ sku: 'none', quantity: 1 }] }, WAIT);
  expect(refusalOf(reply)).toBe('400 unknown_sku');
  expect(reply.headers.get('preference-applied')).toBeNull();
});

test.each(['wait=0', 'wait=', 'wait', 'wait=-1', 'wait=1.5', 'respond-async', 'x="a,wait=3"', ','])(
  'what is no wait is ignored: %s',
  async (prefer) => {
    const reply = await (await app.shopper()).placeOrder(cart(), { prefer });
    expect(reply.status).toBe(202);
    expect(reply.headers.get('preference-applied')).toBeNull();
  },
);

test.each([
  ['wait=3', 3],
  ['Wait = "3"', 3],
  ['respond-async, wait=4; x=1', 4],
  ['wait=9999', 7],
  ['wait=x, wait=2, wait=3', 2],
  ['note="wait=1, \\" wait=2", wait=5', 5],
  ['"', undefined],
  // Too long to be looked at.
  [`wait=3, ${'\\"'.repeat(128)}`, undefined],
])('of the header %s a wait is read', (header, seconds) => {
  expect(readWait(header)).toBe(seconds);
});

test('at the end of the wait the answer is 202, and the order goes on', async () => {
  const { wired, wire, clock } = await openBehindWire();
  const buyer = await wired.shopper();
  wire.cut();

  const reply = await endWait(wired, clock, buyer.placeOrder(cart(), WAIT));

  expect(reply.status).toBe(202);
  expect(reply.headers.get('preference-applied')).toBe('wait=7');
  expect(reply.headers.get('retry-after')).toBe('1');
  const { orderNo, status } = orderOf(reply);
  expect(status).toBe('queued');
  expect(await isInOutbox(orderNo)).toBe(true);
});

test('a purchase that waits while MySQL is frozen is answered at the end of its wait', async () => {
  const { wired, wire, clock } = await openBehindWire();
  const buyer = await wired.shopper();
  await buyer.placeOrder(cart(), WAIT);
  wire.silence();

  const reply = await endWait(wired, clock, buyer.placeOrder(cart(), WAIT));

  expect(reply.status).toBe(202);
  wire.cut();
});

test('a wait in which MySQL comes back ends with 201', async () => {
  const { wire, stores, clock } = await openBehindWire();
  let tries = 0;
  const { storeOrders } = stores.orders;
  stores.orders.storeOrders = (orders, presence) => {
    tries += 1;
    if (tries === 2) wire.mend();
    return storeOrders(orders, presence);
  };
  const watched = await api.withParts({ ...stores, clock });
  wire.cut();

  const reply = await (await watched.shopper()).placeOrder(cart(), WAIT);

  expect(reply.status).toBe(201);
  expect(tries).toBeGreaterThan(1);
});

test('a repeat of a queued order waits as well, and answers 200 with the stored order', async () => {
  const buyer = await app.shopper();
  const same = key();
  const first = orderOf(await buyer.placeOrder(cart(), same));

  const repeated = await buyer.placeOrder(cart(), { ...same, ...WAIT });
  const again = await buyer.placeOrder(cart(), { ...same, ...WAIT });

  expect([repeated.status, again.status]).toEqual([200, 200]);
  expect(orderOf(repeated)).toMatchObject({ orderNo: first.orderNo, status: 'awaiting_payment' });
  expect(orderOf(again)).toEqual(orderOf(repeated));
  expect(repeated.headers.get('preference-applied')).toBe('wait=7');
  expect(again.headers.get('preference-applied')).toBeNull();
});

test('repeats at once with the same key are one order, which each of them hears of', async () => {
  const buyer = await app.shopper();
  const same = { ...key(), ...WAIT };

  const replies = await Promise.all(Array.from({ length: 5 }, () => buyer.placeOrder(cart(), same)));

  const statuses = replies.map(({ status }) => status);
  expect(statuses.filter((status) => status === 201)).toHaveLength(1);
  expect(statuses.filter((status) => status === 200)).toHaveLength(4);
  expect(new Set(replies.map((reply) => orderOf(reply).version))).toEqual(new Set([1]));
});

test('an order that MySQL refuses is answered as failed, and its units are sold again', async () => {
  const { saleId: small } = await api.stores.openSale(buildSale());
  const before = (await api.stores.saleStock.read(small))?.skus[0]?.available;
  // MySQL refuses the order for its key, which another one of the shopper has.
  const buyer = await app.shopper();
  const same = key();
  const items = [{ sku: 'lamp', quantity: 1 }];
  const { orderNo } = orderOf(await buyer.placeOrder({ saleId: small, items }, { ...same, ...WAIT }));
  await api.stores.redis.del(...(await api.stores.redis.keys(`*idem*${buyer.userId}*`)));

  const reply = await buyer.placeOrder({ saleId: small, items }, { ...same, ...WAIT });

  expect(refusalOf(reply)).toBe('409 order_failed');
  expect(problemOf(reply)).toMatchObject({ order: { status: 'failed', reason: 'duplicate_request' } });
  expect(reply.headers.get('preference-applied')).toBe('wait=7');
  const after = (await api.stores.saleStock.read(small))?.skus[0];
  expect(after).toMatchObject({ available: Number(before) - 1, held: 1 });
  expect(await buyer.readOrder(orderNo)).toMatchObject({ status: 'awaiting_payment' });
});

test('an order that MySQL refuses delays none of the orders that are stored with it', async () => {
  const { saleId: small } = await api.stores.openSale(buildSale({ skus: buildSale().skus }));
  const poisoned = await app.shopper();
  const same = key();
  await poisoned.placeOrder({ saleId: small, items: [{ sku: 'lamp', quantity: 1 }] }, { ...same, ...WAIT });
  await api.stores.redis.del(...(await api.stores.redis.keys(`*idem*${poisoned.userId}*`)));
  const others = await Promise.all(Array.from({ length: 8 }, () => app.shopper()));

  const [refused, ...replies] = await Promise.all([
    poisoned.placeOrder({ saleId: small, items: [{ sku: 'lamp', quantity: 1 }] }, { ...same, ...WAIT }),
    ...others.map((other) => other.placeOrder(cart(), WAIT)),
  ]);

  expect(refusalOf(refused)).toBe('409 order_failed');
  expect(replies.map(({ status }) => status)).toEqual(others.map(() => 201));
});

test('an order whose sale was rebuilt before it was stored is stored with a new hold', async () => {
  const { saleId: small } = await api.stores.openSale(buildSale());
  const buyer = await app.shopper();
  const same = key();
  const body = { saleId: small, items: [{ sku: 'lamp', quantity: 1 }] };
  const { orderNo } = orderOf(await buyer.placeOrder(body, same));
  await api.stores.redis.del(saleKeys({ saleId: small, shard: 0 }).outbox);
  await rebuildSale(api.stores, small, { cause: 'lost' });

  const repeated = await buyer.placeOrder(body, { ...same, ...WAIT });

  expect(orderOf(repeated)).toMatchObject({ orderNo, status: 'awaiting_payment' });
  expect((await api.stores.saleStock.read(small))?.skus[0]).toMatchObject({ available: 9, held: 1 });
});

test('a caller who goes away gives its place back, and its order is stored all the same', async () => {
  const { wired, wire } = await openBehindWire();
  const buyer = await wired.shopper();
  wire.cut();
  const gone = new AbortController();
  const call = fetch(`${wired.url}/v1/orders`, {
    method: 'POST',
    signal: gone.signal,
    headers: {
      authorization: buyer.authorization,
      'content-type': 'application/json',
      ...key('goes-away'),
      ...WAIT,
    },
    body: JSON.stringify(cart()),
  });
  await isWaiting(wired, 1);

  gone.abort();
  await expect(call).rejects.toThrow('aborted');

  await isWaiting(wired, 0);
  wire.mend();
  const { orderNo } = orderOf(await buyer.placeOrder(cart(), key('goes-away')));
  await waitFor('the order to be stored', () => api.stores.orders.read(orderNo));
});

test('a waiting call occupies no place in the lane of purchases', async () => {
  const { wired, wire, stores, clock } = await openBehindWire();
  const narrow = await api.withParts({ ...stores, purchasesAtOnce: 1, clock });
  const [first, second] = [await narrow.shopper(), await wired.shopper()];
  wire.cut();
  const waiting = first.placeOrder(cart(), WAIT);
  await isWaiting(narrow, 1);

  const reply = await send(`${narrow.url}/v1/orders`, 'POST', {
    body: cart(),
    headers: { authorization: second.authorization, ...key() },
  });

  expect(reply.status).toBe(202);
  wire.mend();
  expect((await waiting).status).toBe(201);
});

test('how waits end is counted, and their answers are purchases by their outcome', async () => {
  const { wired, wire, clock } = await openBehindWire();
  const buyer = await wired.shopper();

  const replies: Reply[] = [await buyer.placeOrder(cart(), WAIT)];
  wire.cut();
  replies.push(await endWait(wired, clock, buyer.placeOrder(cart(), WAIT)));

  expect(replies.map(({ status }) => status)).toEqual([201, 202]);
  expect(await scrapeCounter(wired.url, 'holdfast_waits_total')).toEqual({
    stored: 1,
    late: 1,
    cancelled: 0,
    unknown: 0,
    failed: 0,
    full: 0,
  });
  expect(await scrapeCounter(wired.url, 'holdfast_purchases_total')).toMatchObject({
    stored: 1,
    accepted: 1,
  });
});

test('with onTimeout the end of the wait is 504, and the order is closing and holds its units', async () => {
  const { wired, wire, clock } = await openBehindWire();
  const buyer = await wired.shopper();
  wire.cut();

  const reply = await endWait(wired, clock, buyer.placeOrder({ ...cart(), ...CANCEL }, WAIT));

  expect(refusalOf(reply)).toBe('504 wait_timed_out');
  const { orderNo } = z.object({ orderNo: z.string() }).parse(problemOf(reply));
  expect(reply.headers.get('location')).toBe(`/v1/orders/${orderNo}`);
  expect(reply.headers.get('preference-applied')).toBe('wait=7');
  expect([reply.headers.get('retry-after'), reply.headers.get('final')]).toEqual([null, null]);
  expect(await buyer.readOrder(orderNo)).toMatchObject({ status: 'queued', closing: true });
  expect(await isInOutbox(orderNo)).toBe(true);
  expect((await api.stores.reservations.readOrder(orderNo))?.order.wish).toBe('wait_timeout');
});

test('with onTimeout a purchase that is stored in time answers 201, and is the same request as without', async () => {
  const buyer = await app.shopper();
  const same = key();

  const reply = await buyer.placeOrder({ ...cart(), ...CANCEL }, { ...same, ...WAIT });
  const repeated = await buyer.placeOrder(cart(), same);

  expect([reply.status, repeated.status]).toEqual([201, 200]);
  expect(orderOf(repeated)).toEqual(orderOf(reply));
});

test('without a wait onTimeout changes nothing', async () => {
  const reply = await (await app.shopper()).placeOrder({ ...cart(), ...CANCEL });
  expect(reply.status).toBe(202);
  expect(orderOf(reply).closing).toBe(false);
});

test('a repeat of an order that is being cancelled says so again, and once stored what became of it', async () => {
  const { wired, wire, clock } = await openBehindWire();
  const buyer = await wired.shopper();
  const same = { ...key(), ...WAIT };
  const place = () => buyer.placeOrder({ ...cart(), ...CANCEL }, same);
  wire.cut();

  const first = await endWait(wired, clock, place());
  const second = await endWait(wired, clock, place());
  wire.mend();
  const third = await place();

  expect([first, second].map(refusalOf)).toEqual(['504 wait_timed_out', '504 wait_timed_out']);
  expect(problemOf(second)).toEqual(problemOf(first));
  expect(orderOf(third)).toMatchObject({
    status: 'awaiting_payment',
    closing: true,
    reason: 'wait_timeout',
  });
  expect(refusalOf(await buyer.pay(orderOf(third).orderNo))).toBe('409 not_payable');
});

test('an order that another process stored just before the end of its wait is answered 201, and not cancelled', async () => {
  const { wired, wire, clock } = await openBehindWire();
  const buyer = await wired.shopper();
  wire.cut();
  const waiting = buyer.placeOrder({ ...cart(), ...CANCEL }, WAIT);
  const orderNo = await waitFor('the order', async () => {
    const found = await api.stores.redis.keys(`*idem:${buyer.userId}:*`);
    return found[0] !== undefined && ((await api.stores.redis.hget(found[0], 'order_no')) ?? false);
  });
  await api.store(orderNo);

  const reply = await endWait(wired, clock, waiting);

  expect(reply.status).toBe(201);
  expect(orderOf(reply)).toMatchObject({ status: 'awaiting_payment', closing: false });
});

test('while Redis takes no wish to cancel, the wish is recorded in MySQL', async () => {
  const { stores, clock } = await openBehindWire();
  const wishCancel = () => Promise.reject(new Error('Command timed out'));
  const reservations = { ...stores.reservations, wishCancel };
  const cutOff = await api.withParts({ ...stores, reservations, clock });
  let tries = 0;
  stores.orders.storeOrders = () => {
    tries += 1;
    return Promise.reject(new Error('too late'));
  };
  const buyer = await cutOff.shopper();

  const placed = buyer.placeOrder({ ...cart(), ...CANCEL }, WAIT);
  await waitFor('the order to be read', () => tries > 0);
  const reply = await endWait(cutOff, clock, placed);

  expect(refusalOf(reply)).toBe('504 wait_timed_out');
  const { orderNo } = z.object({ orderNo: z.string() }).parse(problemOf(reply));
  expect((await api.stores.orders.read(orderNo))?.state).toMatchObject({
    version: 2,
    reason: 'wait_timeout',
  });
});

test('while neither store takes the wish to cancel, the answer is 503, and the order goes on', async () => {
  const { stores, wire, clock } = await openBehindWire();
  const wishCancel = () => Promise.reject(new Error('Command timed out'));
  const reservations = { ...stores.reservations, wishCancel };
  const cutOff = await api.withParts({ ...stores, reservations, clock });
  const buyer = await cutOff.shopper();
  wire.cut();

  const reply = await endWait(cutOff, clock, buyer.placeOrder({ ...cart(), ...CANCEL }, WAIT));

  expect(refusalOf(reply)).toBe('503 outcome_unknown');
  expect(await buyer.readOrder(orderNoIn(reply))).toMatchObject({ status: 'queued', closing: false });
});

test('an order whose cancel may still arrive is not answered as accepted, and is closing once it has', async () => {
  const { stores, wire, clock } = await openBehindWire();
  const [asked, held] = [new EventEmitter(), new EventEmitter()];
  const wishCancel: typeof stores.reservations.wishCancel = async (...args) => {
    const end = once(held, 'end');
    asked.emit('wish');
    await end;
    return stores.reservations.wishCancel(...args);
  };
  const reservations = { ...stores.reservations, wishCancel };
  const finalAnswerHeader = { name: 'Final', value: 'yes' };
  const slow = await api.withParts({ ...stores, reservations, finalAnswerHeader, clock });
  const buyer = await slow.shopper();
  wire.cut();
  const wished = once(asked, 'wish');

  const placed = buyer.placeOrder({ ...cart(), ...CANCEL }, WAIT);
  await isWaiting(slow, 1);
  clock.pass(7_000);
  await wished;
  clock.pass(2_500);
  const reply = await placed;
  held.emit('end');

  expect(refusalOf(reply)).toBe('503 outcome_unknown');
  expect([reply.headers.get('retry-after'), reply.headers.get('final')]).toEqual(['1', null]);
  await waitFor('the wish to arrive', async () => (await buyer.readOrder(orderNoIn(reply))).closing);
});

test('a free order is paid with its 201', async () => {
  const skus = [{ sku: 'pass', name: 'Day pass', unitPrice: 0, total: 10, limitPerUser: null }];
  const { saleId: free } = await api.stores.openSale(buildSale({ skus }));
  const buyer = await app.shopper();

  const reply = await buyer.placeOrder({ saleId: free, items: [{ sku: 'pass', quantity: 2 }] }, WAIT);

  expect(reply.status).toBe(201);
  expect(orderOf(reply)).toMatchObject({ status: 'paid', payment: 'applied', total: 0 });
  await waitFor('the units to be sold', async () => {
    const [pass] = (await api.stores.saleStock.read(free))?.skus ?? [];
    return pass?.sold === 2 && pass.held === 0;
  });
});

test('a user who repeats one purchase takes ten places at most, and others wait beside them', async () => {
  const { wired, wire } = await openBehindWire();
  const [eager, other] = [await wired.shopper(), await wired.shopper()];
  wire.cut();
  const headers = { ...key(), ...WAIT };
  const repeats = Array.from({ length: 10 }, () => eager.placeOrder(cart(), headers));
  await isWaiting(wired, 10);

  const beyond = await eager.placeOrder(cart(), headers);
  const ofOther = other.placeOrder(cart(), WAIT);
  await isWaiting(wired, 11);

  expect(orderOf(beyond).status).toBe('queued');
  const applied = ({ headers: shown }: Reply) => shown.get('preference-applied');
  expect(applied(beyond)).toBeNull();
  wire.mend();
  for (const reply of await Promise.all([...repeats, ofOther])) expect(applied(reply)).toBe('wait=7');
  await isWaiting(wired, 0);
  expect(applied(await eager.placeOrder(cart(), WAIT))).toBe('wait=7');
});

test.each([
  ['as many calls wait as may', 1, true],
  ['as many orders wait to be stored as may', 2, false],
])('while %s, a call is answered at once, without waiting', async (_, waitingMax, hasRoom) => {
  const outcomes: string[] = [];
  const metrics = partly<Metrics>({
    watchWaiting: () => {},
    waitEnded: (outcome) => void outcomes.push(outcome),
  });
  const [begun, end] = [new EventEmitter(), new EventEmitter()];
  const store = async () => {
    begun.emit('wait');
    await once(end, 'wait');
    return { kind: 'late' } as const;
  };
  let isFirst = true;
  const hasRoomThen = () => isFirst || hasRoom;
  const storing = partly<Storing>({ store, hasRoom: hasRoomThen });
  const finder = {
    ...api.stores,
    ...partly<Finder>({}),
    metrics,
    clock: createTestClock(),
    finalAnswerHeader: undefined,
  };
  const { around } = createWaits(finder, storing, waitingMax);
  const set = vi.fn<(header: string, value: string) => void>();
  const call = () =>
    Object.assign(partly<Parameters<typeof around>[0]>({ req: { headers: { prefer: 'wait=7' } } }), {
      res: new ServerResponse(new IncomingMessage(new Socket())),
      state: { userId: 'ada' },
      status: 202,
      body: { orderNo: 'o-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG', status: 'queued' },
      get: () => 'wait=7',
      set,
    });
  const waits = once(begun, 'wait');
  const first = around(call(), async () => {});
  await waits;
  isFirst = false;

  await around(call(), async () => {});

  expect(outcomes).toEqual(['full']);
  expect(set).not.toHaveBeenCalled();
  end.emit('wait');
  await first.catch(() => {});
});
