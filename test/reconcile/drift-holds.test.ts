/**
 * A hold that is missing is written again only while its order is open, however long the step takes. A hold
 * whose order has ended just now is no drift.
 */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { mendDrift } from '../../src/reconcile/drift.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { finishMissed } from '../../src/workers/ender.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { ageClaim } from '../support/ageing.ts';
import { buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** A run looks at every sale that Redis has. */
beforeEach(() => stores.redis.flushall());

const run = (saleMends: TestStores['saleMends']) =>
  mendDrift({ ...stores, saleMends, log: silent }, new AbortController().signal);

/** An open order whose hold Redis has lost. */
async function loseHold(): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, saleId);
  await stores.orders.storeOrder(order, 'started');
  const keys = orderKeys(order.orderNo);
  await stores.redis.del(keys.order);
  await stores.redis.zrem(keys.deadlines, order.orderNo);
  return order;
}

async function inRedis({ orderNo }: Order) {
  const { order, deadlines } = orderKeys(orderNo);
  return [await stores.redis.hget(order, 'hold'), await stores.redis.zscore(deadlines, orderNo)];
}

const canEnd = ({ orderNo }: Order): Promise<boolean> =>
  select(stores.pool, 'SELECT order_no FROM orders WHERE order_no = ? FOR UPDATE NOWAIT', [orderNo]).then(
    () => true,
    () => false,
  );

test('an order cannot end while its hold is written again', async () => {
  const order = await loseHold();
  const { restoreHold } = stores.saleMends;
  const couldEnd: boolean[] = [];
  const looking: typeof restoreHold = async (...call) => {
    couldEnd.push(await canEnd(order));
    return restoreHold(...call);
  };

  expect(await run({ ...stores.saleMends, restoreHold: looking })).toMatchObject({ repaired: 1 });

  expect(couldEnd).toEqual([false]);
  expect(await canEnd(order)).toBe(true);
  expect((await inRedis(order))[0]).toBe('held');
});

test('the hold of an order that has ended since it was found missing is not written again', async () => {
  const order = await loseHold();
  const { readTimeMs } = stores.saleMends;
  const endFirst = async () => {
    await stores.orders.cancel(order.orderNo, 'operator_request', { force: true });
    return readTimeMs(order.saleId);
  };

  expect(await run({ ...stores.saleMends, readTimeMs: endFirst })).toMatchObject({ repaired: 0 });

  expect(await inRedis(order)).toEqual([null, null]);
});

test('a step that was frozen for longer than MySQL keeps its lock writes nothing, and the next run does', async () => {
  const order = await loseHold();
  const { readTimeMs } = stores.saleMends;
  const longAgo = async () => (await readTimeMs(order.saleId)) - 10_000;

  expect(await run({ ...stores.saleMends, readTimeMs: longAgo })).toMatchObject({ repaired: 0 });
  expect(await inRedis(order)).toEqual([null, null]);

  expect(await run(stores.saleMends)).toMatchObject({ repaired: 1 });
  expect((await inRedis(order))[0]).toBe('held');
});

test.each<[string, (order: Order) => Promise<unknown>, object]>([
  ['paid', (order) => pay(stores, order), { available: 9, held: 0, sold: 1 }],
  [
    'cancelled',
    ({ orderNo }) => stores.orders.cancel(orderNo, 'payment_timeout', { force: true }),
    { available: 10, held: 0, sold: 0 },
  ],
])(
  'an order that was %s and whose end is due for Redis is no drift, and drift beside it is corrected',
  async (_, end, after) => {
    const { saleId } = await stores.openSale(buildSale());
    const order = await acceptOrder(stores, saleId);
    await stores.orders.storeOrder(order, 'started');
    await end(order);
    const lamp = async () => (await stores.saleStock.read(saleId))?.skus[0];

    expect(await run(stores.saleMends)).toMatchObject({ repaired: 0, parked: 0 });
    expect(await lamp()).toMatchObject({ available: 9, held: 1, sold: 0 });

    const { stock, limits } = orderKeys(order.orderNo);
    await stores.redis.hincrby(stock, 'lamp:available', 1);
    await stores.redis.hincrby(limits, `lamp:${order.userId}`, 1);
    expect(await run(stores.saleMends)).toMatchObject({ repaired: 2, parked: 0 });

    await ageClaim(stores.pool, 'end', order.orderNo);
    await finishMissed(stores);
    expect(await lamp()).toMatchObject(after);
    expect(await run(stores.saleMends)).toMatchObject({ repaired: 0, parked: 0 });
  },
);
