/** Orders whose stores refuse, are away, or come back late. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { openOrderWorld, type OrderWorld } from '../support/workflows/order-world.ts';

let world: OrderWorld;
beforeAll(async () => {
  world = await openOrderWorld();
});
afterAll(() => world.close());

const WINDOW_MS = 30 * 60 * 1000;
const MINUTE_MS = 60 * 1000;
/** Quick tries of a step, then patient ones, before the order is parked. */
const TRIES_BEFORE_PARKING = 3 + 10;

test.each([
  ['in the quick tries', 2],
  ['in the patient tries', 7],
])('an order is stored once the store is back, %s, and its early money pays it', (_, failures) =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.fail('persistOrder', failures);
    book.receivePayment();
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'paid' });
    expect(book.tries.filter((step) => step === 'persistOrder')).toHaveLength(failures + 1);
    expect(book.steps).toEqual(['persistOrder', 'confirmStock']);
    expect(book.parked).toEqual([]);
  }),
);

test('an order that is started with its state in MySQL is not stored again', () =>
  world.withOrder(
    async ({ order, book, engine, query, pay, end }) => {
      book.store();
      const stored = book.state();
      await engine.start(order, stored);
      expect(await query()).toEqual(stored);
      await pay();
      expect(await end()).toMatchObject({ status: 'paid', payment: 'applied' });
      expect(book.steps).toEqual(['markPaid']);
    },
    { settlesStock: true },
  ));

test('an order that can never be stored is abandoned at once, and its stock goes back', () =>
  world.withOrder(async ({ order, book, engine, endAtOnce }) => {
    book.refuse('unknown_sku');
    await engine.start(order);
    expect(await endAtOnce()).toEqual({
      status: 'failed',
      version: 1,
      payment: 'none',
      reason: 'unknown_sku',
    });
    expect(book.tries).toEqual(['persistOrder', 'abandonOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
  }));

test('an order that is refused when the store comes back is not tried again', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.fail('persistOrder', 4);
    book.refuse('stock_exhausted');
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'failed', reason: 'stock_exhausted' });
    expect(book.tries.filter((step) => step === 'persistOrder')).toHaveLength(5);
    expect(book.steps).toEqual(['abandonOrder', 'releaseStock']);
  }));

test('an order whose store stays away past the deadline is abandoned, and not before', () =>
  world.withOrder(async ({ order, book, engine, end, nowMs }) => {
    const startedMs = await nowMs();
    book.fail('persistOrder', Infinity);
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'failed', reason: 'store_unavailable' });
    expect(book.steps).toEqual(['abandonOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
    // The next try would come within a minute of the last, so the end may be that much before the deadline.
    expect((await nowMs()) - startedMs).toBeGreaterThan(WINDOW_MS - 2 * MINUTE_MS);
    expect((await nowMs()) - startedMs).toBeLessThan(WINDOW_MS + 2 * MINUTE_MS);
  }));

test('an order that comes to its workflow past its deadline still gets an honest try to be stored', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    const late = { ...order, reservedAtMs: order.reservedAtMs - 2 * WINDOW_MS };
    book.fail('persistOrder', 4);
    await engine.start(late);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
  }));

test('an order that a slow write stored before it was abandoned goes on, and can be paid', () =>
  world.withOrder(async ({ order, book, engine, pay, end }) => {
    book.refuse('invalid_order');
    book.before('abandonOrder', () => book.store());
    book.after('abandonOrder', async () => {
      // The signal makes the server ask for this workflow task, and so for this step, once more.
      if (book.payments.length === 0) await pay();
    });
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'paid' });
    expect(book.steps).not.toContain('releaseStock');
    expect(book.stock()).toBe('sold');
  }));

test('an order that a slow write stored after the store was away till the deadline is cancelled, not failed', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.fail('persistOrder', Infinity);
    book.before('abandonOrder', () => book.store());
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
    expect(book.steps).toEqual(['abandonOrder', 'cancelOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
  }));

test('stock of an abandoned order goes back only once that is committed', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.refuse('lost_hold');
    book.fail('abandonOrder', 8);
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'failed', reason: 'lost_hold' });
    expect(book.steps).toEqual(['abandonOrder', 'releaseStock']);
    expect(book.tries.indexOf('releaseStock')).toBeGreaterThan(book.tries.lastIndexOf('abandonOrder'));
    expect(book.stock()).toBe('released');
  }));

test('money that came for an abandoned order goes back', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.refuse('stock_exhausted');
    book.receivePayment();
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'failed', reason: 'stock_exhausted', payment: 'none' });
    expect(book.payments).toEqual([{ amount: order.total, status: 'refund_due' }]);
    expect(book.stock()).toBe('released');
  }));

test('an order that has ended already ends its workflow, and its stock is settled once more', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.store();
    book.receivePayment();
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'paid' });
    expect(book.steps).toEqual(['persistOrder', 'confirmStock']);
  }));

test.each(['markPaid', 'confirmStock'] as const)(
  'a %s that keeps failing parks the order for an operator, and goes on until it works',
  (step) =>
    world.withOrder(async ({ book, untilPayable, pay, end }) => {
      book.fail(step, TRIES_BEFORE_PARKING + 5);
      await untilPayable();
      await pay();
      expect(await end()).toMatchObject({ status: 'paid' });
      expect(book.parked).toEqual([expect.stringContaining(`${step}: the store is away`)]);
      expect(book.tries.filter((tried) => tried === step)).toHaveLength(TRIES_BEFORE_PARKING + 6);
      expect(book.stock()).toBe('sold');
    }),
);

test.each(['cancelOrder', 'releaseStock'] as const)(
  'a %s that keeps failing parks the order for an operator, and goes on until it works',
  (step) =>
    world.withOrder(async ({ order, book, engine, end }) => {
      book.fail(step, TRIES_BEFORE_PARKING + 5);
      await engine.start(order);
      expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
      expect(book.parked).toEqual([expect.stringContaining(`${step}: the store is away`)]);
      expect(book.stock()).toBe('released');
    }),
);

test('a step that works again just before it would be parked is not shown to an operator', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.fail('releaseStock', TRIES_BEFORE_PARKING - 1);
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'cancelled' });
    expect(book.parked).toEqual([]);
    expect(book.stock()).toBe('released');
  }));
