/** A real Prometheus, by the alerts as they are, says within half a minute what has failed. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { z } from 'zod';
import { createSecret } from '../../src/push/deliverer.ts';
import { startWorker } from '../../stack/app.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { buildSale } from '../support/factories.ts';
import { openShopper } from '../support/shopper.ts';
import { openWatchedShop } from '../support/watched-shop.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const dashboard = z
  .object({
    panels: z.array(z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })) })),
  })
  .parse(JSON.parse(readFileSync(join(repoDir, 'monitoring', 'dashboard.json'), 'utf8')));
/** Bounds a hang: three faults, each with its alert and its end. */
const ALL_WITHIN_MS = 8 * 60_000;

test(
  'a frozen worker fires an alert, and a thawed one ends it; so do no worker and a store that is away',
  async () => {
    const shop = await openWatchedShop({ onClose: (close) => void closers.push(close) });
    const { stores, redis, processes, apiUrl, env } = shop;
    const { saleId } = await stores.openSale(buildSale());

    // A panel shows a rate with the second scrape.
    await stores.eventConsumers.commit('books', 0, false);
    const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
    await stores.endpoints.put('office', terms, createSecret(), 'olga');
    // It never takes an event, and is no fault of the sale.
    await stores.endpoints.disable('office', 'olga');
    for (const { title, targets } of dashboard.panels)
      for (const { expr } of targets) await shop.shows(`the panel ${title} to show ${expr}`, expr);

    processes.freeze('worker');
    const frozenAtMs = Date.now();
    await (await openShopper(apiUrl)).buy(saleId);
    await Promise.all(
      ['HoldfastWorkerSilent', 'HoldfastNoWorker', 'HoldfastOutboxOld'].map((alert) =>
        shop.fires(alert, frozenAtMs),
      ),
    );
    processes.thaw('worker');
    await shop.isQuiet('all to end');

    await processes.stop('worker');
    await shop.fires('HoldfastNoWorker');
    // One that is stopped takes itself off.
    expect(await shop.firing()).not.toContain('HoldfastWorkerSilent');
    await startWorker(processes, { name: 'worker', env });
    await shop.isQuiet('the worker to be seen');

    redis.freeze();
    try {
      await shop.fires('HoldfastStoreAway redis');
    } finally {
      redis.thaw();
    }
    await shop.isQuiet('the store to be back');
  },
  ALL_WITHIN_MS,
);
