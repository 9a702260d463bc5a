/** The board shows what could be read, each part by itself, and nothing that is old. */

import { expect, onTestFinished, test } from 'vitest';
import { showBoard } from '../../src/api/gauges.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createStatusBoard, statusReaders } from '../../src/status/board.ts';
import type { Stores } from '../../src/stores/open.ts';
import { samplesOf } from '../api/metrics.ts';
import { createTestClock } from '../support/clock.ts';
import { partly } from '../support/partly.ts';
import { waitFor } from '../support/wait.ts';

const nothing = { waiting: 0, oldestMs: null };
const worker = {
  workerId: 'a',
  host: 'h',
  pid: 1,
  build: 'v1',
  upMs: 9,
  url: 'http://h',
  hanging: [],
  silentMs: 5,
};

const WELL = {
  redisTakesWrites: async () => true,
  mysqlTakesWrites: async () => true,
  outboxes: async () => [
    { saleId: 'summer', waiting: 3, oldestAtMs: 0, oldestMs: 1_500 },
    ...Array.from({ length: 20 }, (_, i) => ({
      saleId: `s${i}`,
      waiting: 1,
      oldestAtMs: 0,
      oldestMs: 10,
    })),
  ],
  slots: async () => 4,
  workers: async () => [worker, { ...worker, workerId: 'b', silentMs: 60_000 }],
  backlog: async () => ({ notBegun: { waiting: 2, oldestMs: 7_000 }, payments: nothing, refunds: 0 }),
  parked: async () => [{ kind: 'order' as const, waiting: 1, oldestMs: 9 }],
  drift: async () => null,
  memory: async () => [{ node: 'redis:6379', usedBytes: 5, maxBytes: 9, isBounded: true }],
  events: async () => ({ waiting: 0, consumers: [] }),
  endpoints: async () => [],
  api: async () => ({ tokens: {}, clocks: [] }),
  saleStocks: async () => [],
  saleTotals: async () => [],
};

test('all that was read is in the metrics, and what is not read any more is absent', async () => {
  const clock = createTestClock();
  const stop = new AbortController();
  let isAway = false;
  let release = (): void => {};
  const hung = new Promise<never>((_, reject) => (release = () => reject(new Error('given up'))));
  const board = createStatusBoard(
    {
      ...WELL,
      redisTakesWrites: () => (isAway ? Promise.reject(new Error('away')) : WELL.redisTakesWrites()),
      slots: () => (isAway ? Promise.reject(new Error('away')) : WELL.slots()),
      outboxes: () => (isAway ? hung : WELL.outboxes()),
    },
    clock,
  );
  const metrics = createMetrics();
  showBoard(metrics, board);
  expect(await samplesOf(metrics, 'holdfast_workers')).toEqual([]);
  expect(await samplesOf(metrics, 'holdfast_store_up')).toEqual([]);
  expect(await samplesOf(metrics, 'holdfast_outbox_oldest_seconds')).toEqual([]);

  await board.look();
  const shown = await samplesOf(metrics, 'holdfast_');
  for (const line of [
    'holdfast_outbox_orders{sale="summer"} 3',
    'holdfast_outbox_orders{sale="others"} 1',
    'holdfast_outbox_oldest_seconds 1.5',
    'holdfast_engine_slots_taken 4',
    'holdfast_redis_memory_bytes{node="redis:6379"} 5',
    'holdfast_redis_memory_max_bytes{node="redis:6379"} 9',
    'holdfast_orders_not_begun 2',
    'holdfast_orders_not_begun_oldest_seconds 7',
    'holdfast_payments_waiting 0',
    'holdfast_refunds_due 0',
    'holdfast_parked{kind="order"} 1',
    'holdfast_parked{kind="sale"} 0',
    'holdfast_workers{state="alive",build="v1"} 1',
    'holdfast_workers{state="silent",build="v1"} 1',
    'holdfast_workers{state="hanging",build=""} 0',
    'holdfast_store_up{store="redis"} 1',
    'holdfast_store_up{store="mysql"} 1',
  ])
    expect(shown).toContain(line);

  // One read hangs and one fails: both are old by now, and the others are not.
  isAway = true;
  clock.pass(6_000);
  const running = board.run(stop.signal);
  onTestFinished(async () => {
    stop.abort();
    release();
    await running;
  });
  await waitFor('a read of the others', () => board.current('parked'));
  const away = await samplesOf(metrics, 'holdfast_');
  expect(away.filter((line) => /^holdfast_(?:outbox|engine)/.test(line))).toEqual([]);
  expect(away).toContain('holdfast_store_up{store="redis"} 0');
  expect(away).toContain('holdfast_store_up{store="mysql"} 1');
  expect(away).toContain('holdfast_parked{kind="order"} 1');
});

test('a store that takes no writes counts as away in the metrics', async () => {
  const board = createStatusBoard({ ...WELL, redisTakesWrites: async () => false });
  const metrics = createMetrics();
  showBoard(metrics, board);
  await board.look();
  expect(await samplesOf(metrics, 'holdfast_store_up')).toEqual([
    'holdfast_store_up{store="redis"} 0',
    'holdfast_store_up{store="mysql"} 1',
  ]);
});

test('workers are those that either store tells, and unknown while neither does', async () => {
  const away = () => Promise.reject(new Error('away'));
  const list = (silentMs: number) => async () => [{ ...worker, silentMs }];
  const readWorkers = (redis: () => Promise<(typeof worker)[]>, mysql: () => Promise<(typeof worker)[]>) =>
    statusReaders(
      async () => partly<Stores>({ redisStatus: { listWorkers: redis } }),
      partly<Stores>({ mysqlStatus: { listWorkers: mysql } }),
    ).workers();
  expect(await readWorkers(list(30), list(10))).toEqual([{ ...worker, silentMs: 10 }]);
  expect(await readWorkers(away, list(10))).toEqual([{ ...worker, silentMs: 10 }]);
  expect(await readWorkers(list(30), away)).toEqual([{ ...worker, silentMs: 30 }]);
  await expect(readWorkers(away, away)).rejects.toThrow('neither store');
  // One that is frozen does not even refuse.
  const frozen = () => new Promise<never>(() => {});
  expect(await readWorkers(frozen, list(10))).toEqual([{ ...worker, silentMs: 10 }]);
  await expect(readWorkers(frozen, frozen)).rejects.toThrow('neither store');
});
