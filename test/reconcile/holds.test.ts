/** Holds that no process would end any more are ended, and holds that are on their way are left alone. */

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { orderDeadlineMs } from '../../src/orders/order.ts';
import { mendHolds } from '../../src/reconcile/holds.ts';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { createOutbox } from '../../src/redis/outbox.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { buildPayment } from '../support/payment-notices.ts';
import { select } from '../support/rows.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { openRelayEngine, type TestEngine } from '../support/workflows/engines.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

const HOUR_MS = 60 * 60 * 1000;

let stores: TestStores;
let temporal: TestEngine;
beforeAll(async () => {
  stores = await openTestStores();
  temporal = await openRelayEngine(await createNamespace());
});
afterAll(async () => {
  await temporal.close();
  await stores.close();
});

/** A run looks at every sale that Redis has, so each test begins with none. */
beforeEach(() => stores.redis.flushall());

const run = (pagesMax?: number) =>
  mendHolds({ ...stores, engine: temporal.engine, log: silent }, new AbortController().signal, pagesMax);

async function openSale(total = 10): Promise<string> {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total, limitPerUser: null }];
  return (await stores.openSale(buildSale({ skus }))).saleId;
}

/** The relay has taken the order off the outbox, and then nothing more happened to it. */
async function takeOff(saleId: string): Promise<void> {
  const { outbox } = saleKeys({ saleId, shard: 0 });
  const entries = await stores.redis.xrange(outbox, '-', '+');
  await stores.redis.xdel(outbox, ...entries.map(([entryId]) => entryId));
}

/** Accepted and taken off the outbox. */
async function loseOrder(saleId: string): Promise<Order> {
  const order = await acceptOrder(stores, saleId);
  await takeOff(saleId);
  return order;
}

/** As if the order had been accepted so long ago. */
async function age({ orderNo, reservedAtMs, paymentWindowMs }: Order, ms: number): Promise<void> {
  const { order, deadlines } = orderKeys(orderNo);
  await stores.redis.hset(order, 'reserved_at', reservedAtMs - ms);
  await stores.redis.zadd(deadlines, reservedAtMs - ms + paymentWindowMs, orderNo);
}

const holdOf = ({ orderNo }: Order) => stores.redis.hget(orderKeys(orderNo).order, 'hold');
const waiting = (saleId: string) => stores.redis.xlen(saleKeys({ saleId, shard: 0 }).outbox);
const actionsOn = (orderNo: string) =>
  select(stores.pool, 'SELECT actor, action FROM audit_log WHERE subject = ?', [orderNo]);
const parkedReason = async (orderNo: string) =>
  (
    await select(stores.pool, 'SELECT reason FROM parked WHERE kind = ? AND reference = ?', [
      'order',
      orderNo,
    ])
  )[0]?.['reason'];

/** MySQL believes that Redis has the end, and Redis lost it. */
const loseEnd = (...orders: Order[]) =>
  stores.endings.completeFollow(
    orders.map(({ orderNo }) => orderNo),
    true,
  );

/** Stored, and paid by the transaction that records its payment. */
async function pay(order: Order): Promise<void> {
  await stores.orders.storeOrder(order, 'started');
  await stores.payments.record('sandbox', buildPayment(order));
}

test('a hold is ended whose order ended in MySQL, and whose end Redis has lost', async () => {
  const saleId = await openSale();
  const [cancelled, failed] = [await loseOrder(saleId), await loseOrder(saleId)];
  await stores.orders.storeOrder(cancelled, 'started');
  await stores.orders.cancel(cancelled.orderNo, 'payment_timeout', { force: true });
  await stores.orders.abandon(failed, 'store_unavailable');
  await loseEnd(cancelled, failed);
  expect(await run()).toMatchObject({ looked: 2, repaired: 2, parked: 0 });
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
  expect((await stores.reservations.readOrder(cancelled.orderNo))?.state.status).toBe('cancelled');
  expect(await actionsOn(failed.orderNo)).toEqual([{ actor: 'holdfast', action: 'hold_settled' }]);
});

test.each<[string, (order: Order) => Promise<unknown>, string]>([
  ['was paid', pay, 'sold'],
  [
    'was cancelled by its workflow',
    async (order) => {
      await stores.orders.storeOrder(order, 'started');
      await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
    },
    'released',
  ],
  [
    'ended without a workflow',
    async (order) => {
      await stores.orders.storeOrder(order, 'due');
      await stores.endings.endPage(orderDeadlineMs(order), 10);
    },
    'released',
  ],
])('an order that just %s is left to the process that tells Redis, for a minute', async (_, end, hold) => {
  const order = await loseOrder(await openSale());
  await end(order);
  expect(await run()).toEqual({ looked: 1, repaired: 0, parked: 0 });
  expect(await holdOf(order)).toBe('held');
  expect(await actionsOn(order.orderNo)).toEqual([]);

  await stores.pool.query(
    'UPDATE order_events SET occurred_at = NOW(3) - INTERVAL 61 SECOND WHERE order_no = ?',
    [order.orderNo],
  );
  expect(await run()).toEqual({ looked: 1, repaired: 1, parked: 0 });
  expect(await holdOf(order)).toBe(hold);
});

