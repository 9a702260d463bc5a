/** The gate to the engine: it admits orders up to the budget, and closes for a while after a failure. */

import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createEngineBudget } from '../../src/redis/budget.ts';
import { createEngineGate } from '../../src/workers/starter.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

/** After a first failure. */
const LONGEST_FIRST_PAUSE_MS = 100;
/** So long without an answer is a stall. */
const STALL_MS = 250;

let stores: TestStores;

beforeAll(async () => {
  stores = await openTestStores();
});
// The clock stands still: however slow the machine is, a pause ends when the test says so.
beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'] }));
afterEach(() => void vi.useRealTimers());
const later = (ms: number) => vi.setSystemTime(Date.now() + ms);

/** A gate with a free budget of this many slots. */
async function openGate(slots: number) {
  await stores.redis.flushall();
  const budget = createEngineBudget(stores.redis, slots, silent);
  return { budget, gate: createEngineGate(budget, silent) };
}

const self = (orderNo: string) => orderNo;

/** What a loop does with the gate: asks which orders may pass, then starts those. */
async function passThrough(
  gate: ReturnType<typeof createEngineGate>,
  orderNos: readonly string[],
  start: (orderNo: string) => Promise<void>,
): Promise<string[]> {
  return gate.run(await gate.admit(orderNos, self), self, start);
}
const take = () => Promise.resolve();
const refuse = () => Promise.reject(new Error('14 UNAVAILABLE'));

test('the gate passes as many as there is room for, in their order', async () => {
  const { gate } = await openGate(2);
  const handed: string[] = [];
  const hand = (orderNo: string) => {
    handed.push(orderNo);
    return take();
  };

  expect(await gate.room()).toBe(2);
  expect(await passThrough(gate, ['a', 'b', 'c'], hand)).toEqual(['a', 'b']);

  expect(handed).toEqual(['a', 'b']);
  expect(await gate.room()).toBe(0);
  expect(await passThrough(gate, ['c'], hand)).toEqual([]);
});

test('after a failure the gate keeps off for a while, and opens again by itself', async () => {
  const { gate } = await openGate(5);
  let calls = 0;
  const fail = () => {
    calls += 1;
    return refuse();
  };

  expect(await passThrough(gate, ['a', 'b'], fail)).toEqual([]);
  expect(await gate.room()).toBe(0);
  expect(await passThrough(gate, ['a', 'b'], fail)).toEqual([]);
  expect(calls).toBe(2);

  later(LONGEST_FIRST_PAUSE_MS);
  expect(await passThrough(gate, ['a'], take)).toEqual(['a']);
});

test('slots of orders that Temporal did not take go back, those of the others stay', async () => {
  const { gate, budget } = await openGate(5);

  const passed = await passThrough(gate, ['a', 'b', 'c'], (orderNo) => (orderNo === 'b' ? refuse() : take()));

  expect(passed).toEqual(['a', 'c']);
  expect(await budget.room()).toBe(3);
});

test('slots of orders that are not to be started after all go back', async () => {
  const { gate, budget } = await openGate(5);
  const admitted = await gate.admit(['a', 'b'], self);

  await gate.release(['b'], self);

  expect(admitted).toEqual(['a', 'b']);
  expect(await budget.room()).toBe(4);
});

test('while a call is not answered in time nothing more is admitted, and afterwards all is as before', async () => {
  const { gate } = await openGate(5);
  let answer: (() => void) | undefined;
  const running = passThrough(gate, ['a'], () => new Promise((resolve) => (answer = resolve)));

  await waitFor('the call', () => answer !== undefined);
  expect(await gate.room()).toBeGreaterThan(0);
  later(STALL_MS);
  expect(await gate.room()).toBe(0);
  expect(await gate.admit(['b'], self)).toEqual([]);
  answer?.();
  await running;

  expect(await gate.admit(['b'], self)).toEqual(['b']);
});

test('after a failure one order goes ahead as a probe, and its success opens the gate for all', async () => {
  const { gate } = await openGate(5);
  await passThrough(gate, ['a', 'b'], refuse);
  later(LONGEST_FIRST_PAUSE_MS);

  expect(await gate.room()).toBe(1);
  expect(await gate.admit(['a', 'b', 'c'], self)).toEqual(['a']);
  expect(await gate.run(['a'], self, take)).toEqual(['a']);

  expect(await gate.admit(['b', 'c'], self)).toEqual(['b', 'c']);
});

test('starts take a quarter of the slots, and each order that is at work takes one of them from the starts', async () => {
  const { gate, budget } = await openGate(16);
  expect(await gate.room('start')).toBe(4);

  await budget.acquire(['cancelled-1', 'cancelled-2']);

  expect(await gate.admit(['a', 'b', 'c'], self, 'start')).toEqual(['a', 'b']);
  expect(await gate.room('start')).toBe(0);
  expect(await gate.room()).toBe(12);
});

test('above a quarter of the slots nothing is started, and the others stay for what somebody waits for', async () => {
  const { gate, budget } = await openGate(8);
  await budget.acquire(['paid', 'cancelled']);

  expect(await gate.admit(['a'], self, 'start')).toEqual([]);
  expect(await gate.admit(['b', 'c', 'd'], self)).toEqual(['b', 'c', 'd']);
});
