/** Parked work over HTTP: listed, shown, tried again and resolved, each action with its reason in the log. */

import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { parkedFileReply, parkedListReply } from '../../../src/api/calls/parked.ts';
import { modify } from '../../../src/mysql/connection.ts';
import type { Order } from '../../../src/orders/content.ts';
import { park } from '../../../src/parked/parked.sql.ts';
import { orderKeys } from '../../../src/redis/keys.ts';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { pay } from '../../support/payment-notices.ts';
import { select, selectOne } from '../../support/rows.ts';
import { problemOf, refusalOf } from '../../support/shopper.ts';
import { openMysqlAway } from '../open-api.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

const BECAUSE = { reason: 'ticket 4711' };

let world: StaffWorld;
let saleId: string;
beforeAll(async () => {
  world = await openStaffWorld();
  ({ saleId } = await world.stores.openSale(buildSale()));
});
beforeEach(async () => {
  await modify(world.stores.pool, 'DELETE FROM parked');
  await modify(world.stores.pool, 'DELETE FROM audit_log');
});

async function parkOne(
  kind: 'order' | 'payment' | 'outbox_entry',
  reference: string,
  orderNo = reference,
): Promise<number> {
  await park(world.stores.pool, kind, reference, 'Mark paid: MySQL is away', {
    cause: 'step_failing',
    inputs: { step: 'Mark paid', orderNo },
  });
  const sql = 'SELECT parked_id FROM parked WHERE reference = ?';
  return Number((await selectOne(world.stores.pool, sql, [reference]))['parked_id']);
}

const list = async (query = '') => parkedListReply.parse((await world.get(`parked${query}`)).body);
const referencesOf = async (query: string) => (await list(query)).entries.map(({ reference }) => reference);
const retry = (id: number) => world.post(`parked/${id}/retry`, BECAUSE);
const logged = () =>
  select(world.stores.pool, 'SELECT actor, action, reason FROM audit_log ORDER BY entry_id');
const RETRIED = [{ actor: 'olga', action: 'parked_retried', reason: 'ticket 4711' }];

describe('the list', () => {
  test('has what is parked, the longest first, page by page', async () => {
    for (const reference of ['a', 'b', 'c']) await parkOne('order', reference);
    const first = await list('?limit=2');
    expect(first.entries.map(({ reference }) => reference)).toEqual(['a', 'b']);
    const second = await list(`?limit=2&after=${first.next}`);
    expect([second.entries.map(({ reference }) => reference), second.next]).toEqual([['c'], null]);
  });

  test('has what is resolved alone where asked, the latest first, page by page', async () => {
    for (const reference of ['a', 'b', 'c', 'd']) {
      const id = await parkOne('order', reference);
      if (reference !== 'c') await world.post(`parked/${id}/resolve`, BECAUSE);
    }
    const first = await list('?state=resolved&limit=2');
    expect(first.entries.map(({ reference }) => reference)).toEqual(['d', 'b']);
    expect(await referencesOf(`?state=resolved&limit=2&after=${first.next}`)).toEqual(['a']);
    expect(await referencesOf('')).toEqual(['c']);
  });

  test('has one kind alone where asked', async () => {
    await parkOne('order', 'an order');
    const id = await parkOne('payment', 'a payment');
    expect(await referencesOf('?kind=payment')).toEqual(['a payment']);
    await world.post(`parked/${id}/resolve`, BECAUSE);
    expect(await referencesOf('?kind=payment&state=resolved')).toEqual(['a payment']);
    expect(refusalOf(await world.get('parked?kind=stars'))).toBe('400 invalid_request');
  });
});

test('an entry shows cause, inputs, errors, its order, what to do, and what was decided', async () => {
  const order = await world.stored(saleId);
  const id = await parkOne('order', order.orderNo);
  await world.post(`orders/${order.orderNo}/cancel`, { reason: 'asked by phone' });

  const entry = parkedFileReply.parse((await world.get(`parked/${id}`)).body);
  expect(entry).toMatchObject({
    parkedId: id,
    kind: 'order',
    orderNo: order.orderNo,
    cause: 'step_failing',
    inputs: { step: 'Mark paid' },
    lastError: 'Mark paid: MySQL is away',
    times: 1,
    resolvedAt: null,
    remedy: expect.stringContaining('retry'),
    decisions: [{ actor: 'olga', action: 'cancel_requested', reason: 'asked by phone' }],
  });
});

test.each(['999999', 'seven', '0'])('an entry that there is not, %s, is not found', async (id) => {
  expect(refusalOf(await world.get(`parked/${id}`))).toBe('404 parked_not_found');
  for (const action of ['retry', 'resolve'])
    expect(refusalOf(await world.post(`parked/${id}/${action}`, BECAUSE))).toBe('404 parked_not_found');
});

test.each([{}, { reason: ' ' }, { reason: 'x'.repeat(501) }])(
  'an action without a reason, %j, is refused and changes nothing',
  async (body) => {
    const id = await parkOne('order', 'an order');
    for (const action of ['retry', 'resolve'])
      expect(refusalOf(await world.post(`parked/${id}/${action}`, body))).toBe('400 invalid_request');
    expect(await logged()).toEqual([]);
  },
);

