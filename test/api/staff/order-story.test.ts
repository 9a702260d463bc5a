/** The whole story of an order over HTTP: one list by time, its workflow, and what each store says. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { orderStoryReply } from '../../../src/api/calls/order-story.ts';
import { createSecret } from '../../../src/push/deliverer.ts';
import { buildOrder } from '../../support/factories.ts';
import { buildPayment } from '../../support/payment-notices.ts';
import { refusalOf } from '../../support/shopper.ts';
import { openMysqlAway } from '../open-api.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;
beforeAll(async () => {
  world = await openStaffWorld();
});

const storyOf = async (orderNo: string) =>
  orderStoryReply.parse((await world.get(`orders/${orderNo}/story`)).body);

test('an order that was paid, refunded in part and told of is one list by time', async () => {
  const { stores, api } = world;
  const order = await world.stored();
  const { orderNo } = order;
  await (await api.shopper(order.userId)).pay(orderNo);
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  await world.refund(orderNo, { amount: 900, reason: 'a scratch' });
  const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
  await stores.endpoints.put('office', terms, createSecret(), 'ada');
  const delivery = { eventId: `${orderNo}.1`, sequence: null, line: orderNo };
  await stores.replays.replay('office', [delivery], 'ada');

  const { story, ...told } = await storyOf(orderNo);

  expect(told).toMatchObject({
    orderNo,
    userId: order.userId,
    state: { status: 'paid' },
    workflowId: orderNo,
    hasWorkflow: false,
  });
  expect(new Set(story.map(({ what }) => what))).toEqual(
    new Set(['reservation', 'event', 'session', 'payment', 'refund', 'decision', 'delivery']),
  );
  expect(story.map(({ at }) => at)).toEqual(story.map(({ at }) => at).toSorted());
  expect(story).toContainEqual({
    at: expect.any(String),
    from: 'operator',
    what: 'decision',
    id: null,
    text: 'olga: refund requested, because: a scratch',
  });
  expect(story.find(({ what }) => what === 'delivery')).toMatchObject({
    from: 'endpoint',
    id: `${orderNo}.1`,
    text: `event ${orderNo}.1 waiting for office`,
  });
  expect(JSON.stringify(story)).toContain(payment.providerPaymentId);
});

test('an order whose workflow MySQL knows of says that it has one', async () => {
  const { orderNo } = await world.queued();
  await world.api.store(orderNo, 'started');
  expect(await storyOf(orderNo)).toMatchObject({ workflowId: orderNo, hasWorkflow: true });
});

test('an order that is accepted and not stored yet is told from Redis alone, until it leaves the outbox', async () => {
  const { stores } = world;
  const order = await world.queued();
  const before = await storyOf(order.orderNo);
  expect(before).toMatchObject({ state: { status: 'queued', version: 0 }, problems: [] });
  expect(before.says).toContainEqual({
    store: 'Redis',
    text: 'queued, payment none, version 0; stock held; in the outbox',
  });
  await stores.redis.del(`holdfast:{${order.saleId}.0}:outbox`);
  expect((await storyOf(order.orderNo)).problems).toEqual(['The order is open, and no process works on it.']);
});

test('a store that is away is named, and the rest is told', async () => {
  const order = await world.stored();
  const { url } = await world.api.withParts({
    holds: { ...world.stores.holds, look: async () => Promise.reject(new Error('connection lost')) },
    engine: { ...world.api.engine, listRuns: async () => Promise.reject(new Error('no connection')) },
  });
  const reply = await world.callsAt(url).get(`orders/${order.orderNo}/story`);
  const { says, story } = orderStoryReply.parse(reply.body);
  expect(says).toMatchObject([
    { store: 'MySQL', text: expect.stringMatching(/^awaiting_payment, payment none, version 1/) },
    { store: 'Redis', text: 'did not answer' },
    { store: 'Temporal', text: 'did not answer' },
  ]);
  expect(story.map(({ what }) => what)).toContain('event');
});

test('an order that no store knows is not found', async () => {
  expect(refusalOf(await world.get(`orders/${buildOrder().orderNo}/story`))).toBe('404 order_not_found');
  expect(refusalOf(await world.get('orders/nothing/story'))).toBe('404 order_not_found');
});

test('while MySQL is away no story is told', async () => {
  const order = await world.stored();
  const { pool, ...parts } = await openMysqlAway();
  onTestFinished(() => pool.end());
  const { url } = await world.api.withParts({ ...parts, pool });
  expect(refusalOf(await world.callsAt(url).get(`orders/${order.orderNo}/story`))).toBe(
    '503 status_unavailable',
  );
});
