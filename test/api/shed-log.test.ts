import { pino } from 'pino';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { z } from 'zod';
import { createShedLog } from '../../src/api/shed-log.ts';

beforeEach(() => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
});

const shedLine = z.object({ level: z.number(), lane: z.string(), refused: z.number() });

/** What a lane calls, and the numbers in the lines that came of it. */
function openLog() {
  const told: unknown[] = [];
  const write = (line: string): void => {
    told.push(shedLine.parse(JSON.parse(line)));
  };
  return { onShed: createShedLog('purchases', pino({}, { write })), told };
}

const line = (refused: number) => ({ level: 40, lane: 'purchases', refused });

test('the first refusal is told at once, and those of the next ten seconds in one line', () => {
  const { onShed, told } = openLog();

  for (let i = 0; i < 1_000; i += 1) onShed();
  vi.advanceTimersByTime(9_999);
  expect(told).toEqual([line(1)]);
  vi.advanceTimersByTime(1);

  expect(told).toEqual([line(1), line(999)]);
});

test('while nothing is refused there is no line, and soon no timer', () => {
  const { onShed, told } = openLog();
  expect(vi.getTimerCount()).toBe(0);

  onShed();
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(10_000);

  expect([told, vi.getTimerCount()]).toEqual([[line(1)], 0]);
  onShed();
  expect(told).toEqual([line(1), line(1)]);
});