test('an entry that staff resolve twice is resolved once, and logged with who and why', async () => {
  const id = await parkOne('order', 'an order');
  for (let times = 0; times < 2; times += 1)
    expect((await world.post(`parked/${id}/resolve`, BECAUSE)).body).toMatchObject({
      parkedId: id,
      settledBy: 'operator',
      resolvedAt: expect.any(String),
    });
  expect(await logged()).toEqual([{ actor: 'olga', action: 'parked_resolved', reason: 'ticket 4711' }]);
});

describe('a retry', () => {
  test('has a stored order started before new work', async () => {
    const { stores } = world;
    const order = buildOrder({ saleId });
    await stores.orders.storeOrder(order, 'started');
    const reply = await retry(await parkOne('order', order.orderNo));
    expect([reply.status, reply.body]).toEqual([202, expect.objectContaining({ outcome: 'due' })]);
    expect((await stores.orderClaims.take(1))[0]?.order.orderNo).toBe(order.orderNo);
  });

  test.each<[string, string, (order: Order) => Promise<unknown>]>([
    [
      'cancelled',
      'released',
      ({ orderNo }) => world.stores.orders.cancel(orderNo, 'payment_timeout', { force: true }),
    ],
    ['paid', 'sold', (order) => pay(world.stores, order)],
  ])('ends the hold of an order that is %s, and resolves the entry', async (_, hold, end) => {
    const { stores } = world;
    const order = await world.stored();
    await end(order);
    const reply = await retry(await parkOne('order', order.orderNo));
    expect([reply.status, reply.body]).toEqual([
      200,
      expect.objectContaining({ outcome: 'followed', settledBy: 'rules' }),
    ]);
    expect(await stores.redis.hget(orderKeys(order.orderNo).order, 'hold')).toBe(hold);
    expect(await logged()).toEqual(RETRIED);
  });

  test('of an ended order whose sale Redis has lost says so, and leaves the entry', async () => {
    const { stores } = world;
    const order = await world.stored();
    await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
    await stores.redis.del(orderKeys(order.orderNo).sale);
    const reply = await retry(await parkOne('order', order.orderNo));
    expect([refusalOf(reply), problemOf(reply).detail]).toEqual([
      '409 not_retryable',
      expect.stringContaining('sale-absent'),
    ]);
    expect(await referencesOf('')).toEqual([order.orderNo]);
    expect(await logged()).toEqual([]);
  });

  test('puts an order back into the outbox that Redis has whole', async () => {
    const { stores } = world;
    const order = await world.queued(saleId);
    const { outbox } = orderKeys(order.orderNo);
    await stores.redis.del(outbox);
    const reply = await retry(await parkOne('outbox_entry', `${saleId}.0/1-1`, order.orderNo));
    expect(reply.body).toMatchObject({ outcome: 'requeued', orderNo: order.orderNo, settledBy: 'rules' });
    const entries = await stores.redis.xrange(outbox, '-', '+');
    expect(entries.map(([, fields]) => fields)).toEqual([['order_no', order.orderNo]]);
    expect(await logged()).toEqual(RETRIED);
  });

  test.each(['', 'nothing', buildOrder().orderNo])(
    'of an entry whose order, %s, is nowhere whole is refused, and leaves the entry',
    async (orderNo) => {
      const reply = await retry(await parkOne('outbox_entry', `${saleId}.0/1-2`, orderNo));
      expect(refusalOf(reply)).toBe('409 not_retryable');
      expect(await logged()).toEqual([]);
      expect(await referencesOf('')).toEqual([`${saleId}.0/1-2`]);
    },
  );

  test('of a payment that the rules have decided about is refused', async () => {
    const { stores } = world;
    const order = await world.stored();
    const payment = {
      providerPaymentId: `wrong-${order.orderNo}`,
      orderNo: order.orderNo,
      signedOrder: null,
    };
    await stores.payments.record('sandbox', { ...payment, amount: 1, currency: 'EUR' });
    const [entry] = (await list()).entries;
    expect(entry).toMatchObject({ cause: 'wrong_amount', orderNo: order.orderNo });
    expect(refusalOf(await retry(entry?.parkedId ?? 0))).toBe('409 not_retryable');
  });

  test('of what is not parked any more changes nothing', async () => {
    const id = await parkOne('order', 'an order');
    await world.post(`parked/${id}/resolve`, BECAUSE);
    const reply = await retry(id);
    expect([reply.status, reply.body]).toEqual([200, expect.objectContaining({ outcome: 'resolved' })]);
  });
});

test('while MySQL is away nothing is listed and no decision is recorded', async () => {
  const { pool, ...parts } = await openMysqlAway();
  onTestFinished(() => pool.end());
  const as = world.callsAt((await world.api.withParts(parts)).url);
  expect(refusalOf(await as.get('parked'))).toBe('503 status_unavailable');
  expect(refusalOf(await as.get('parked/1'))).toBe('503 status_unavailable');
  for (const action of ['retry', 'resolve'])
    expect(refusalOf(await as.post(`parked/1/${action}`, BECAUSE))).toBe('503 decision_unavailable');
});
