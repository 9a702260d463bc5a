/** Refunds that work, fail, or are no longer due. */

import { activityInfo } from '@temporalio/activity';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createGate } from '../support/workflows/stepper.ts';
import { looks, openRefundWorld, type RefundWorld } from './refund-world.ts';

let world: RefundWorld;
beforeAll(async () => {
  world = await openRefundWorld();
});
afterAll(() => world.close());

const HOUR_MS = 60 * 60 * 1000;
/** Of the refund itself; other steps have three quick tries before. */
const TRIES_BEFORE_PARKING = 10;

test('a refund that works at once ends its workflow, and then limit and stock come back', () =>
  world.withRefund(async ({ book, start, endAtOnce }) => {
    await start();
    await endAtOnce();
    expect(book.tries).toEqual(['refundPayment', 'giveBack']);
    expect(book.money()).toBe('refunded');
    expect(book.givenBackWhile()).toBe('refunded');
    expect(book.parked).toEqual([]);
  }));

test('money that went back at the provider is not sent again, but limit and stock come back', () =>
  world.withRefund(async ({ book, start, endAtOnce }) => {
    book.is('nothing');
    await start();
    await endAtOnce();
    expect(book.steps).toEqual(['refundPayment', 'giveBack']);
    expect(book.givenBackWhile()).toBe('nothing');
  }));

test('a refund that has ended runs again when something is due anew', () =>
  world.withRefund(async ({ book, start, endAtOnce, describe }) => {
    await start();
    await endAtOnce();
    const { runId } = await describe();
    await start();
    await endAtOnce();
    expect((await describe()).runId).not.toBe(runId);
    expect(book.steps).toEqual(['refundPayment', 'giveBack', 'refundPayment', 'giveBack']);
  }));

test('a refund that fails at first is tried again, and not parked', () =>
  world.withRefund(async ({ book, start, end }) => {
    book.fail('refundPayment', TRIES_BEFORE_PARKING - 1);
    await start();
    await end();
    expect(looks(book)).toBe(TRIES_BEFORE_PARKING);
    expect(book.parked).toEqual([]);
    expect(book.money()).toBe('refunded');
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('a refund that keeps failing is parked for an operator, goes on until it works, and is then parked no longer', () =>
  world.withRefund(async ({ book, start, end, nowMs }) => {
    const triedAtMs: number[] = [];
    book.before('refundPayment', async () => {
      triedAtMs.push(await nowMs());
    });
    book.fail('refundPayment', TRIES_BEFORE_PARKING + 15);
    await start();
    await end();
    expect(book.parked).toEqual(['Refund the payment: refundPayment: the store is away']);
    expect(book.isParked()).toBe(false);
    expect(looks(book)).toBe(TRIES_BEFORE_PARKING + 16);
    expect(book.money()).toBe('refunded');
    const pausesS = triedAtMs.slice(1).map((atMs, i) => Math.round((atMs - (triedAtMs[i] ?? 0)) / 1_000));
    expect(pausesS.slice(0, TRIES_BEFORE_PARKING - 1)).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // Then it doubles again, to ten minutes.
    expect(pausesS.slice(-6)).toEqual([512, 600, 600, 600, 600, 600]);
  }));

test('it is parked as soon as the tenth try has failed, not only when it works at last', () =>
  world.withRefund(async ({ book, start, sleep, end }) => {
    book.fail('refundPayment', 1_000);
    await start();
    await sleep(HOUR_MS);
    expect(book.isParked()).toBe(true);
    expect(book.givenBackWhile()).toBeUndefined();
    book.fail('refundPayment', 0);
    await end();
    expect(book.isParked()).toBe(false);
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('a refund that is refused for good is parked at once, asked for once, and waits for news however long', () =>
  world.withRefund(async ({ book, start, sleep, endAtOnce, untilLooked }) => {
    book.is('refused');
    await start();
    await sleep(60 * 24 * HOUR_MS);
    expect(looks(book)).toBe(1);
    expect(book.parked).toEqual(['the provider refused the refund']);
    expect(book.isParked()).toBe(true);

    // The operator has changed something, and it is refused once more: it stays in sight.
    await start();
    await untilLooked(2);
    await sleep(HOUR_MS);
    expect(looks(book)).toBe(2);
    expect(book.isParked()).toBe(true);

    book.is('due');
    await start();
    await endAtOnce();
    expect(book.isParked()).toBe(false);
    expect(book.money()).toBe('refunded');
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('a refund that was refused and is accepted later is off the list while it is pending', () =>
  world.withRefund(async ({ book, start, untilLooked, sleep, end }) => {
    book.is('refused');
    await start();
    await untilLooked(1);
    await sleep(HOUR_MS);
    expect(book.isParked()).toBe(true);
    book.is('due-slow');
    await start();
    await untilLooked(2);
    await sleep(HOUR_MS);
    expect(book.isParked()).toBe(false);
    book.is('refunded');
    await end();
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('limit and stock come back however long Redis is away', () =>
  world.withRefund(async ({ book, start, end }) => {
    book.fail('giveBack', 20);
    await start();
    await end();
    expect(looks(book)).toBe(1);
    expect(book.parked).toEqual(['Limit and stock come back: giveBack: the store is away']);
    expect(book.isParked()).toBe(false);
    expect(book.givenBackWhile()).toBe('refunded');
  }));

// Held as a regular activity. During a local one news makes the server refuse the workflow's end, and the
// time-skipping server now and then returns the next task before the SDK has dropped that end.
test('news that comes while limit and stock come back is looked into before the end', () =>
  world.withRefund(async ({ book, start, end, describe }) => {
    const entered = createGate();
    const released = createGate();
    book.before('giveBack', () => {
      if (activityInfo().isLocal) throw new Error('the store is away');
      entered.open();
      return released.opened;
    });
    await start();
    await entered.opened;
    const { runId } = await describe();
    book.is('due');
    await start();
    released.open();
    await end();
    expect((await describe()).runId).toBe(runId);
    expect(looks(book)).toBe(2);
    expect(book.money()).toBe('refunded');
    expect(book.steps.at(-1)).toBe('giveBack');
  }));

test('cancelling the workflow does not keep the money: it is refunded, and the workflow completes', () =>
  world.withRefund(async ({ book, start, cancelWorkflow, end, describe }) => {
    book.fail('refundPayment', 3);
    const refunding = book.holdUp('refundPayment');
    await start();
    await refunding.entered;
    await cancelWorkflow();
    refunding.letGo();
    await end();
    expect((await describe()).status).toBe('COMPLETED');
    expect(book.money()).toBe('refunded');
    expect(book.givenBackWhile()).toBe('refunded');
  }));
