/** The metrics of events: how far they and their consumers are behind. No scrape waits for MySQL. */

import { beforeAll, expect, test } from 'vitest';
import { showBoard } from '../../src/api/gauges.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createStatusBoard, statusReaders, type StatusReaders } from '../../src/status/board.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
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

test('events without a number are counted, and those that a consumer has not done with', async () => {
  const { metrics, look } = show();
  const { saleId } = await stores.openSale(buildSale());
  await stores.orders.storeOrders([buildOrder({ saleId }), buildOrder({ saleId })], 'due');
  await look();
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual(['holdfast_event_lag 2']);

  await dispatchEvents(stores);
  await stores.eventConsumers.commit('books', 1, false);
  await look();
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual([
    'holdfast_event_lag 0',
    'holdfast_event_consumer_lag{consumer="books"} 1',
  ]);
  await stores.eventConsumers.remove('books');
  await look();
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual(['holdfast_event_lag 0']);
});

test.each([
  ['fails', () => Promise.reject(new Error('away'))],
  ['hangs', () => new Promise<never>(() => {})],
])('a MySQL that %s leaves the other metrics alone', async (_, answer) => {
  const { metrics, look } = show({ events: answer });
  void look();
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual([]);
  expect(await samplesOf(metrics, 'process_resident_memory_bytes')).toHaveLength(1);
});
