/** Orders that are paid, and what can be seen of an order on its way. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/wait.ts';
import { openOrderWorld, type OrderWorld } from '../support/workflows/order-world.ts';
import { createGate } from '../support/workflows/stepper.ts';

let world: OrderWorld;
beforeAll(async () => {
  world = await openOrderWorld();
});
afterAll(() => world.close());

const WINDOW_MS = 30 * 60 * 1000;
const MINUTE_MS = 60 * 1000;

test('an order that is paid within its window ends paid, and its stock is sold', () =>
  world.withOrder(async ({ book, untilPayable, pay, end }) => {
    await untilPayable();
    await pay();
    expect(await end()).toEqual({ status: 'paid', version: 2, payment: 'applied', reason: null });
    expect(book.steps).toEqual(['persistOrder', 'markPaid', 'confirmStock']);
    expect(book.stock()).toBe('sold');
  }));

test('while Redis is well, the step that reads the payment sells the stock, and no other step follows', () =>
  world.withOrder(
    async ({ book, untilPayable, pay, end }) => {
      await untilPayable();
      await pay();
      expect(await end()).toEqual({ status: 'paid', version: 2, payment: 'applied', reason: null });
      expect(book.steps).toEqual(['persistOrder', 'markPaid']);
      expect(book.stock()).toBe('sold');
    },
    { settlesStock: true },
  ));

test('an order whose money came before it was stored ends paid when its workflow stores it, without a signal', () =>
  world.withOrder(async ({ order, book, engine, endAtOnce }) => {
    book.receivePayment();
    await engine.start(order);
    expect(await endAtOnce()).toMatchObject({ status: 'paid', payment: 'applied' });
    expect(book.steps).toEqual(['persistOrder', 'confirmStock']);
    expect(book.stock()).toBe('sold');
  }));

test('a workflow that starts an order which was paid since its start was claimed ends it paid once it is told', () =>
  world.withOrder(
    async ({ order, book, engine, signalPaid, endAtOnce }) => {
      book.store();
      const claimed = book.state();
      book.receivePayment();
      await engine.start(order, claimed);
      await signalPaid();
      expect(await endAtOnce()).toMatchObject({ status: 'paid', payment: 'applied' });
      expect(book.steps).toEqual(['markPaid']);
      expect(book.stock()).toBe('sold');
    },
    { settlesStock: true },
  ));

test('a start with a state from before the order was paid changes nothing once its workflow has ended', () =>
  world.withOrder(
    async ({ order, book, engine, pay, end }) => {
      book.store();
      const open = book.state();
      await engine.start(order, open);
      await pay();
      const ended = await end();

      await engine.start(order, open);

      expect(await end()).toEqual(ended);
      expect(book.state()).toEqual(ended);
      expect(book.payments).toEqual([{ amount: order.total, status: 'applied' }]);
    },
    { settlesStock: true },
  ));

test('the signal of a payment twice changes nothing', () =>
  world.withOrder(async ({ order, book, untilPayable, pay, signalPaid, end }) => {
    await untilPayable();
    await pay();
    await signalPaid();
    expect(await end()).toEqual({ status: 'paid', version: 2, payment: 'applied', reason: null });
    expect(book.stock()).toBe('sold');
    expect(book.payments).toEqual([{ amount: order.total, status: 'applied' }]);
  }));

test('signals that come while the workflow reads the payment change nothing, though its steps may run again', () =>
  world.withOrder(async ({ order, book, engine, untilPayable, pay, signalPaid, end }) => {
    await untilPayable();
    const reading = book.holdUp('markPaid');
    await pay();
    await reading.entered;
    await signalPaid();
    await engine.signalCancelRequested(order);
    reading.letGo();
    expect(await end()).toEqual({ status: 'paid', version: 2, payment: 'applied', reason: null });
    expect(new Set(book.steps)).toEqual(new Set(['persistOrder', 'markPaid', 'confirmStock']));
    expect(book.stock()).toBe('sold');
  }));

test('money and the wish to cancel at the same time: money wins', () =>
  world.withOrder(async ({ order, book, engine, pay, end }) => {
    const persisting = book.holdUp('persistOrder');
    await engine.start(order);
    await persisting.entered;
    await engine.signalCancelRequested(order);
    await pay();
    persisting.letGo();
    expect(await end()).toMatchObject({ status: 'paid', reason: null });
    expect(book.steps).not.toContain('cancelOrder');
  }));

test('money committed in the moment in which the timer ends pays the order, and the cancel step finds it paid', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.before('cancelOrder', () => book.receivePayment());
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'paid', payment: 'applied' });
    expect(book.steps).toEqual(['persistOrder', 'cancelOrder', 'confirmStock']);
    expect(book.stock()).toBe('sold');
  }));

test('money committed just after the cancel comes too late: the order is cancelled and the money goes back', () =>
  world.withOrder(async ({ order, book, engine, end }) => {
    book.after('cancelOrder', () => book.receivePayment());
    await engine.start(order);
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout', payment: 'none' });
    expect(book.stock()).toBe('released');
    expect(book.payments).toEqual([{ amount: order.total, status: 'refund_due' }]);
  }));

test('a signal of a payment that did not pay for the order leaves the window running, and the order times out', () =>
  world.withOrder(async ({ order, book, untilPayable, signalPaid, end, nowMs }) => {
    const startedMs = await nowMs();
    await untilPayable();
    book.receivePayment(order.total - 1);
    await signalPaid();
    expect(await end()).toMatchObject({ status: 'cancelled', reason: 'payment_timeout', payment: 'none' });
    expect(book.steps).toEqual(['persistOrder', 'markPaid', 'cancelOrder', 'releaseStock']);
    expect((await nowMs()) - startedMs).toBeGreaterThanOrEqual(WINDOW_MS);
    expect((await nowMs()) - startedMs).toBeLessThan(WINDOW_MS + MINUTE_MS);
  }));

test('the right payment after a wrong one still pays the order', () =>
  world.withOrder(async ({ order, book, untilPayable, pay, signalPaid, end }) => {
    await untilPayable();
    book.receivePayment(order.total + 1);
    await signalPaid();
    await waitFor('the look at the wrong payment', () => book.steps.includes('markPaid'));
    await pay();
    expect(await end()).toMatchObject({ status: 'paid' });
    expect(book.payments.map(({ status }) => status)).toEqual(['parked', 'applied']);
  }));

test('the status query returns queued, awaiting_payment and paid as the order goes', () =>
  world.withOrder(async ({ order, book, engine, pay, end, query }) => {
    // Quick tries are part of a workflow task, during which no query is answered: let them fail.
    book.fail('persistOrder', 3);
    const patient = createGate();
    book.before('persistOrder', () => (book.tries.length > 3 ? patient.opened : undefined));
    await engine.start(order);
    await waitFor('the patient try', () => book.tries.length > 3);
    expect(await query()).toEqual({ status: 'queued', version: 0, payment: 'none', reason: null });

    patient.open();
    const payable = await waitFor('the stored order', async () => {
      const state = await query();
      return state.status !== 'queued' && state;
    });
    expect(payable).toEqual({ status: 'awaiting_payment', version: 1, payment: 'none', reason: null });

    await pay();
    const ended = await end();
    expect(ended.status).toBe('paid');
    expect(await query()).toEqual(ended);
  }));

test('the search attributes hold the user, the sale and the status', () =>
  world.withOrder(async ({ order, untilPayable, pay, end, searchAttribute }) => {
    await untilPayable();
    expect(await searchAttribute('UserId')).toEqual([order.userId]);
    expect(await searchAttribute('SaleId')).toEqual([order.saleId]);
    await pay();
    await end();
    expect(await searchAttribute('OrderStatus')).toEqual(['paid']);
  }));

test('an order that was started twice is one workflow, and what comes after its end changes nothing', () =>
  world.withOrder(async ({ order, book, engine, untilPayable, pay, signalPaid, end }) => {
    await untilPayable();
    await engine.start(order);
    await pay();
    await end();
    expect(book.tries).toEqual(['persistOrder', 'markPaid', 'confirmStock']);
    const late = [() => engine.start(order), signalPaid, () => engine.signalCancelRequested(order)];
    for (const comes of late) {
      await comes();
      expect(await end()).toMatchObject({ status: 'paid' });
    }
    expect(book.state()).toMatchObject({ status: 'paid' });
    expect(book.tries).not.toContain('cancelOrder');
    expect(book.stock()).toBe('sold');
  }));
