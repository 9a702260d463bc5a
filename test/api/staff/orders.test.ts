/** Orders for staff: lists, the whole of one order, and cancelling. */

import { beforeAll, describe, expect, test } from 'vitest';
import { rebuildSale } from '../../../src/reconcile/rebuild-sale.ts';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { buildReversal, reverse } from '../../support/payment-notices.ts';
import { select } from '../../support/rows.ts';
import { problemOf, refusalOf } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;
beforeAll(async () => {
  world = await openStaffWorld();
});

describe('a list of orders', () => {
  test('of a user has the orders of all sales by their time, page by page', async () => {
    const orders = [];
    for (let i = 0; i < 3; i += 1) orders.push(await world.stored(undefined, 'jane+shop@example.com'));
    await world.stored(undefined, 'john');
    const numbers = orders.map(({ orderNo }) => orderNo);
    const user = `userId=${encodeURIComponent('jane+shop@example.com')}`;
    const first = await world.get(`orders?${user}&limit=2`);
    expect(first.body).toMatchObject({
      orders: numbers.slice(0, 2).map((orderNo) => ({ orderNo, userId: 'jane+shop@example.com' })),
      next: numbers[1],
    });
    const second = await world.get(`orders?${user}&limit=2&after=${numbers[1]}`);
    expect(second.body).toMatchObject({ orders: [{ orderNo: numbers[2] }], next: null });
  });

  test('of a reference has the orders that carry it', async () => {
    const { saleId } = await world.stores.openSale(buildSale());
    const order = buildOrder({ saleId, reference: 'Basket 4711/2' });
    await world.stores.orders.storeOrder(order, 'due');
    const path = `orders?reference=${encodeURIComponent('Basket 4711/2')}`;
    expect((await world.get(path)).body).toMatchObject({
      orders: [{ orderNo: order.orderNo, reference: 'Basket 4711/2' }],
      next: null,
    });
    expect((await world.get(`${path}&status=paid`)).body).toEqual({ orders: [], next: null });
    expect((await world.get(`${path}&after=${order.orderNo}`)).body).toEqual({ orders: [], next: null });
  });

  test('of a sale may have one status, and never has the orders of a sale whose name continues', async () => {
    const { saleId } = await world.stores.openSale(buildSale());
    await world.stores.openSale(buildSale({ saleId: `${saleId}-2` }));
    await world.stored(`${saleId}-2`);
    const { order: paid } = await world.paid(saleId);
    const open = await world.stored(saleId);
    expect((await world.get(`orders?saleId=${saleId}`)).body).toMatchObject({
      orders: [{ orderNo: paid.orderNo }, { orderNo: open.orderNo }],
    });
    expect((await world.get(`orders?saleId=${saleId}&status=paid`)).body).toMatchObject({
      orders: [{ orderNo: paid.orderNo, status: 'paid' }],
      next: null,
    });
    expect((await world.get(`orders?saleId=${saleId}&status=failed`)).body).toEqual({
      orders: [],
      next: null,
    });
  });

  test.each([
    '',
    'saleId=a&userId=b',
    'status=paid',
    'saleId=a&limit=0',
    'saleId=a&limit=101',
    'saleId=a&limit=-1',
    'saleId=a&limit=1e1',
    'saleId=A%20B',
    'saleId=a&status=gone',
    'saleId=a&after=x',
    'saleId=a&saleId=b',
    'saleId=a&order=1',
    'userId=%00',
    `userId=${'x'.repeat(300)}`,
  ])('is asked for by exactly one of its filters, each as it must be: %s', async (query) => {
    expect(refusalOf(await world.get(`orders?${query}`))).toBe('400 invalid_request');
  });
});

