/** Events are delivered once more: one, those of an order, those of a time; and tests of an endpoint. */

import { beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { startReplay } from '../../src/push/replayer.ts';
import { recordShopEvent } from '../../src/sales/rows.sql.ts';
import type { Stores } from '../../src/stores/open.ts';
import { verify } from '../support/receiver.ts';
import { selectOne } from '../support/rows.ts';
import { waitFor } from '../support/wait.ts';
import { openPushWorld, type PushWorld } from './push-world.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

let world: PushWorld;
let replayer: ReturnType<typeof replayerOf>;
beforeEach(async () => {
  world = await openPushWorld();
  replayer = replayerOf(world.stores);
});

function replayerOf(stores: Stores) {
  return {
    replayEvent: (name: string, eventId: string, actor: string) =>
      startReplay(stores, name, { eventId }, actor),
    replayOrder: (name: string, orderNo: string, actor: string) =>
      startReplay(stores, name, { orderNo }, actor),
    replayTime: (name: string, time: { sinceMs: number; beforeMs: number }, actor: string) =>
      startReplay(stores, name, time, actor),
  };
}

/** Makes these orders' events, in their order, so many days old. */
async function makeOld(count: number, days: number): Promise<string[]> {
  const orders = await world.makeOrders(count);
  for (const { orderNo } of orders)
    await modify(world.stores.pool, 'UPDATE order_events SET occurred_at = ? WHERE order_no = ?', [
      new Date(Date.now() - days * DAY_MS),
      orderNo,
    ]);
  await world.publish();
  return orders.map(({ orderNo }) => `${orderNo}.1`).toSorted();
}

const since = (days: number): number => Date.now() - days * DAY_MS;

test('an event, and all of an order in its order, come again under the same ids', async () => {
  const { receiver, secret } = await world.addEndpoint('office');
  const [order] = await world.makeOrders(1, 3);
  await world.publish();
  world.startWorker();
  await world.awaitCaughtUp('office');
  const ids = [1, 2, 3].map((version) => `${order?.orderNo}.${version}`);
  expect(receiver.ids()).toEqual(ids);

  await replayer.replayEvent('office', ids[1] ?? '', 'ada');
  await world.awaitCaughtUp('office');
  await replayer.replayOrder('office', order?.orderNo ?? '', 'ada');
  await world.awaitCaughtUp('office');
  expect(receiver.ids()).toEqual([...ids, ids[1], ...ids]);
  const [first, , , , again] = receiver.received;
  expect(again && verify(again, secret)).toEqual(first && verify(first, secret));
});

test('a time comes again with the events that occurred in it, of those that the endpoint asks for', async () => {
  await makeOld(3, 9);
  const wanted = await makeOld(7, 6);
  await world.makeSaleEvents(1);
  await makeOld(3, 3);
  const { receiver } = await world.addEndpoint('office', { terms: { types: ['order.awaiting_payment'] } });
  world.startWorker();
  const time = { sinceMs: since(7), beforeMs: since(5) };
  expect(await replayer.replayTime('office', time, 'ada')).toEqual({ kind: 'started', events: null });
  await waitFor('the end of the replay', async () => {
    return (await world.stores.endpoints.read('office'))?.isReplaying === false;
  });
  await world.awaitCaughtUp('office');
  expect(receiver.ids().toSorted()).toEqual(wanted);
});

test('a time of more events than a page comes again whole, beside what is new', async () => {
  const wanted = await makeOld(450, 6);
  const { receiver } = await world.addEndpoint('office');
  await replayer.replayTime('office', { sinceMs: since(7), beforeMs: since(5) }, 'ada');
  const [fresh] = await world.makeOrders(1);
  await world.publish();
  world.startWorker();
  await waitFor('all', () => new Set(receiver.ids()).size === 451);
  expect(receiver.ids().toSorted()).toEqual([...wanted, `${fresh?.orderNo}.1`].toSorted());
});

test('a time comes again whole also where its events waited for long to be numbered', async () => {
  const { pool } = world.stores;
  const { receiver } = await world.addEndpoint('office');
  const orders = await world.makeOrders(40);
  // Every other order has changed first at the beginning of the time without a dispatcher, or at its end.
  const ids = orders.map(({ orderNo }) => orderNo).toSorted();
  for (const [i, orderNo] of ids.entries())
    await modify(pool, 'UPDATE order_events SET occurred_at = ? WHERE order_no = ?', [
      new Date(since(i % 2 === 0 ? 7 : 6)),
      orderNo,
    ]);
  await world.publish();
  world.startWorker();
  await world.awaitCaughtUp('office');
  const before = receiver.ids().length;
  await replayer.replayTime('office', { sinceMs: since(6.5), beforeMs: since(5.5) }, 'ada');
  await waitFor('the end of the replay', async () => {
    return (await world.stores.endpoints.read('office'))?.isReplaying === false;
  });
  await world.awaitCaughtUp('office');
  const wanted = ids.filter((_, i) => i % 2 === 1).map((orderNo) => `${orderNo}.1`);
  expect(receiver.ids().slice(before).toSorted()).toEqual(wanted);
});

test('a parked delivery that is replayed is parked no more', async () => {
  const { receiver } = await world.addEndpoint('office', { respond: () => 500 });
  const [order] = await world.makeOrders(1);
  await world.publish();
  world.startWorker({ retryPausesMs: [] });
  await waitFor('the parked entry', async () => {
    return (await world.stores.parkedWork.list({ limit: 1 })).length === 1;
  });
  receiver.answerWith(() => 204);
  await replayer.replayOrder('office', order?.orderNo ?? '', 'ada');
  await world.awaitCaughtUp('office');
  expect(await world.stores.parkedWork.list({ limit: 1 })).toEqual([]);
  expect(await world.countDeliveries('office')).toEqual({ delivered: 1 });
});

test('a test of an endpoint waits for no event of a sale that is called test', async () => {
  await world.addEndpoint('office');
  const event = { type: 'sale.changed', saleId: 'test', subject: 'test', data: {} } as const;
  await recordShopEvent(world.stores.pool, event);
  await world.publish();
  await world.feedOnly('office', 1);

  expect(await world.stores.replays.test('office', 'test.1')).toEqual({ kind: 'due', eventId: 'test.1' });

  const due =
    "SELECT COUNT(*) AS deliveries FROM push_deliveries WHERE status = 'waiting' AND due_at IS NOT NULL";
  expect(await selectOne(world.stores.pool, due)).toEqual({ deliveries: 2 });
});

test('a test is one attempt with an event of its own type, and parks nothing', async () => {
  const { receiver, secret } = await world.addEndpoint('office', { respond: () => 500 });
  await world.stores.replays.test('office', 'test.1');
  world.startWorker();
  await world.awaitCaughtUp('office');
  const [received] = receiver.received;
  expect(received && verify(received, secret)).toMatchObject({
    id: 'test.1',
    type: 'endpoint.test',
    data: { endpoint: 'office' },
  });
  expect(receiver.received).toHaveLength(1);
  expect(await world.stores.parkedWork.list({ limit: 1 })).toEqual([]);
  expect(await selectOne(world.stores.pool, 'SELECT status, last_error FROM push_deliveries')).toEqual({
    status: 'parked',
    last_error: 'answered 500',
  });
});
