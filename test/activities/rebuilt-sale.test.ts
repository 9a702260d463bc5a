/** The steps of an order whose sale's data in Redis were made again, or are about to be. */

import { MockActivityEnvironment } from '@temporalio/testing';
import { beforeAll, expect, test } from 'vitest';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { silent } from '../support/stores.ts';
import { AWAITING, HELD, openStage, type Stage } from './stage.ts';

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});

test('persistOrder takes stock again for an order whose sale was made again, and refuses it when it is gone', async () => {
  const { stores } = stage;
  const [order, late] = [await stage.reserveOrder(), await stage.reserveOrder()];
  for (const { saleId, orderNo } of [order, late]) {
    // No relay stores them before.
    await stores.redis.del(orderKeys(orderNo).outbox);
    await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'unfinished' });
  }
  for (const userId of ['bo', 'cy', 'di', 'eve', 'fay'])
    await acceptOrder(stores, late.saleId, { userId, items: [{ sku: 'lamp', quantity: 2 }] });

  const steps = stage.openSteps();
  for (const stored of [await steps.persistOrder({ order }), await steps.persistOrder({ order })])
    expect(stored).toMatchObject(AWAITING);
  expect(await stage.look(order)).toMatchObject({ ...HELD, stored: AWAITING, projected: AWAITING });
  await expect(steps.persistOrder({ order: late })).rejects.toMatchObject({ details: ['lost_hold'] });
  expect((await stage.look(late)).stored).toBeUndefined();
});

test('persistOrder brings no order back that was told as lost, unless Temporal has known it for as long', async () => {
  const { stores } = stage;
  const orders = [await stage.reserveOrder(), await stage.reserveOrder()];
  for (const { saleId, orderNo } of orders) {
    const { order, outbox, sale } = orderKeys(orderNo);
    await stores.redis.del(order, outbox);
    await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'unfinished' });
    await stores.redis.hincrby(sale, 'rebuilt_at', -60_000);
  }
  const [late, known] = orders;
  const steps = stage.openSteps();
  const nowMs = Date.now();
  const tried = new MockActivityEnvironment({
    scheduledTimestampMs: nowMs - 120_000,
    currentAttemptScheduledTimestampMs: nowMs,
  });

  if (!late || !known) throw new Error('two orders');
  await expect(new MockActivityEnvironment().run(steps.persistOrder, { order: late })).rejects.toMatchObject({
    details: ['lost_hold'],
  });
  expect(await tried.run(steps.persistOrder, { order: known })).toMatchObject(AWAITING);
});

test('while the data of a sale are being made again a step leaves the stock to be settled, and then it is', async () => {
  const { stores } = stage;
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  const { orderNo, saleId } = order;
  await stores.redis.del(orderKeys(orderNo).outbox);
  await stores.saleRebuild.begin(saleId, 2);

  const ended = await steps.cancelOrder({ orderNo, reason: 'operator_request', force: true });
  expect(ended).toMatchObject({ kind: 'ended', state: { status: 'cancelled' } });
  expect(ended.stockSettled).toBeUndefined();
  await expect(steps.releaseStock({ orderNo })).rejects.toThrow('does not have the end');

  // Epoch 2 is taken in Redis.
  await stores.pool.query('UPDATE sales SET epoch = 2 WHERE sale_id = ?', [saleId]);
  await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'unfinished' });
  await steps.releaseStock({ orderNo });
  expect((await stage.look(order)).redis).toEqual({ available: 10, held: 0, sold: 0 });
});

test('an order that ends while its sale is written as it was before is shown as it ended', async () => {
  const { stores } = stage;
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  const { orderNo, saleId } = order;
  await stores.redis.del(orderKeys(orderNo).order, orderKeys(orderNo).outbox);
  const readSaleSnapshot: typeof stores.readSaleSnapshot = (lock, id, use) =>
    stores.readSaleSnapshot(lock, id, async (snapshot) => {
      await steps.cancelOrder({ orderNo, reason: 'operator_request', force: true });
      return use(snapshot);
    });
  await rebuildSale({ ...stores, readSaleSnapshot, log: silent }, saleId, { cause: 'lost' });
  await steps.releaseStock({ orderNo });

  const { stored, projected } = await stage.look(order);
  expect([stored?.status, projected]).toEqual(['cancelled', stored]);
});

test('a hold that is missing without a reason is shown to an operator; one that has expired is not', async () => {
  const { stores } = stage;
  const steps = stage.openSteps();
  const [lost, expired] = [await stage.storeOrder(steps), await stage.storeOrder(steps)];
  for (const { orderNo } of [lost, expired]) {
    await stores.orders.cancel(orderNo, 'operator_request', { force: true });
    await stores.redis.del(orderKeys(orderNo).order);
  }
  await stores.pool.query(
    'UPDATE order_events SET occurred_at = NOW(3) - INTERVAL 25 HOUR WHERE order_no = ?',
    [expired.orderNo],
  );

  for (const { orderNo } of [lost, expired]) await steps.releaseStock({ orderNo });

  expect(await stage.parkedReasons(lost.orderNo)).toEqual([
    'it has ended, and the hold that was to be settled is not in Redis',
  ]);
  expect(await stage.parkedReasons(expired.orderNo)).toEqual([]);
});
