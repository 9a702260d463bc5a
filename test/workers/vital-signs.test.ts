/** A worker answers probes, says which loop hangs, and beats in each store for itself. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { createWorkerMetrics, type WorkerMetrics } from '../../src/metrics.ts';
import { openProbe } from '../../src/probe.ts';
import { createLoopWatch, runLoop } from '../../src/workers/loop.ts';
import { runBeats } from '../../src/workers/vital-signs.ts';
import { createTestClock } from '../support/clock.ts';
import { silent, openTestStores, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

async function ask(url: string): Promise<[number, string]> {
  const response = await fetch(url);
  return [response.status, await response.text()];
}

test('the probe is well while a store is away, and not while a loop hangs', async () => {
  const metrics = createWorkerMetrics();
  const watch = createLoopWatch(metrics.passFailed, 50);
  const stop = new AbortController();
  let release = (): void => {};
  const gate = new Promise<number>((resolve) => (release = () => resolve(0)));
  const log = silent;
  const probe = await openProbe({ host: '127.0.0.1', port: 0, hanging: watch.hanging, metrics });
  onTestFinished(() => probe.close());
  const failing = runLoop('push', () => Promise.reject(new Error('away')), {
    log,
    signal: stop.signal,
    watch,
  });
  await waitFor('a failed pass', async () =>
    (await ask(`${probe.url}/metrics`))[1].includes('holdfast_loop_failures_total{loop="push"}'),
  );
  expect(await ask(`${probe.url}/healthz`)).toEqual([200, '{"status":"ok"}']);

  const hanging = runLoop('events', () => gate, { log, signal: stop.signal, watch });
  const unwell = await waitFor('the hanging loop', async () => {
    const answer = await ask(`${probe.url}/healthz`);
    return answer[0] === 503 && answer;
  });
  expect(unwell).toEqual([503, '{"status":"hanging","loops":["events"]}']);
  stop.abort();
  release();
  await Promise.all([failing, hanging]);
  expect(await ask(`${probe.url}/healthz`)).toEqual([200, '{"status":"ok"}']);
  expect((await ask(`${probe.url}/orders`))[0]).toBe(404);
});

test('a port that is taken is an error', async () => {
  const metrics = createWorkerMetrics();
  const options = { host: '127.0.0.1', hanging: createLoopWatch().hanging, metrics };
  const probe = await openProbe({ ...options, port: 0 });
  onTestFinished(() => probe.close());
  await expect(openProbe({ ...options, port: Number(new URL(probe.url).port) })).rejects.toThrow(
    'EADDRINUSE',
  );
});

test('a worker beats in both stores, and leaves both with its end', async () => {
  const stop = new AbortController();
  const deps = {
    ...stores,
    workerId: 'w',
    build: 'v7',
    url: 'http://here',
    watch: createLoopWatch(),
    log: silent,
  };
  const beating = runBeats(deps, stop.signal);
  const both = [stores.redisStatus, stores.mysqlStatus];
  for (const store of both) {
    const [seen] = await waitFor('a beat', async () => {
      const workers = await store.listWorkers();
      return workers.length > 0 && workers;
    });
    expect(seen).toMatchObject({ build: 'v7', url: 'http://here', pid: process.pid, hanging: [] });
  }
  stop.abort();
  await beating;
  for (const store of both) expect(await store.listWorkers()).toEqual([]);
});

test('while MySQL hangs a worker beats in Redis, and leaves it with its end', async () => {
  const stop = new AbortController();
  let release = (): void => {};
  const hung = {
    ...stores.mysqlStatus,
    beat: () => new Promise<void>((resolve) => (release = resolve)),
  };
  const deps = {
    ...stores,
    workerId: 'w',
    build: '',
    url: 'http://here',
    watch: createLoopWatch(),
    log: silent,
  };
  const beating = runBeats({ ...deps, mysqlStatus: hung }, stop.signal);
  await waitFor('a beat', async () => (await stores.redisStatus.listWorkers()).length > 0);
  stop.abort();
  await waitFor('the end of its beats', async () => (await stores.redisStatus.listWorkers()).length === 0);
  release();
  await beating;
});

async function temporalShown(metrics: WorkerMetrics): Promise<string | undefined> {
  return /^holdfast_store_up{store="temporal"} (\d)$/m.exec(await metrics.read())?.[1];
}

test.each([
  ['is unknown after one look in vain', [false], undefined],
  ['is away after two from the start on', [false, false], '0'],
  ['is up after an answer', [false, false, true], '1'],
  ['is still up after one look in vain', [true, false], '1'],
  ['is still up where each second look is in vain', [true, false, true, false], '1'],
  ['is away after two looks in vain', [true, false, false], '0'],
  ['is away until it answers again', [true, false, false, false], '0'],
])('Temporal %s', async (_, looks, expected) => {
  const metrics = createWorkerMetrics();

  for (const hasAnswered of looks) metrics.sawTemporal(hasAnswered);

  expect(await temporalShown(metrics)).toBe(expected);
});

test('whether Temporal answers is absent from the metrics once nobody has looked for a while', async () => {
  const clock = createTestClock();
  const metrics = createWorkerMetrics(clock);
  const shown = () => temporalShown(metrics);
  expect(await shown()).toBeUndefined();
  metrics.sawTemporal(true);
  expect(await shown()).toBe('1');
  clock.pass(60_000);
  expect(await shown()).toBeUndefined();
});
