/** Which workers live: what belongs to the others is taken over, so a doubt means that nobody is dead. */

import { expect, test } from 'vitest';
import type { SeenWorker } from '../../src/status/status.ts';
import { createLivingWorkers } from '../../src/workers/living-workers.ts';

const START_MS = 1_795_000_000_000;

const seen = (workerId: string, silentMs: number): SeenWorker => ({
  workerId,
  host: 'h',
  pid: 1,
  build: '',
  upMs: 60_000,
  url: '',
  hanging: [],
  silentMs,
});

/** Beats are read at these seconds of Redis' time, and of this process'. */
function readAt(...seconds: number[]) {
  let nowMs = 0;
  const living = createLivingWorkers(() => nowMs);
  const read = (second: number, workers = [seen('a', 100), seen('b', second * 1_000)]): void => {
    nowMs = second * 1_000;
    living.read(START_MS + second * 1_000, workers);
  };
  for (const second of seconds) read(second);
  return { living, read, wait: (ms: number) => void (nowMs += ms) };
}

test('a worker that is silent for five seconds does not live, once Redis has answered for as long', () => {
  const { living, read } = readAt(0, 1, 2, 3, 4);
  expect(living.list()).toBeUndefined();
  read(5);
  expect(living.list()).toEqual(['a']);
});

test('while Redis was away nobody is silent, until it has answered for five seconds again', () => {
  const { living, read } = readAt(0, 1, 2, 3, 4, 5, 15);
  expect(living.list()).toBeUndefined();
  for (const second of [16, 17, 18, 19]) read(second);
  expect(living.list()).toBeUndefined();
  read(20);
  expect(living.list()).toEqual(['a']);
});

test('where the clock of Redis is set back, nobody is silent for five seconds', () => {
  const { living, read } = readAt(10, 11, 12, 13, 14, 15);
  expect(living.list()).toEqual(['a']);
  read(3);
  expect(living.list()).toBeUndefined();
});

test('what this process read before it was frozen says nothing', () => {
  const { living, wait } = readAt(0, 1, 2, 3, 4, 5);
  wait(3_000);
  expect(living.list()).toBeUndefined();
});
