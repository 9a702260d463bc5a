/**
 * A wish to cancel that Redis alone has: whoever stores the order stores it as one that is closing, also
 * where the wish came while it was being stored.
 */

import { beforeAll, expect, test } from 'vitest';
import { createActivities } from '../../src/activities/index.ts';
import { wishCancel } from '../../src/orders/both-stores.ts';
import type { Order } from '../../src/orders/content.ts';
import { follow } from '../../src/orders/follow.ts';
import { createStoring } from '../../src/orders/storing.ts';
import { mendProjections } from '../../src/reconcile/order-books.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { listWaiting } from '../../src/redis/outbox.ts';
import type { Stores } from '../../src/stores/open.ts';
import { noProvider } from '../activities/stage.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { createTestClock } from '../support/clock.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const FREE = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 0, total: 10, limitPerUser: null }];
const CLOSING = { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'wait_timeout' };
const PAID = { status: 'paid', version: 2, payment: 'applied', reason: null } as const;

async function accept(skus = buildSale().skus): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale({ skus }));
  return acceptOrder(stores, saleId);
}

const wish = ({ orderNo }: Order) => stores.reservations.wishCancel(orderNo, 'wait_timeout');
const shown = async ({ orderNo }: Order) => (await stores.reservations.readOrder(orderNo))?.state;
const stored = async ({ orderNo }: Order) => (await stores.orders.read(orderNo))?.state;

/** As for a caller who waits. Ends when nothing of it is under way any more. */
async function storeForCaller({ orderNo }: Order, under: Stores = stores) {
  const storing = createStoring(under, createTestClock());
  const end = await storing.store(orderNo, Infinity);
  await storing.stop();
  return end;
}

/** The wish comes after the order was read, and before it is shown. */
function wishedMeanwhile(order: Order): Stores {
  const storeOrders: Stores['orders']['storeOrders'] = async (batch, presence) => {
    const outcomes = await stores.orders.storeOrders(batch, presence);
    expect(await wish(order)).toBe('wished');
    return outcomes;
  };
  const storeOrder: Stores['orders']['storeOrder'] = async (one, presence) => {
    const outcome = await stores.orders.storeOrder(one, presence);
    expect(await wish(order)).toBe('wished');
    return outcome;
  };
  return { ...stores, orders: { ...stores.orders, storeOrders, storeOrder } };
}

test('an order with a wish is stored as closing, in one transaction with both changes', async () => {
  const order = await accept();
  await wish(order);
  const read = await stores.reservations.readOrder(order.orderNo);
  if (!read) throw new Error('no order');

  const outcome = await stores.orders.storeOrder(read.order, 'due');

  expect(outcome).toEqual({ kind: 'stored', state: CLOSING });
  expect(await stored(order)).toEqual(CLOSING);
  expect(
    await select(
      stores.pool,
      'SELECT version, status, reason FROM order_events WHERE order_no = ? ORDER BY version',
      [order.orderNo],
    ),
  ).toEqual([
    { version: 1, status: 'awaiting_payment', reason: null },
    { version: 2, status: 'awaiting_payment', reason: 'wait_timeout' },
  ]);
  const [urgent] = await stores.orderClaims.take(1, 0);
  expect(urgent?.order.orderNo).toBe(order.orderNo);
  // Stored again it stays as it is.
  expect(await stores.orders.storeOrder(read.order, 'due')).toEqual(outcome);
});

test('a free order with a wish is not paid by being stored', async () => {
  const order = await accept(FREE);
  expect(await wishCancel(stores, order.orderNo, order)).toBe('wished');
  await storeForCaller(order);
  expect(await stored(order)).toEqual(CLOSING);
});

test('a free order that was stored as paid meanwhile takes no wish, also before that is shown', async () => {
  const order = await accept(FREE);
  await stores.orders.storeOrder(order, 'due');

  expect(await wishCancel(stores, order.orderNo, order)).toBe('stored');

  expect(await stored(order)).toEqual(PAID);
  expect(await shown(order)).toMatchObject({ status: 'queued', reason: null });
});

test('no wish for a free order is durable while MySQL is away', async () => {
  const order = await accept(FREE);
  const away = () => Promise.reject(new Error('MySQL is away'));
  const under = { ...stores, orders: { ...stores.orders, storeOrder: away, read: away } };
  await expect(wishCancel(under, order.orderNo, order)).rejects.toThrow('MySQL is away');
  expect(await shown(order)).toMatchObject({ status: 'queued', reason: null });
});

