/** What operators do to an order's workflow by hand: it begins again, or gets signals that are not ours. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { openOrderWorld, type OrderWorld } from '../support/workflows/order-world.ts';

let world: OrderWorld;
beforeAll(async () => {
  world = await openOrderWorld();
});
afterAll(() => world.close());

const MINUTE_MS = 60 * 1000;

test('a workflow that begins again cancels its order when the window of the first run is over', () =>
  world.withOrder(async ({ order, book, engine, end, nowMs }) => {
    book.store();
    const startedMs = await nowMs();

    await engine.start(order, undefined, startedMs + 5 * MINUTE_MS);

    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
    expect((await nowMs()) - startedMs).toBeGreaterThanOrEqual(5 * MINUTE_MS);
    expect((await nowMs()) - startedMs).toBeLessThan(6 * MINUTE_MS);
  }));

test('a workflow that begins again after that window cancels its order at once', () =>
  world.withOrder(async ({ order, book, engine, endAtOnce, nowMs }) => {
    book.store();

    await engine.start(order, undefined, (await nowMs()) - MINUTE_MS);

    expect(await endAtOnce()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
  }));

test('a workflow that begins again after its order was paid ends with it', () =>
  world.withOrder(async ({ order, book, engine, end, nowMs }) => {
    book.store();
    book.receivePayment();

    await engine.start(order, undefined, (await nowMs()) - MINUTE_MS);

    expect(await end()).toMatchObject({ status: 'paid' });
    expect(book.stock()).toBe('sold');
  }));

test.each([
  ['nothing', []],
  ['null', [null]],
  ['no reason', [{}]],
  ['a reason that is none', [{ reason: 'because' }]],
  ['a reason of another type', [{ reason: { why: 1 } }]],
  ['a text', ['please']],
  ['more than one argument', [7, 8]],
])('a wish to cancel that was sent by hand with %s is an operator’s', (_what, args) =>
  world.withOrder(async ({ book, untilPayable, signal, endAtOnce }) => {
    await untilPayable();

    await signal('cancelRequested', ...args);

    expect(await endAtOnce()).toMatchObject({ status: 'cancelled', reason: 'operator_request' });
    expect(book.stock()).toBe('released');
  }),
);

test('signals that are none of ours change nothing', () =>
  world.withOrder(async ({ untilPayable, pay, signal, query, end }) => {
    await untilPayable();
    await signal('refundUpdated');
    await signal('no such signal', { anything: true });
    await signal('paymentReceived', 'with an argument');
    expect(await query()).toMatchObject({ status: 'awaiting_payment' });

    await pay();

    expect(await end()).toMatchObject({ status: 'paid' });
  }));
