/** The sums of docs/capacity.md, and its count of Temporal's actions. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { countActions, FATES, type HistoryEvent } from '../../bench/capacity/actions.ts';
import {
  begunShareOf,
  byProcess,
  needOf,
  type Assumptions,
  type OrderCosts,
} from '../../bench/capacity/needs.ts';
import { mediansOf } from '../../bench/compare/judgement.ts';
import { readResults } from '../../bench/compare/results.ts';

const capacity = readResults(fileURLToPath(new URL('../../docs/benchmarks/capacity.json', import.meta.url)));

const ASSUMED: Assumptions = {
  paidShare: 0.5,
  fullest: 0.7,
  minutesADay: 60,
  daysAMonth: 30,
  windowSeconds: 1_800,
  beginWithin: 1 / 3,
  startShare: 1 / 2,
  cloudActionsPerSecond: 500,
  mysqlCores: 2,
};

/** Of round figures. */
const BYTES = { redis: 1_000, mysql: 4_000, redo: 8_000, binlog: 2_000, aof: 1_000 };
const COSTS: OrderCosts = {
  cpuUs: {
    paid: byProcess(() => 10_000),
    begun: byProcess(() => 5_000),
    neverBegun: byProcess(() => 200),
  },
  actions: { paid: 5, begun: 4, neverBegun: 0 },
  reconcileActions: 3_600,
  bytes: { paid: { ...BYTES, mysql: 8_000 }, neverBegun: BYTES },
  livesPerSecond: 40,
  slotMs: { begun: 50, paid: 100 },
};

test('a sale needs what its orders take, by the share of each fate', () => {
  // 100 orders a second, of which 50 are paid.
  const need = needOf(6_000, COSTS, ASSUMED);
  expect(need.cores.redis).toBeCloseTo(50 * 0.01 + 50 * 0.0002);
  expect(need.apis).toBe(2);
  expect(needOf(60_000, COSTS, ASSUMED).workers).toBe(Math.ceil(5.1 / 0.7));
  expect(need.mysqlGbADay).toBeCloseTo((360_000 * 6_000) / 1e9);
  expect(need.redisGb).toBeCloseTo((2 * 360_000 * 1_000) / 1e9);
  expect(need.logMbPerSecond).toBeCloseTo((100 * 11_000) / 1e6);
  expect(need.actionsPerSecond).toEqual({ paidAlone: 251, allBegun: 451 });
  expect(need.millionActionsAMonth.paidAlone).toBeCloseTo((30 * (360_000 * 2.5 + 24 * 3_600)) / 1e6);
});

test('the engine budget holds what half of it must begin, and is never less than by default', () => {
  expect(needOf(60_000, COSTS, ASSUMED).engineBudget).toBe(2 * 1_000 * 0.05);
  expect(needOf(60, COSTS, ASSUMED).engineBudget).toBe(40);
});

test('what is fullest breaks first', () => {
  const { load } = needOf(6_000, COSTS, ASSUMED);
  expect(load[0]).toEqual({ what: 'the engine that was measured', share: 50 / 40 });
  expect(load.map(({ share }) => share)).toEqual(load.map(({ share }) => share).toSorted((a, b) => b - a));
});

test.each([
  [200, 1],
  [75, 0.75],
  [25, 0.25],
])('an engine of %s lives a second begins as many orders as it has room for', (perSecond, share) => {
  expect(begunShareOf({ perSecond, paid: 1, begun: 1 }, 1_000, 10, 0.5)).toBe(share);
});

test.each([
  ['paid-after-a-start-with-its-state', FATES.paid],
  ['begun-again-with-money', FATES.signalled],
  ['refund-at-once', FATES.refund],
])('the recorded history "%s" has the actions that were counted live: %s', (name, fate) => {
  const counted = mediansOf(capacity.parts.find((part) => part.name === 'actions')?.measurements ?? []);
  expect(countActions(readEvents(name))).toBe(counted.get(fate)?.['actions']);
});

test('a try of an activity is an action, and so are all local activities of one workflow task', () => {
  // Two activities, of which one had three tries more, and a task whose local activity was tried again.
  const started = { workflowExecutionStartedEventAttributes: {} };
  const task = { workflowTaskCompletedEventAttributes: {} };
  const marker = { markerRecordedEventAttributes: {} };
  expect(countActions([started, task, marker, marker, task, marker])).toBe(3);
  const retried = { meteringMetadata: { nonfirstLocalActivityExecutionAttempts: 2 } };
  expect(countActions([started, { workflowTaskCompletedEventAttributes: retried }, marker])).toBe(4);
  const scheduled = { activityTaskScheduledEventAttributes: {} };
  expect(countActions([started, scheduled, { activityTaskStartedEventAttributes: { attempt: 4 } }])).toBe(5);
});

test('a signal with start is one action', () => {
  const events: HistoryEvent[] = [
    { workflowExecutionStartedEventAttributes: {} },
    { workflowExecutionSignaledEventAttributes: {} },
  ];
  expect(countActions(events)).toBe(1);
  const signalled = { workflowExecutionSignaledEventAttributes: {} };
  expect(countActions([...events, signalled])).toBe(2);
});

function readEvents(name: string): HistoryEvent[] {
  const file = new URL(`../replay/histories/${name}.json`, import.meta.url);
  const { events }: { events: HistoryEvent[] } = JSON.parse(readFileSync(file, 'utf8'));
  return events;
}