test('a wish that was left does not close an order that MySQL has lost and that was shown as paid', async () => {
  const wished = { wish: 'wait_timeout', shown: PAID } as const;
  const [free, priced] = [await accept(FREE), await accept()];
  await stores.orders.storeOrder({ ...free, ...wished }, 'due');
  await stores.orders.storeOrder({ ...priced, ...wished }, 'due');
  expect(await stored(free)).toEqual(PAID);
  expect(await stored(priced)).toEqual({ ...CLOSING, version: 1, reason: null });
});

test.each(['before', 'while'])(
  'what callers wait for is stored as closing where the wish came %s',
  async (when) => {
    const order = await accept();
    if (when === 'before') await wish(order);

    const end = await storeForCaller(order, when === 'before' ? stores : wishedMeanwhile(order));

    expect(end).toMatchObject({ kind: 'stored', state: CLOSING });
    expect([await stored(order), await shown(order)]).toEqual([CLOSING, CLOSING]);
    expect(await listWaiting(stores.redis, { saleId: order.saleId, shard: 0 })).toEqual([]);
  },
);

test('where MySQL goes away before it has learnt of the wish, the entry stays, and the next try tells it', async () => {
  const order = await accept();
  const meanwhile = wishedMeanwhile(order);
  let tries = 0;
  const requestCancel: Stores['orders']['requestCancel'] = async (...args) => {
    tries += 1;
    if (tries === 1) {
      expect(await listWaiting(stores.redis, { saleId: order.saleId, shard: 0 })).toEqual([order.orderNo]);
      throw new Error('died here');
    }
    return stores.orders.requestCancel(...args);
  };
  let calls = 0;
  const storeOrders: Stores['orders']['storeOrders'] = (...args) => {
    calls += 1;
    return (calls === 1 ? meanwhile : stores).orders.storeOrders(...args);
  };

  const end = await storeForCaller(order, {
    ...stores,
    orders: { ...stores.orders, storeOrders, requestCancel },
  });

  expect(end).toMatchObject({ kind: 'stored', state: CLOSING });
  expect(await listWaiting(stores.redis, { saleId: order.saleId, shard: 0 })).toEqual([]);
});

test('persistOrder of an order whose wish came meanwhile answers that it is closing; twice the same', async () => {
  const order = await accept();
  const stepsOver = (under: Stores) => createActivities({ ...under, provider: noProvider });

  expect(await stepsOver(wishedMeanwhile(order)).persistOrder({ order })).toEqual(CLOSING);
  expect(await stepsOver(stores).persistOrder({ order })).toEqual(CLOSING);
  expect(await shown(order)).toEqual(CLOSING);
});

test('a wish that was left is found by the reconciliation', async () => {
  const order = await accept();
  const left = wishedMeanwhile(order);
  await left.orders.storeOrder(order, 'due');
  await stores.pool.query('UPDATE order_events SET occurred_at = occurred_at - INTERVAL 5 MINUTE');
  await dispatchEvents(stores);

  await mendProjections({ ...stores, log: silent }, new AbortController().signal);

  expect(await stored(order)).toEqual(CLOSING);
});

test('a wish survives that its sale is made again', async () => {
  const order = await accept();
  await wish(order);
  await stores.redis.del(saleKeys({ saleId: order.saleId, shard: 0 }).outbox);
  await rebuildSale({ ...stores, log: silent }, order.saleId, { cause: 'lost' });

  await storeForCaller(order);

  expect(await stored(order)).toEqual(CLOSING);
});

test.each([
  ["a wait's end does not count as left unpaid", wish, {}],
  [
    'its shopper counts as left unpaid',
    ({ orderNo }: Order) => stores.orders.requestCancel(orderNo),
    { ada: '1' },
  ],
])('an order that is cancelled at %s, also after a rebuild', async (_, cancel, counted) => {
  const { saleId } = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, saleId, { userId: 'ada' });
  if (cancel === wish) await wish(order);
  await storeForCaller(order);
  if (cancel !== wish) await cancel(order);
  const { state } = await stores.orders.cancel(order.orderNo, 'shopper_request', { force: true });
  await follow(stores, [{ orderNo: order.orderNo, state }]);
  const { unpaid } = saleKeys({ saleId, shard: 0 });
  expect(await stores.redis.hgetall(unpaid)).toEqual(counted);

  await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'unfinished' });
  expect(await stores.redis.hgetall(unpaid)).toEqual(counted);
});
