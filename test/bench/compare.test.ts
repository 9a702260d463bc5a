/** The comparison's own arithmetic: medians, ratios, verdicts, turns, and the time that is left. */

import { expect, test } from 'vitest';
import { judge, median, mediansOf } from '../../bench/compare/judgement.ts';
import type { Figures } from '../../bench/compare/part.ts';
import { expectSeconds, stepText } from '../../bench/compare/progress.ts';
import { mergeResults, type PartResult } from '../../bench/compare/results.ts';
import { measureRounds, orderOf } from '../../bench/compare/rounds.ts';
import { LIFTED, liftedWindowMs, takeLifted } from '../../bench/lifted-bound.ts';

const RATE = { key: 'rate', label: 'accepted', unit: '/s', digits: 0 };

/** Ours reaches 0.8 of the limit, and is to reach 0.75. */
function buildPart(overrides: Partial<PartResult> = {}): PartResult {
  return {
    name: 'accept',
    title: 'Accepting orders',
    about: 'What it is.',
    columns: [RATE],
    charted: 'rate',
    targets: [{ text: 'ours of the limit', figure: 'rate', of: 'ours', against: ['limit'], atLeast: 0.75 }],
    contestants: [
      { name: 'ours', role: 'ours' },
      { name: 'limit', role: 'limit' },
    ],
    notes: ['A note.'],
    rounds: 1,
    measuredAt: '2026-11-22T10:00:00.000Z',
    commit: 'abc123',
    machine: { cpu: 'A processor', cores: 2, memoryGb: 8, os: 'An OS' },
    versions: { Node: '20.19.0' },
    measurements: [
      { round: 1, contestant: 'ours', figures: { rate: 800 }, seconds: 2 },
      { round: 1, contestant: 'limit', figures: { rate: 1_000 }, seconds: 2 },
    ],
    ...overrides,
  };
}

test('a median is the middle value, or the mean of the two in the middle', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([7])).toBe(7);
});

test('each contestant has the median of each figure', () => {
  const rates = [10, 30, 20];
  const measurements = rates.map((rate, i) => ({
    round: i + 1,
    contestant: 'ours',
    figures: { rate, p99: -rate },
    seconds: 1,
  }));
  expect(Object.fromEntries(mediansOf(measurements))).toEqual({ ours: { rate: 20, p99: -20 } });
});

const medians = new Map<string, Figures>([
  ['ours', { rate: 800, p99: 12 }],
  ['slow', { rate: 400, p99: 30 }],
  ['fast', { rate: 1_000, p99: 10 }],
]);

test.each([
  [
    { atLeast: 0.75, against: ['fast'] },
    { value: 0.8, against: 'fast', goal: '≥ 0.75', verdict: 'met' },
  ],
  [
    { atLeast: 1, against: ['slow', 'fast'] },
    { value: 0.8, against: 'fast', verdict: 'not met' },
  ],
  [
    { figure: 'p99', atMost: 1, against: ['slow', 'fast'] },
    { value: 1.2, against: 'fast', verdict: 'not met' },
  ],
  [
    { figure: 'p99', atMost: 100 },
    { value: 12, against: null, goal: '≤ 100', verdict: 'met' },
  ],
  [{ atLeast: 0.8, against: ['fast'] }, { verdict: 'met' }],
  [
    { atLeast: 1, against: ['slow', 'absent'] },
    { value: null, verdict: 'not measured' },
  ],
  [
    { of: 'absent', atLeast: 1 },
    { value: null, verdict: 'not measured' },
  ],
])('the target %j is judged %j', (target, judgement) => {
  expect(judge({ text: 'a target', figure: 'rate', of: 'ours', ...target }, medians)).toMatchObject(
    judgement,
  );
});

test('no contestant always goes first or last', () => {
  expect([1, 2, 3].map((round) => orderOf(['a', 'b', 'c'], round, 3).join(''))).toEqual([
    'abc',
    'bca',
    'cab',
  ]);
  expect([1, 2, 3].map((round) => orderOf(['a', 'b'], round, 3).join(''))).toEqual(['ab', 'ba', 'ab']);
  expect([1, 2, 3].map((round) => orderOf(['a', 'b', 'c', 'd', 'e', 'f', 'g'], round, 3)[0])).toEqual([
    'a',
    'c',
    'e',
  ]);
});

test('the contestants take turns, and each measurement is kept', async () => {
  const contestants = [1, 2].map((rate) => ({
    name: `at ${rate}`,
    role: 'peer' as const,
    measure: () => Promise.resolve({ rate }),
  }));
  const begun: string[] = [];
  const measurements = await measureRounds({
    contestants,
    columns: [RATE],
    rounds: 2,
    watcher: { began: ({ contestant }) => begun.push(contestant), ended: () => {} },
  });
  expect(begun).toEqual(['at 1', 'at 2', 'at 2', 'at 1']);
  expect(measurements.map(({ round, figures }) => [round, figures['rate']])).toEqual([
    [1, 1],
    [1, 2],
    [2, 2],
    [2, 1],
  ]);
});

test.each([
  ['that throws', () => Promise.reject(new Error('an order is missing'))],
  ['that lacks a figure', () => Promise.resolve({ p99: 1 })],
])('a measurement %s ends the part and names its contestant and round', async (_, measure) => {
  const running = measureRounds({
    contestants: [{ name: 'ours', role: 'ours', measure }],
    columns: [RATE],
    rounds: 1,
    watcher: { began: () => {}, ended: () => {} },
  });
  await expect(running).rejects.toThrow('ours, round 1');
});

test('a run of one part replaces this part alone', () => {
  const earlier = {
    parts: [buildPart({ name: 'poll' }), buildPart({ commit: 'old' }), buildPart({ name: 'gone' })],
  };
  const merged = mergeResults(earlier, [buildPart({ commit: 'new' })], ['accept', 'sold-out', 'poll']);
  expect(merged.parts.map(({ name, commit }) => [name, commit])).toEqual([
    ['accept', 'new'],
    ['poll', 'abc123'],
  ]);
});

test('whatever opens a sale beyond the bound is remembered, once', () => {
  // Files share a process: another may have lifted it.
  takeLifted();
  expect(liftedWindowMs()).toBeGreaterThan(30 * 60_000);
  expect(takeLifted()).toContain('backlog_full');
  expect(liftedWindowMs()).toBeGreaterThan(30 * 60_000);
  expect([takeLifted(), takeLifted()]).toEqual([LIFTED, undefined]);
});

test('the rest of a run is estimated from this run, and before that from an earlier one', () => {
  const earlier = [
    { contestant: 'ours', seconds: 4 },
    { contestant: 'limit', seconds: 6 },
  ];
  const options = { contestants: ['ours', 'limit'], rounds: 2, earlier };
  expect(expectSeconds({ ...options, measured: [] }).rest()).toBe(20);
  const measured = [{ round: 1, contestant: 'ours', figures: {}, seconds: 10 }];
  expect(expectSeconds({ ...options, measured }).rest()).toBe(22);
  expect(expectSeconds({ ...options, measured: [], earlier: [] }).rest()).toBeUndefined();
  const step = { part: 'accept', round: 2, rounds: 3, contestant: 'ours' };
  expect(stepText({ ...step, expectedSeconds: { step: 8, rest: 90 } }, 4)).toBe(
    'accept, round 2 of 3: ours (4 s of about 8 s; about 01:26 left)',
  );
  expect(stepText({ ...step, expectedSeconds: undefined }, 4)).toBe('accept, round 2 of 3: ours (4 s)');
});
