/** The shop is told of orders whose deadlines are near: once a deadline, by an event that is no change. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { openStores, type Stores } from '../../src/stores/open.ts';
import { runEnder } from '../../src/workers/ender.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { noProvider } from '../activities/stage.ts';
import { readFeed } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { ownRedisUrl } from '../support/own-redis.ts';
import { pay } from '../support/payment-notices.ts';
import { everything, selectOne } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const MINUTE_MS = 60_000;
const OLGA = { actor: 'olga', reason: null };

/** Of a sale that tells ten minutes before. */
async function stored(overrides: Partial<Order> = {}, presence: 'due' | 'started' = 'due'): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale({ expiringNoticeMs: 10 * MINUTE_MS }));
  const order = buildOrder({ saleId, ...overrides });
  await stores.orders.storeOrder(order, presence);
  return order;
}
/** Five minutes are left. */
const near = (presence: 'due' | 'started' = 'due') =>
  stored({ reservedAtMs: Date.now() - 25 * MINUTE_MS }, presence);

const announce = (limit = 100) => stores.deadlines.announceExpiring(limit, silent);
async function newsOf({ saleId }: Order) {
  const feed = await readFeed(stores);
  return feed.filter((event) => event.saleId === saleId && event.type === 'order.expiring');
}

test.each(['due', 'started'] as const)(
  'an order that is stored as %s is told of when so much is left, once, and as it is',
  async (presence) => {
    const order = await near(presence);
    const before = await everything(stores.pool, order.saleId);
    expect(await announce()).toBe(1);
    expect(await announce()).toBe(0);
    // It is no change of the order.
    const after = await everything(stores.pool, order.saleId);
    const { expiring_due_at: dueAt } = before['orders']?.[0] ?? {};
    const asBefore = after['orders']?.map((row) => ({ ...row, expiring_due_at: dueAt }));
    expect({ ...after, orders: asBefore }).toEqual(before);

    const [event, ...others] = await newsOf(order);
    expect(others).toEqual([]);
    expect(event).toMatchObject({
      id: `shop.${event?.sequence}`,
      saleId: order.saleId,
      orderNo: order.orderNo,
      version: 1,
      data: {
        order: {
          orderNo: order.orderNo,
          userId: 'ada',
          status: 'awaiting_payment',
          version: 1,
          deadline: new Date(order.reservedAtMs + order.paymentWindowMs).toISOString(),
        },
      },
    });
  },
);

test('an order with more time is not told of yet, and one of a sale without the rule never', async () => {
  const early = await stored();
  const { saleId } = await stores.openSale(buildSale());
  const untold = buildOrder({ saleId, reservedAtMs: Date.now() - 25 * MINUTE_MS });
  await stores.orders.storeOrder(untold, 'due');
  await announce();
  expect([await newsOf(early), await newsOf(untold)]).toEqual([[], []]);
});

test('an order is told of again after an extension, with the deadline that it has then', async () => {
  const order = await near();
  await announce();
  await stores.deadlines.extend(order.orderNo, Date.now() + 8 * MINUTE_MS, OLGA);
  await announce();
  await announce();
  const [first, second, ...others] = await newsOf(order);
  expect(others).toEqual([]);
  expect([first, second]).toMatchObject([{ version: 1 }, { version: 2 }]);
  const until = new Date(order.reservedAtMs + order.paymentWindowMs).toISOString();
  expect(first).toMatchObject({ data: { order: { deadline: until } } });
  expect(second).not.toMatchObject({ data: { order: { deadline: until } } });
});

test('an order that was extended before its notice is told of at its later deadline alone', async () => {
  const order = await stored();
  await stores.deadlines.extend(order.orderNo, Date.now() + 50 * MINUTE_MS, OLGA);
  const { due } = await selectOne(
    stores.pool,
    'SELECT TIMESTAMPDIFF(SECOND, expiring_due_at, deadline) AS due FROM orders WHERE order_no = ?',
    [order.orderNo],
  );
  expect(due).toBe(600);
});

test('one that is paid, closing, over, or past its deadline is not told of, and not looked at again', async () => {
  const [paid, closing, ended] = [await near(), await near(), await near()];
  const late = await stored({ reservedAtMs: Date.now() - 31 * MINUTE_MS });
  const free = await stored({
    items: [{ sku: 'lamp', quantity: 1, unitPrice: 0 }],
    total: 0,
    reservedAtMs: Date.now() - 25 * MINUTE_MS,
  });
  await pay(stores, paid);
  await stores.orders.requestCancel(closing.orderNo);
  await stores.orders.cancel(ended.orderNo, 'operator_request', { force: true });
  // Nothing of an ended order is due.
  expect(await announce()).toBe(2);
  for (const order of [paid, closing, ended, late, free]) expect(await newsOf(order)).toEqual([]);
  expect(await announce()).toBe(0);
});

test('two processes that look at once tell of each order once', async () => {
  const orders = [await near(), await near(), await near(), await near()];
  await Promise.all([announce(2), announce(2), announce(2)]);
  while ((await announce()) > 0);
  for (const order of orders) expect(await newsOf(order)).toHaveLength(1);
});

/** Until the shop is told of the order, by a worker's loops on these stores. */
async function runUntilTold(order: Order, worker: Stores): Promise<void> {
  const stopping = new AbortController();
  const running = runEnder({ ...worker, provider: noProvider, log: silent }, stopping.signal);
  try {
    await waitFor('the shop to be told', async () => (await newsOf(order)).length > 0);
  } finally {
    stopping.abort();
    await running;
  }
  expect(await newsOf(order)).toHaveLength(1);
}

test('the shop is told of near deadlines while Redis is away and no order ends', async () => {
  const wire = await openTcpProxy(new URL(await ownRedisUrl()).host);
  onTestFinished(() => wire.close());
  const worker = await openStores({ ...stores.config, REDIS_URL: [`redis://${wire.address}`] }, silent);
  onTestFinished(() => worker.close());
  const [order, late] = [await near(), await stored({ reservedAtMs: Date.now() - 31 * MINUTE_MS })];
  wire.cut();

  await runUntilTold(order, worker);

  expect((await stores.orders.read(late.orderNo))?.state.status).toBe('awaiting_payment');
});

test('the shop is told of near deadlines while the ends of a peak fill each page', async () => {
  const order = await near();
  const endPage: Stores['endings']['endPage'] = async (_, taken) => ({ taken, changed: [], saleId: '' });
  await runUntilTold(order, { ...stores, endings: { ...stores.endings, endPage } });
});

test('an event of an order whose person is erased shows the token in their place', async () => {
  const order = await near();
  await announce();
  await modify(stores.pool, `UPDATE orders SET user_id = 'erased' WHERE order_no = ?`, [order.orderNo]);
  expect(await newsOf(order)).toMatchObject([{ data: { order: { userId: 'erased' } } }]);
});

test('an order that cannot be read keeps no other from being told of, and is not looked at again', async () => {
  const [first, broken, last] = [await near(), await near(), await near()];
  const writeCarried = (text: string) =>
    modify(stores.pool, 'UPDATE orders SET carried = ? WHERE order_no = ?', [text, broken.orderNo]);
  const { carried } = await selectOne(stores.pool, 'SELECT carried FROM orders WHERE order_no = ?', [
    broken.orderNo,
  ]);
  await writeCarried('no JSON');

  while ((await announce()) > 0);

  await writeCarried(String(carried));
  for (const order of [first, last]) expect(await newsOf(order)).toHaveLength(1);
  expect(await announce()).toBe(0);
  expect(await newsOf(broken)).toEqual([]);
});
