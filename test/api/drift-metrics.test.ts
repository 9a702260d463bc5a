/** What the reconciliation found is in the metrics of each API, and a Redis that is away delays no scrape. */

import { beforeAll, expect, test } from 'vitest';
import { showBoard } from '../../src/api/gauges.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createStatusBoard, statusReaders, type StatusReaders } from '../../src/status/board.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { samplesOf } from './metrics.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

function show(instead: Partial<StatusReaders> = {}) {
  const metrics = createMetrics();
  const board = createStatusBoard({ ...statusReaders(async () => stores, stores), ...instead });
  showBoard(metrics, board);
  return { metrics, look: board.look };
}

test('drift is shown while the last run found it, and no longer', async () => {
  const { metrics, look } = show();
  await look();
  expect(await samplesOf(metrics, 'holdfast_drift_')).toEqual(['holdfast_drift_looked_at_seconds 0']);
  await stores.driftBoard.publish({
    lookedAtMs: 1_000,
    entries: [{ saleId: 'summer', sku: 'lamp', what: 'held', units: -2 }],
  });
  await look();
  expect(await samplesOf(metrics, 'holdfast_drift_')).toEqual([
    'holdfast_drift_units{sale="summer",sku="lamp",what="held"} 2',
    'holdfast_drift_looked_at_seconds 1',
  ]);
  await stores.driftBoard.publish({ lookedAtMs: 61_000, entries: [] });
  await look();
  expect(await samplesOf(metrics, 'holdfast_drift_')).toEqual(['holdfast_drift_looked_at_seconds 61']);
});

test('a SKU of any text is a label of its own, on a line of its own', async () => {
  const { metrics, look } = show();
  const skus = ['A 4/2 "blue"', 'a\\b', 'x"} 9', '💡'];
  const entries = skus.map((sku) => ({ saleId: 'summer', sku, what: 'held' as const, units: 1 }));
  await stores.driftBoard.publish({ lookedAtMs: 1_000, entries });
  await look();

  expect((await samplesOf(metrics, 'holdfast_drift_units')).map((line) => line.split('sku=')[1])).toEqual([
    '"A 4/2 \\"blue\\"",what="held"} 1',
    '"a\\\\b",what="held"} 1',
    '"x\\"} 9",what="held"} 1',
    '"💡",what="held"} 1',
  ]);
});

test.each([
  ['fails', () => Promise.reject(new Error('away'))],
  ['hangs', () => new Promise<never>(() => {})],
])('a Redis that %s leaves the other metrics alone', async (_, read) => {
  const { metrics, look } = show({ drift: read });
  void look();
  expect(await samplesOf(metrics, 'holdfast_drift_')).toEqual([]);
  expect(await samplesOf(metrics, 'process_resident_memory_bytes')).toHaveLength(1);
});
