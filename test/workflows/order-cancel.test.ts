/** Orders that are cancelled: by the clock, the shopper or an operator, with payment sessions open or not. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/wait.ts';
import { openOrderWorld, type OrderWorld } from '../support/workflows/order-world.ts';

let world: OrderWorld;
beforeAll(async () => {
  world = await openOrderWorld();
});
afterAll(() => world.close());

const WINDOW_MS = 30 * 60 * 1000;
const MINUTE_MS = 60 * 1000;
/** Of voidPaymentSessions, before the order is cancelled anyway. */
const VOID_TRIES = 5;

test('while Redis is well, the step that cancels an order releases its stock, and no other step follows', () =>
  world.withOrder(
    async ({ book, engine, order, untilPayable, end }) => {
      await untilPayable();
      await engine.signalCancelRequested(order);
      expect(await end()).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
      expect(book.steps).toEqual(['persistOrder', 'cancelOrder']);
      expect(book.stock()).toBe('released');
    },
    { settlesStock: true },
  ));

test('an unpaid order is cancelled when its 30 minutes are over, and its stock goes back', () =>
  world.withOrder(async ({ order, book, engine, end, nowMs }) => {
    const startedMs = await nowMs();
    await engine.start(order);
    expect(await end()).toEqual({
      status: 'cancelled',
      version: 3,
      payment: 'none',
      reason: 'payment_timeout',
    });
    expect((await nowMs()) - startedMs).toBeGreaterThanOrEqual(WINDOW_MS);
    expect((await nowMs()) - startedMs).toBeLessThan(WINDOW_MS + MINUTE_MS);
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
  }));

test('an order whose deadline was extended waits on for so long, without a signal, and ends then', () =>
  world.withOrder(async ({ order, book, engine, end, nowMs }) => {
    const startedMs = await nowMs();
    book.extend(WINDOW_MS);
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout', version: 4 });
    expect((await nowMs()) - startedMs).toBeGreaterThanOrEqual(2 * WINDOW_MS);
    expect((await nowMs()) - startedMs).toBeLessThan(2 * WINDOW_MS + MINUTE_MS);
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'cancelOrder', 'releaseStock']);
  }));

test('a time-out that is signalled to an order with an extended deadline is asked about once, and it stays open', () =>
  world.withOrder(async ({ book, untilPayable, pay, signal, query, endAtOnce }) => {
    await untilPayable();
    book.extend(WINDOW_MS);
    await signal('cancelRequested', { reason: 'payment_timeout' });
    await waitFor('the later deadline', async () => (await query()).extendedUntilMs !== undefined);
    await pay();
    expect(await endAtOnce()).toMatchObject({ status: 'paid' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'markPaid', 'confirmStock']);
  }));

test('a wish that comes while a signalled time-out meets an extended deadline ends the order at once', () =>
  world.withOrder(async ({ order, book, engine, untilPayable, signal, endAtOnce }) => {
    await untilPayable();
    book.extend(WINDOW_MS);
    const cancelling = book.holdUp('cancelOrder');
    await signal('cancelRequested', { reason: 'payment_timeout' });
    await cancelling.entered;
    await engine.signalCancelRequested(order);
    cancelling.letGo();
    expect(await endAtOnce()).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
  }));

test("the shopper's cancel ends the order at once, before its window is over", () =>
  world.withOrder(async ({ order, book, engine, untilPayable, endAtOnce }) => {
    await untilPayable();
    await engine.signalCancelRequested(order);
    expect(await endAtOnce()).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
  }));

test('a cancel before the order is stored stores it, then cancels it', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    await engine.signalCancelRequested(order);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
  }));