test('a hold whose last step comes while it is looked at is no repair', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  await stores.orders.storeOrder(order, 'started');
  await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
  await loseEnd(order);
  const isRunning = async () => {
    await stores.reservations.release(order.orderNo);
    return false;
  };
  const deps = { ...stores, engine: { ...temporal.engine, isRunning }, log: silent };
  const step = (signal: AbortSignal) => mendHolds(deps, signal);

  expect(await step(new AbortController().signal)).toEqual({ looked: 1, repaired: 0, parked: 0 });

  expect(await actionsOn(order.orderNo)).toEqual([]);
});

test('a hold is sold whose order was paid, and whose end Redis has lost', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  await pay(order);
  await loseEnd(order);
  expect(await run()).toMatchObject({ repaired: 1 });
  await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
});

test('an order whose outbox entry got lost is put back, once', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  expect(await run()).toMatchObject({ looked: 1, repaired: 1, parked: 0 });
  expect(await waiting(saleId)).toBe(1);
  expect(await actionsOn(order.orderNo)).toEqual([{ actor: 'holdfast', action: 'order_requeued' }]);
  expect(await run()).toMatchObject({ repaired: 0 });
  expect(await waiting(saleId)).toBe(1);
});

test('an entry that a relay got, and that no relay would read again, is replaced', async () => {
  const saleId = await openSale();
  const order = await acceptOrder(stores, saleId);
  const blocking = await stores.connectBlocking();
  const outbox = createOutbox(stores.redis, blocking, { saleId, shard: 0 }, 'gone');
  await outbox.readNew(10, 1);
  await outbox.readNew(10, 1);
  expect(await run()).toMatchObject({ repaired: 0 });
  // Its consumer is deleted with the entry still pending.
  await stores.redis.xgroup('DELCONSUMER', saleKeys({ saleId, shard: 0 }).outbox, 'relay', 'gone');
  expect(await run()).toMatchObject({ repaired: 1 });
  expect(await outbox.readNew(10, 1)).toMatchObject([{ orderNo: order.orderNo }]);
  expect(await waiting(saleId)).toBe(1);
  blocking.disconnect();
});

test('an order whose workflow runs is left alone until the workflow is terminated', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  // MySQL is away, so the workflow has not stored it yet.
  await temporal.engine.start(order);
  expect(await run()).toMatchObject({ looked: 1, repaired: 0, parked: 0 });
  await temporal.client.workflow.getHandle(order.orderNo).terminate();
  expect(await run()).toMatchObject({ repaired: 1 });
  expect(await waiting(saleId)).toBe(1);
});

test('an order that was stored and that MySQL has lost is put back, though its workflow runs', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  const stored = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null } as const;
  await stores.reservations.project(order.orderNo, stored);
  await temporal.engine.start(order);
  expect(await run()).toMatchObject({ looked: 1, repaired: 1, parked: 0 });
  expect(await waiting(saleId)).toBe(1);
  expect(await actionsOn(order.orderNo)).toEqual([{ actor: 'holdfast', action: 'order_requeued' }]);
  await temporal.client.workflow.getHandle(order.orderNo).terminate();
});

test('a lost order past its deadline is abandoned, and its payment goes back', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  const { orderNo } = order;
  await stores.payments.record('sandbox', buildPayment(order));
  await age(order, HOUR_MS);
  expect(await run()).toMatchObject({ repaired: 1, parked: 0 });
  expect(await holdOf(order)).toBe('released');
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
  expect((await stores.orders.read(orderNo))?.state).toMatchObject({
    status: 'failed',
    reason: 'store_unavailable',
  });
  expect(
    await select(stores.pool, 'SELECT status, refund_reason FROM payments WHERE order_no = ?', [orderNo]),
  ).toEqual([{ status: 'refund_due', refund_reason: 'order_ended' }]);
});

test('a lost order that was shown as payable is shown as failed once it is abandoned', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  const shown = {
    status: 'awaiting_payment',
    version: 2,
    payment: 'none',
    reason: 'shopper_request',
  } as const;
  await stores.reservations.project(order.orderNo, shown);
  await age(order, HOUR_MS);
  expect(await run()).toMatchObject({ repaired: 1, parked: 0 });
  const failed = { status: 'failed', version: 3, payment: 'none', reason: 'store_unavailable' };
  expect((await stores.orders.read(order.orderNo))?.state).toEqual(failed);
  expect((await stores.reservations.readOrder(order.orderNo))?.state).toEqual(failed);
});

