/** The metrics of events: how far they and their consumers are behind. No scrape waits for MySQL. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { showEventLag } from '../../src/api/gauges.ts';
import { createMetrics } from '../../src/metrics.ts';
import type { Stores } from '../../src/stores/open.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { partly } from '../support/partly.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { samplesOf } from './metrics.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

test('events without a number are counted, and those that a consumer has not done with', async () => {
  const metrics = createMetrics();
  showEventLag(metrics, stores);
  const { saleId } = await stores.openSale(buildSale());
  await stores.orders.storeOrders([buildOrder({ saleId }), buildOrder({ saleId })], 'due');
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual(['holdfast_event_lag 2']);

  await dispatchEvents(stores);
  await stores.eventConsumers.commit('books', 1, false);
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual([
    'holdfast_event_lag 0',
    'holdfast_event_consumer_lag{consumer="books"} 1',
  ]);
  await stores.eventConsumers.remove('books');
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual(['holdfast_event_lag 0']);
});

test.each([
  ['fails', () => Promise.reject(new Error('away'))],
  ['hangs', () => new Promise<never>(() => {})],
])('a MySQL that %s leaves the other metrics alone', async (_, answer) => {
  const metrics = createMetrics();
  const away = { eventRows: { countWaiting: answer }, eventConsumers: { list: answer } };
  showEventLag(metrics, partly<Stores>(away));
  expect(await samplesOf(metrics, 'holdfast_event')).toEqual(['holdfast_event_lag Nan']);
  expect(await samplesOf(metrics, 'process_resident_memory_bytes')).toHaveLength(1);
});
