/** Lines about refusals: the first at once, those that follow together, and never one for each. */

import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { createForgeryLog, createShedLog, createTokenLog } from '../../../src/api/http/refusal-logs.ts';
import { openTestLog } from '../test-log.ts';

beforeEach(() => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
});

const shed = (refused: number) => expect.objectContaining({ level: 40, lane: 'purchases', refused });

test('the first refusal is logged at once, and those of the next ten seconds in one line', () => {
  const { log, lines } = openTestLog();
  const onShed = createShedLog('purchases', log);

  for (let i = 0; i < 1_000; i += 1) onShed();
  vi.advanceTimersByTime(9_999);
  expect(lines()).toEqual([shed(1)]);
  vi.advanceTimersByTime(1);

  expect(lines()).toEqual([shed(1), shed(999)]);
});

test('while nothing is refused there is no line, and soon no timer', () => {
  const { log, lines } = openTestLog();
  const onShed = createShedLog('purchases', log);
  expect(vi.getTimerCount()).toBe(0);

  onShed();
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(10_000);

  expect([lines(), vi.getTimerCount()]).toEqual([[shed(1)], 0]);
  onShed();
  expect(lines()).toEqual([shed(1), shed(1)]);
});

test('a thousand bad tokens are a line for each reason, and later one more with the count', () => {
  const { log, lines } = openTestLog();
  const onRefused = createTokenLog(log);
  const noExp = { reason: 'malformed' as const, code: 'FAST_JWT_MISSING_REQUIRED_CLAIM', claim: 'exp' };
  const unsigned = { reason: 'wrong_signature' as const, code: 'FAST_JWT_INVALID_SIGNATURE' };

  for (let i = 0; i < 500; i += 1) {
    onRefused(noExp);
    onRefused(unsigned);
  }
  expect(lines()).toMatchObject([
    { ...noExp, refused: 1 },
    { ...unsigned, refused: 1 },
  ]);
  vi.advanceTimersByTime(10_000);

  expect(lines().slice(2)).toMatchObject([
    { ...noExp, refused: 499 },
    { ...unsigned, refused: 499 },
  ]);
});

test('a line about times has the seconds of the latest token, and each claim its own line', () => {
  const { log, lines } = openTestLog();
  const onRefused = createTokenLog(log);
  const early = { reason: 'not_yet_valid', code: 'ERR', claim: 'nbf' } as const;

  for (let second = 1; second <= 300; second += 1) onRefused({ ...early, offSeconds: second });
  onRefused({ ...early, claim: 'iat', offSeconds: 7 });
  vi.advanceTimersByTime(10_000);

  expect(lines()).toMatchObject([
    { level: 40, claim: 'nbf', offSeconds: 1, refused: 1 },
    { level: 40, claim: 'iat', offSeconds: 7, refused: 1 },
    { level: 40, claim: 'nbf', offSeconds: 300, refused: 299 },
  ]);
});

test('a flood of forged notices is one line in ten seconds, with the latest reason', () => {
  const { log, lines } = openTestLog();
  const report = createForgeryLog(log);

  report('stale');
  report('stale');
  report('no signature');
  expect(lines()).toMatchObject([{ reason: 'stale', refused: 1 }]);
  vi.advanceTimersByTime(10_000);

  expect(lines().slice(1)).toMatchObject([{ reason: 'no signature', refused: 2 }]);
});
