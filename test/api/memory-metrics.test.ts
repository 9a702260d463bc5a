/** How full Redis is shows in the metrics of each API, also without a bound, and not while it is away. */

import { afterEach, beforeAll, expect, test } from 'vitest';
import { showBoard } from '../../src/api/gauges.ts';
import { SYSTEM_CLOCK } from '../../src/clock.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createStatusBoard, statusReaders, type StatusReaders } from '../../src/status/board.ts';
import { createTestClock } from '../support/clock.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { samplesOf } from './metrics.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterEach(() => stores.redis.config('SET', 'maxmemory', '0'));

function show(instead: Partial<StatusReaders> = {}, clock = SYSTEM_CLOCK) {
  const metrics = createMetrics();
  const readers = { ...statusReaders(async () => stores, stores), ...instead };
  const board = createStatusBoard(readers, clock);
  showBoard(metrics, board);
  /** The bytes by metric and node. */
  async function read(): Promise<Map<string, number>> {
    const lines = await samplesOf(metrics, 'holdfast_redis_memory_');
    return new Map(lines.map((line) => [line.split(' ')[0] ?? '', Number(line.split(' ')[1])]));
  }
  return { look: board.look, read };
}

async function infoOf(name: string): Promise<number> {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await stores.redis.info('memory'))?.[1]);
}

test('the memory that Redis uses is shown beside its maxmemory', async () => {
  const { look, read } = show();
  await stores.redis.config('SET', 'maxmemory', '123456789');
  await look();

  const shown = await read();
  expect([...shown.keys()]).toEqual([
    expect.stringMatching(/^holdfast_redis_memory_bytes\{node="127\.0\.0\.1:\d+"\}$/),
    expect.stringMatching(/^holdfast_redis_memory_max_bytes\{node="127\.0\.0\.1:\d+"\}$/),
  ]);
  const [used = 0, max] = shown.values();
  expect(max).toBe(123_456_789);
  const now = await infoOf('used_memory');
  expect(used).toBeGreaterThan(now / 2);
  expect(used).toBeLessThan(now * 2);
});

test("a Redis without maxmemory is compared with its machine's memory", async () => {
  const { look, read } = show();
  await look();

  const [, max] = (await read()).values();
  expect(max).toBe(await infoOf('total_system_memory'));
});

test('a Redis that says no bound has none in the metrics', async () => {
  const node = { node: 'a:1', usedBytes: 5, maxBytes: null, isBounded: false };
  const { look, read } = show({ memory: async () => [node] });
  await look();

  expect([...(await read()).keys()]).toEqual(['holdfast_redis_memory_bytes{node="a:1"}']);
});

test('the memory of a Redis that has stopped answering is shown no more', async () => {
  const clock = createTestClock();
  let isAway = false;
  const readers = statusReaders(async () => stores, stores);
  const memory: StatusReaders['memory'] = async () => {
    if (isAway) throw new Error('away');
    return readers.memory();
  };
  const { look, read } = show({ memory }, clock);
  await look();
  expect((await read()).size).toBe(2);

  isAway = true;
  clock.pass(6_000);
  await look();
  expect((await read()).size).toBe(0);
});
