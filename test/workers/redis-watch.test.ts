/** The watch over Redis: all sales that were lost are made again, and the process goes on meanwhile. */

import { expect, onTestFinished, test } from 'vitest';
import type { Sale } from '../../src/sales/sale.ts';
import type { Stores } from '../../src/stores/open.ts';
import { runRedisWatch } from '../../src/workers/redis-watch.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, silent } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

test('many sales that are lost at once are made again a few at a time, and leave connections to others', async () => {
  const stores = await openTestStores();
  const sales: Sale[] = [];
  while (sales.length < 25) sales.push(await stores.openSale(buildSale()));
  await stores.redis.flushall();

  let [underWay, most] = [0, 0];
  const saleEpochs: Stores['saleEpochs'] = {
    ...stores.saleEpochs,
    async withLock(saleId, work) {
      underWay += 1;
      most = Math.max(most, underWay);
      try {
        return await stores.saleEpochs.withLock(saleId, work);
      } finally {
        underWay -= 1;
      }
    },
  };
  const stop = new AbortController();
  const ended = runRedisWatch({ ...stores, saleEpochs, log: silent }, stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await ended;
  });

  await waitFor('all sales to be back', async () => {
    const views = await Promise.all(sales.map(({ saleId }) => stores.saleStock.read(saleId)));
    return views.every((view) => view?.skus.length === 2);
  });
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(4);
});