test('a lost order is given some minutes after its deadline', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  await age(order, order.paymentWindowMs + 1_000);
  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
  expect(await holdOf(order)).toBe('held');
  expect(await waiting(saleId)).toBe(0);
});

test('a backlog of thousands stays untouched, and the walk goes on where it was', async () => {
  const saleId = await openSale(5_000);
  const orders: Order[] = [];
  for (let i = 0; i < 45; i += 1) {
    orders.push(...(await Promise.all(Array.from({ length: 100 }, () => acceptOrder(stores, saleId)))));
  }
  const before = await stores.redis.xinfo('STREAM', saleKeys({ saleId, shard: 0 }).outbox);
  const first = await run(8);
  expect(first).toMatchObject({ repaired: 0, parked: 0 });
  expect(first.looked).toBeLessThan(orders.length);
  const second = await run(8);
  expect(second).toMatchObject({ repaired: 0, parked: 0 });
  expect(first.looked + second.looked).toBeGreaterThanOrEqual(orders.length);
  // A run may walk far more than that.
  expect(await run()).toEqual({ looked: orders.length, repaired: 0, parked: 0 });
  expect(await stores.redis.xinfo('STREAM', saleKeys({ saleId, shard: 0 }).outbox)).toEqual(before);
});

test('a stored order that is open is left to its workflow', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  await stores.orders.storeOrder(order, 'due');
  expect(await run()).toMatchObject({ looked: 1, repaired: 0, parked: 0 });
  expect(await holdOf(order)).toBe('held');
});

test('a damaged order is parked and does not keep the others from being mended', async () => {
  const saleId = await openSale();
  const [whole, partial, text] = [await loseOrder(saleId), await loseOrder(saleId), await loseOrder(saleId)];
  await stores.redis.hdel(orderKeys(partial.orderNo).order, 'sale_id', 'items');
  await stores.redis.set(orderKeys(text.orderNo).order, 'not a hash');
  await stores.redis.zadd(orderKeys(whole.orderNo).deadlines, 1, 'no order number');
  expect(await run()).toMatchObject({ looked: 4, repaired: 2, parked: 2 });
  expect(await waiting(saleId)).toBe(1);
  expect(await parkedReason(partial.orderNo)).toMatch('only a part');
  expect(await parkedReason(text.orderNo)).toMatch('is no order');
});

test('an order that MySQL takes in no form does not keep other sales from being walked, and the run says so', async () => {
  const saleIds = [await openSale(), await openSale()].toSorted();
  const [refused, other] = [await loseOrder(saleIds[0] ?? ''), await loseOrder(saleIds[1] ?? '')];
  await age(refused, HOUR_MS);
  await stores.redis.hset(orderKeys(refused.orderNo).order, 'user_id', 'u'.repeat(300));

  await expect(run()).rejects.toThrow('1 of 2 holds could not be judged');

  expect(await actionsOn(other.orderNo)).toMatchObject([{ action: 'order_requeued' }]);
  expect(await holdOf(refused)).toBe('held');
});

test('an order of which only the deadline is left is parked, and walked no more', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  await stores.redis.del(orderKeys(order.orderNo).order);
  expect(await run()).toMatchObject({ looked: 1, parked: 1 });
  expect(await parkedReason(order.orderNo)).toMatch('nothing but its deadline');
  expect(await run()).toMatchObject({ looked: 0 });
});

test('an order that had ended, and that MySQL has lost, is parked, not sold again', async () => {
  const saleId = await openSale();
  const order = await loseOrder(saleId);
  await stores.reservations.project(order.orderNo, {
    status: 'paid',
    version: 3,
    payment: 'applied',
    reason: null,
  });
  expect(await run()).toMatchObject({ repaired: 0, parked: 1 });
  expect(await holdOf(order)).toBe('held');
});

test('a hold of an older epoch is void: its order is queued again while it can be paid, and never counted', async () => {
  const saleId = await openSale();
  const [lost, ended] = [await loseOrder(saleId), await loseOrder(saleId)];
  await stores.orders.abandon(ended, 'store_unavailable');
  const { sale, stock } = saleKeys({ saleId, shard: 0 });
  await stores.redis.hset(sale, 'epoch', 2);
  const before = await stores.redis.hgetall(stock);
  expect(await run()).toMatchObject({ looked: 2, repaired: 1, parked: 0 });
  expect(await stores.redis.hgetall(stock)).toEqual(before);
  expect(await actionsOn(lost.orderNo)).toMatchObject([{ action: 'order_requeued' }]);
  expect(await actionsOn(ended.orderNo)).toEqual([]);
});