describe('the whole of an order', () => {
  test('has its payments, what went back, its refunds, its history, and what is parked', async () => {
    const { order, payment } = await world.paid();
    await reverse(world.stores, buildReversal(payment, { amount: 900 }));
    await world.refund(order.orderNo, { amount: 1_000, reason: 'scratched' });
    const { body } = await world.get(`orders/${order.orderNo}`);
    expect(body).toMatchObject({
      orderNo: order.orderNo,
      userId: order.userId,
      status: 'paid',
      payment: 'partially_refunded',
      refunded: 900,
      workflowStartedAt: null,
      payments: [{ amount: 4_900, currency: 'EUR', status: 'refund_due', reason: 'operator_request' }],
      reversals: [{ kind: 'refund', amount: 900, status: 'succeeded' }],
      refunds: [{ amount: 1_000, currency: 'EUR', status: 'requested', reason: 'scratched', actor: 'olga' }],
      history: [
        { version: 1, status: 'awaiting_payment' },
        { version: 2, status: 'paid', payment: 'applied', refunded: 0 },
        { version: 3, status: 'paid', payment: 'partially_refunded', refunded: 900 },
      ],
      parked: [{ kind: 'payment', cause: 'reversed', resolvedAt: expect.any(String) }],
    });
  });

  test('says when its workflow began', async () => {
    const order = await world.queued();
    await world.api.store(order.orderNo, 'started');
    expect((await world.get(`orders/${order.orderNo}`)).body).toMatchObject({
      workflowStartedAt: expect.stringMatching(/^\d{4}-.+Z$/),
    });
  });

  test('is there while the order is in Redis alone', async () => {
    const order = await world.queued();
    expect((await world.get(`orders/${order.orderNo}`)).body).toMatchObject({
      orderNo: order.orderNo,
      status: 'queued',
      userId: order.userId,
      payments: [],
      history: [],
    });
  });

  test.each(['nope', '%00', 'x'.repeat(500), buildOrder({ saleId: 'never-was' }).orderNo])(
    'of what is no order, %s, is not found',
    async (orderNo) => {
      expect(refusalOf(await world.get(`orders/${orderNo}`))).toBe('404 order_not_found');
      expect(refusalOf(await world.post(`orders/${orderNo}/cancel`))).toBe('404 order_not_found');
    },
  );

  test.each([0, 1, 2])('of a number of epoch %i, where the present one is 2, is not found', async (epoch) => {
    const { saleId } = await world.stores.openSale(buildSale());
    await rebuildSale({ ...world.stores, log: silent }, saleId, { cause: 'lost' });
    // Long ago: no relay brings an order of the epoch before back any more.
    await world.stores.pool.query(
      'UPDATE sales SET rebuilt_at = NOW(3) - INTERVAL 1 HOUR WHERE sale_id = ?',
      [saleId],
    );
    const orderNo = buildOrder({ saleId }).orderNo.replace(`${saleId}-0-1-`, `${saleId}-0-${epoch}-`);
    expect(refusalOf(await world.get(`orders/${orderNo}`))).toBe('404 order_not_found');
    expect(refusalOf(await world.post(`orders/${orderNo}/cancel`))).toBe('404 order_not_found');
  });

  test('of an order that may still come back, for its sale is being rebuilt, is not said to be missing', async () => {
    const order = await world.queued();
    await world.stores.redis.del(...(await world.stores.redis.keys(`holdfast:{${order.saleId}.0}:*`)));
    expect(refusalOf(await world.get(`orders/${order.orderNo}`))).toBe('503 status_unavailable');
    expect(refusalOf(await world.post(`orders/${order.orderNo}/cancel`))).toBe('503 status_unavailable');
  });
});

describe('cancelling', () => {
  test.each(['queued', 'rebuilt', 'stored'] as const)(
    'an order that is %s is recorded with who wanted it, once',
    async (how) => {
      const order = await world[how]();
      const first = await world.post(`orders/${order.orderNo}/cancel`, { reason: 'fraud' });
      expect(first.status).toBe(202);
      expect(first.body).toMatchObject({
        status: 'awaiting_payment',
        reason: 'operator_request',
        closing: true,
      });
      const again = await world.post(`orders/${order.orderNo}/cancel`);
      expect([again.status, again.body]).toEqual([202, first.body]);
      expect(
        await select(world.stores.pool, 'SELECT actor, action, reason FROM audit_log WHERE subject = ?', [
          order.orderNo,
        ]),
      ).toEqual([{ actor: 'olga', action: 'cancel_requested', reason: 'fraud' }]);
    },
  );

  test('a paid order is refused, with the word to refund it', async () => {
    const { order } = await world.paid();
    const before = await world.rowsOf(order.saleId);
    const reply = await world.post(`orders/${order.orderNo}/cancel`);
    expect(refusalOf(reply)).toBe('409 already_paid');
    expect(problemOf(reply)).toMatchObject({
      detail: expect.stringContaining('refund'),
      order: { status: 'paid' },
    });
    expect(await world.rowsOf(order.saleId)).toEqual(before);
  });

  test('an order that is shown as paid and that MySQL has lost is refused as paid', async () => {
    const order = await world.queued();
    const state = { status: 'paid', version: 2, payment: 'applied', reason: null } as const;
    await world.stores.reservations.project(order.orderNo, state);
    const before = await world.rowsOf(order.saleId);

    expect(refusalOf(await world.post(`orders/${order.orderNo}/cancel`))).toBe('409 already_paid');

    expect(await world.rowsOf(order.saleId)).toEqual(before);
  });

  test('an order that is shown as payable and that MySQL has lost is shown as closing from then on', async () => {
    const order = await world.queued();
    const state = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null } as const;
    await world.stores.reservations.project(order.orderNo, { ...state, version: 2 });

    const reply = await world.post(`orders/${order.orderNo}/cancel`);

    expect([reply.status, reply.body]).toMatchObject([202, { closing: true, version: 3 }]);
  });

  test('an order that has ended otherwise answers how', async () => {
    const order = await world.stored();
    await world.stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
    const reply = await world.post(`orders/${order.orderNo}/cancel`);
    expect(reply.status).toBe(200);
    expect(reply.body).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
  });

  test.each([{ reason: '' }, { reason: 7 }, { reason: 'x'.repeat(501) }, { because: 'so' }, []])(
    'with a body that is none, %j, is refused and changes nothing',
    async (body) => {
      const order = await world.stored();
      const before = await world.rowsOf(order.saleId);
      expect(refusalOf(await world.post(`orders/${order.orderNo}/cancel`, body))).toBe('400 invalid_request');
      expect(await world.rowsOf(order.saleId)).toEqual(before);
    },
  );

  test('what is no order is not found', async () => {
    expect(refusalOf(await world.post('orders/nope/cancel'))).toBe('404 order_not_found');
  });
});
