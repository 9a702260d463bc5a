/** Refunds that the provider accepts and finishes later. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { looks, openRefundWorld, type RefundWorld } from './refund-world.ts';

let world: RefundWorld;
beforeAll(async () => {
  world = await openRefundWorld();
});
afterAll(() => world.close());

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;

test("the provider's news end a pending refund at once", () =>
  world.withRefund(async ({ book, start, untilLooked, endAtOnce }) => {
    book.is('pending');
    await start();
    await untilLooked(1);
    book.is('refunded');
    await start();
    await endAtOnce();
    expect(looks(book)).toBe(2);
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('without any news a pending refund is looked into, at first after seconds, then ever less often', () =>
  world.withRefund(async ({ book, start, sleep, end, nowMs }) => {
    const lookedAtMs: number[] = [];
    book.before('refundPayment', async () => {
      lookedAtMs.push(await nowMs());
    });
    book.is('due-slow');
    await start();
    await sleep(6 * HOUR_MS);
    book.is('refunded');
    await end();
    const pauses = lookedAtMs.slice(1).map((atMs, i) => Math.round((atMs - (lookedAtMs[i] ?? 0)) / 1_000));
    expect(pauses.slice(0, 4)).toEqual([5, 10, 20, 40]);
    expect(pauses.slice(-3)).toEqual([3_600, 3_600, 3_600]);
    expect(book.parked).toEqual([]);
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('a refund that is pending for a day is shown to an operator, and goes on', () =>
  world.withRefund(async ({ book, start, sleep, end }) => {
    book.is('due-slow');
    await start();
    await sleep(DAY_MS - HOUR_MS);
    expect(book.parked).toEqual([]);
    await sleep(3 * HOUR_MS);
    expect(book.parked).toEqual(['the provider has not finished the refund within a day']);
    expect(book.isParked()).toBe(true);
    book.is('refunded');
    await end();
    expect(book.isParked()).toBe(false);
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('a pending refund that fails after all is made anew', () =>
  world.withRefund(async ({ book, start, untilLooked, endAtOnce }) => {
    book.is('due-slow');
    await start();
    await untilLooked(1);
    book.is('due');
    await start();
    await endAtOnce();
    expect(book.money()).toBe('refunded');
  }));

test('a refund that is pending for weeks goes on in a new run, still shown to an operator and woken by news', () =>
  world.withRefund(async ({ book, start, sleep, endAtOnce, describe }) => {
    book.is('due-slow');
    await start();
    const { runId } = await describe();
    await sleep(14 * DAY_MS);
    expect((await describe()).runId).not.toBe(runId);
    expect(book.parked).toHaveLength(1);
    expect(book.isParked()).toBe(true);
    book.is('refunded');
    await start();
    await endAtOnce();
    expect(book.isParked()).toBe(false);
    // As often as before: a new run does not begin with seconds again.
    expect(looks(book)).toBeLessThan(14 * 24 + 20);
    expect(book.givenBackWhile()).toBe('refunded');
  }));

test('cancelling the workflow does not end a pending refund', () =>
  world.withRefund(async ({ book, start, untilLooked, cancelWorkflow, endAtOnce, describe }) => {
    book.is('due-slow');
    await start();
    await untilLooked(1);
    await cancelWorkflow();
    book.is('refunded');
    await start();
    await endAtOnce();
    expect((await describe()).status).toBe('COMPLETED');
    expect(book.givenBackWhile()).toBe('refunded');
  }));
