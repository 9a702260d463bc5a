/** The beats of workers in both stores, and what their silence means. */

import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WORKERS_KEY } from '../../src/redis/keys.ts';
import { newestOf, stateOf, withoutReplaced, type WorkerBeat } from '../../src/status/status.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(async () => {
  await stores.redis.del(WORKERS_KEY);
  await stores.pool.query('DELETE FROM worker_beats');
});

const worker = (workerId: string): WorkerBeat => ({
  workerId,
  host: 'shop-1',
  pid: 7,
  build: 'v1',
  upMs: 1_000,
  url: 'http://127.0.0.1:9464',
  hanging: [],
});

describe.each(['redisStatus', 'mysqlStatus'] as const)('%s', (name) => {
  test('shows each worker as it last told, with its silence', async () => {
    await stores[name].beat(worker('b'));
    await stores[name].beat(worker('a'));
    await stores[name].beat({ ...worker('a'), hanging: ['events'] });
    const seen = newestOf(await stores[name].listWorkers());
    expect(seen).toEqual([
      { ...worker('a'), hanging: ['events'], silentMs: expect.any(Number) },
      { ...worker('b'), silentMs: expect.any(Number) },
    ]);
    expect(seen.map(stateOf)).toEqual(['hanging', 'alive']);
  });

  test('forgets one that stops, also when it says so twice', async () => {
    await stores[name].beat(worker('a'));
    await stores[name].beat(worker('b'));
    await stores[name].leave('a');
    await stores[name].leave('a');
    expect((await stores[name].listWorkers()).map(({ workerId }) => workerId)).toEqual(['b']);
  });
});

test('a worker is silent after ten seconds, and forgotten after five minutes; one of another form hides none', async () => {
  for (const [workerId, agoMs] of [
    ['frozen', 11_000],
    ['gone', 301_000],
  ] as const) {
    const [seconds] = await stores.redis.time();
    const text = `${Number(seconds) * 1_000 - agoMs} ${JSON.stringify(worker(workerId))}`;
    await stores.redis.hset(WORKERS_KEY, workerId, text);
    await stores.pool.query(
      'INSERT INTO worker_beats (worker_id, beat, seen_at) VALUES (?, ?, NOW(3) - INTERVAL ? SECOND)',
      [workerId, JSON.stringify(worker(workerId)), agoMs / 1_000],
    );
  }
  await stores.redis.hset(WORKERS_KEY, 'newer', `${Date.now()} {"other":"form"}`);
  await stores.pool.query(
    `INSERT INTO worker_beats (worker_id, beat, seen_at) VALUES ('newer', '{"other":"form"}', NOW(3))`,
  );
  for (const name of ['redisStatus', 'mysqlStatus'] as const) {
    expect((await stores[name].listWorkers()).map(({ workerId }) => workerId)).toEqual(['frozen']);
    await stores[name].beat(worker('here'));
    const seen = newestOf(await stores[name].listWorkers());
    expect(seen.map((each) => [each.workerId, stateOf(each)])).toEqual([
      ['frozen', 'silent'],
      ['here', 'alive'],
    ]);
  }
});

test('of two stores the one counts that has heard of a worker last', () => {
  const seen = [
    { ...worker('a'), silentMs: 30_000 },
    { ...worker('b'), silentMs: 100 },
    { ...worker('a'), silentMs: 200 },
  ];
  expect(newestOf(seen).map(({ silentMs }) => silentMs)).toEqual([200, 100]);
});

describe('a silent worker', () => {
  const seen = (workerId: string, silentMs: number, upMs: number) => ({
    ...worker(workerId),
    silentMs,
    upMs,
  });
  const shown = (...workers: ReturnType<typeof seen>[]) =>
    withoutReplaced(workers).map(({ workerId }) => workerId);

  test('is forgotten within a minute once another has begun after it', () => {
    expect(shown(seen('killed', 50_000, 9_000), seen('next', 100, 45_000))).toEqual(['next']);
    expect(shown(seen('killed', 30_000, 9_000), seen('next', 100, 25_000))).toEqual(['killed', 'next']);
  });

  test('is shown where all others were there before it fell silent', () => {
    expect(shown(seen('killed', 50_000, 9_000), seen('other', 100, 80_000))).toEqual(['killed', 'other']);
  });

  test('is replaced by one other: of two one is shown', () => {
    expect(
      shown(seen('killed', 50_000, 9_000), seen('frozen', 60_000, 9_000), seen('next', 100, 40_000)),
    ).toEqual(['frozen', 'next']);
  });
});
