/** The relay's loop: its pauses after failures, and how it stops. */

import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { backoffMs, runLoop } from '../../src/workers/loop.ts';
import { silent } from '../support/stores.ts';

/** Longer than any test, so that a wait for it never ends. */
const FOREVER_MS = 10 * 60_000;

/** A pass that reports when it has begun, and ends when the test lets it. */
function openGates() {
  let begin = () => {};
  let finish = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const finished = new Promise<number>((resolve) => {
    finish = () => resolve(0);
  });
  return { begun, begin: () => begin(), finished, finish: () => finish() };
}

test('pauses after failures double from 100 ms to 5 s, each with a jitter of half', () => {
  for (let failures = 0; failures < 2_000; failures += 1) {
    const ceilingMs = Math.min(100 * 2 ** failures, 5_000);
    const pauseMs = backoffMs(failures);
    expect(pauseMs).toBeGreaterThanOrEqual(ceilingMs / 2);
    expect(pauseMs).toBeLessThanOrEqual(ceilingMs);
  }
  expect(new Set(Array.from({ length: 20 }, () => backoffMs(10))).size).toBeGreaterThan(1);
});

test('a loop goes on after failures, pausing longer each time, and soon again after a success', async () => {
  const stop = new AbortController();
  const failing = [true, true, false, true, false];
  const times: number[] = [];
  const pass = () => {
    times.push(performance.now());
    const fails = failing.shift();
    if (failing.length === 0) stop.abort();
    return fails ? Promise.reject(new Error('away')) : Promise.resolve(0);
  };

  await runLoop('test', pass, { log: silent, signal: stop.signal });

  const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0));
  // Lower bounds alone: a busy machine may be late, never early. A millisecond for the timers' rounding.
  expect(pauses).toHaveLength(4);
  expect(pauses[0]).toBeGreaterThanOrEqual(49);
  expect(pauses[1]).toBeGreaterThanOrEqual(99);
  expect(pauses[3]).toBeGreaterThanOrEqual(49);
});

test('a loop that is to stop finishes the pass under way and begins no other', async () => {
  const stop = new AbortController();
  const { begun, begin, finished, finish } = openGates();
  let passes = 0;
  const pass = () => {
    passes += 1;
    begin();
    return finished;
  };
  let hasEnded = false;

  const loop = runLoop('test', pass, { log: silent, signal: stop.signal }).then(() => (hasEnded = true));
  await begun;
  stop.abort();
  await new Promise(setImmediate);
  expect(hasEnded).toBe(false);
  finish();
  await loop;

  expect(passes).toBe(1);
});

test('a loop that is to stop does not wait for its pause to end', async () => {
  const stop = new AbortController();
  const pass = () => {
    setImmediate(() => stop.abort());
    return Promise.resolve(FOREVER_MS);
  };

  await runLoop('test', pass, { log: silent, signal: stop.signal });

  expect(stop.signal.aborted).toBe(true);
});

test('a loop that was stopped before it began does nothing', async () => {
  let passes = 0;
  const pass = () => Promise.resolve((passes += 1));

  await runLoop('test', pass, { log: silent, signal: AbortSignal.abort() });

  expect(passes).toBe(0);
});

test('many loops that wait for one signal add no listener to it, which would look like a leak', async () => {
  const stop = new AbortController();
  let passes = 0;
  const pass = async (): Promise<number> => {
    passes += 1;
    return FOREVER_MS;
  };
  const loops = Array.from({ length: 20 }, () => runLoop('test', pass, { log: silent, signal: stop.signal }));
  await expect.poll(() => passes).toBe(20);
  expect(getEventListeners(stop.signal, 'abort')).toEqual([]);
  stop.abort();
  await Promise.all(loops);
});