test('a second cancel changes nothing', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    const persisting = book.holdUp('persistOrder');
    await engine.start(order);
    await persisting.entered;
    await engine.signalCancelRequested(order);
    await engine.signalCancelRequested(order);
    persisting.letGo();
    expect(await end()).toEqual({
      status: 'cancelled',
      version: 3,
      payment: 'none',
      reason: 'shopper_request',
    });
    // Signals make the server ask for the workflow task, and so for its steps, once more.
    expect(new Set(book.steps)).toEqual(new Set(['persistOrder', 'cancelOrder', 'releaseStock']));
    expect(book.stock()).toBe('released');
  }));

test("cancelling the workflow cancels the order in the operator's name, and completes the workflow", () =>
  world.withOrder(async ({ book, untilPayable, cancelWorkflow, endAtOnce }) => {
    await untilPayable();
    await cancelWorkflow();
    expect(await endAtOnce()).toMatchObject({ status: 'cancelled', reason: 'operator_request' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
  }));

test('cancelling the workflow while a step keeps failing cuts the step not short', () =>
  world.withOrder(async ({ order, book, engine, cancelWorkflow, end }) => {
    book.fail('persistOrder', 4);
    const persisting = book.holdUp('persistOrder');
    await engine.start(order);
    await persisting.entered;
    await cancelWorkflow();
    persisting.letGo();
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'operator_request' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
  }));

test('cancelling the workflow of an order that was just paid does not cancel the order', () =>
  world.withOrder(async ({ book, untilPayable, cancelWorkflow, end }) => {
    await untilPayable();
    book.receivePayment();
    await cancelWorkflow();
    expect(await end()).toMatchObject({ status: 'paid', reason: null });
    expect(book.stock()).toBe('sold');
  }));

test('an order stored ahead with the wish to cancel recorded is cancelled without any signal', () =>
  world.withOrder(async ({ order, book, engine, endAtOnce }) => {
    book.store();
    book.requestCancel();
    await engine.start(order);
    expect(await endAtOnce()).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
  }));

test('open payment sessions are voided first, then the order is cancelled, then its stock goes back', () =>
  world.withOrder(async ({ order, book, engine, untilPayable, end }) => {
    await untilPayable();
    book.openSession('open');
    await engine.signalCancelRequested(order);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
    expect(book.steps).toEqual([
      'persistOrder',
      'cancelOrder',
      'voidPaymentSessions',
      'cancelOrder',
      'releaseStock',
    ]);
    expect(book.stock()).toBe('released');
  }));

test('a provider that stays away does not hold a cancel up: after some tries the order is cancelled anyway', () =>
  world.withOrder(async ({ order, book, engine, end, nowMs }) => {
    const startedMs = await nowMs();
    book.openSession('open');
    book.fail('voidPaymentSessions', Infinity);
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
    expect(book.tries.filter((step) => step === 'voidPaymentSessions')).toHaveLength(VOID_TRIES);
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'cancelOrder', 'releaseStock']);
    expect(book.stock()).toBe('released');
    expect((await nowMs()) - startedMs).toBeLessThan(WINDOW_MS + 2 * MINUTE_MS);
  }));

test('a session that turns out to be paid while it is being voided pays the order', () =>
  world.withOrder(async ({ order, book, engine, untilPayable, end }) => {
    await untilPayable();
    book.openSession('paid-unnoticed');
    await engine.signalCancelRequested(order);
    expect(await end()).toMatchObject({ status: 'paid', payment: 'applied', reason: null });
    expect(book.steps).toEqual([
      'persistOrder',
      'cancelOrder',
      'voidPaymentSessions',
      'cancelOrder',
      'confirmStock',
    ]);
    expect(book.stock()).toBe('sold');
    expect(book.payments).toEqual([{ amount: order.total, status: 'applied' }]);
  }));

test('stock goes back only once the cancel is committed, however long that takes', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.fail('cancelOrder', 8);
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'releaseStock']);
    expect(book.tries.indexOf('releaseStock')).toBeGreaterThan(book.tries.lastIndexOf('cancelOrder'));
    expect(book.stock()).toBe('released');
  }));
