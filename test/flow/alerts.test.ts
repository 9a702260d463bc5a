/**
 * A real Prometheus says what has failed: workers and stores that are away or hang, and the API. The alerts
 * are ten times as fast as in production; `test/monitoring` proves their true times.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createSecret } from '../../src/push/deliverer.ts';
import { startApi, startWorker } from '../../stack/app.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { locateServers } from '../../stack/install/server-packages.ts';
import type { Processes } from '../../stack/processes/processes.ts';
import { mysqlPackage, startMysql } from '../../stack/servers/mysql.ts';
import { closeLater } from '../support/close-later.ts';
import { buildSale } from '../support/factories.ts';
import { repeat } from '../support/repeat.ts';
import { openShopper } from '../support/shopper.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { ALERT_TIMEOUT_MS, openWatchedShop, type WatchedShop } from '../support/watched-shop.ts';

const dashboard = z
  .object({
    panels: z.array(z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })) })),
  })
  .parse(JSON.parse(readFileSync(join(repoDir, 'monitoring', 'dashboard.json'), 'utf8')));

const timeout = { timeout: ALERT_TIMEOUT_MS };

let servers: Processes;
let shop: WatchedShop;
let saleId: string;

beforeAll(async () => {
  const own = await openTestProcesses((crash) => expect.unreachable(crash.message));
  closeLater(own.close);
  servers = own.processes;
  const [found] = await locateServers([mysqlPackage], () => {});
  if (!found) throw new Error('MySQL was asked for');
  const mysqlUrl = await startMysql({ processes: servers, found, fresh: true, durable: false });
  shop = await openWatchedShop({ onClose: closeLater, mysqlUrl });
  ({ saleId } = await shop.stores.openSale(buildSale()));
});

test('every panel of the dashboard shows something', timeout, async () => {
  const { stores } = shop;
  await stores.eventConsumers.commit('books', 0, false);
  const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
  await stores.endpoints.put('office', terms, createSecret(), 'olga');
  // It never takes an event, and is no fault of the sale.
  await stores.endpoints.disable('office', 'olga');
  // An API counts the refusals of sales that it knows.
  const shopper = await openShopper(shop.apiUrl);
  await fetch(`${shop.apiUrl}/v1/sales/${saleId}`);
  await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 100 }] });
  // A panel shows a rate with the second scrape.
  for (const { title, targets } of dashboard.panels)
    for (const { expr } of targets) await shop.shows(`the panel ${title} to show ${expr}`, expr);
});

describe('a frozen worker', () => {
  beforeAll(async () => {
    await shop.isQuiet('no alert before');
    shop.processes.freeze('worker');
    await (await openShopper(shop.apiUrl)).buy(saleId);
  });
  afterAll(() => shop.processes.thaw('worker'));

  test.each(['HoldfastWorkerSilent', 'HoldfastNoWorker', 'HoldfastOutboxOld'])('fires %s', timeout, (alert) =>
    shop.fires(alert),
  );

  test('fires no alert any more once it is thawed', timeout, async () => {
    await shop.fires('HoldfastWorkerSilent');
    shop.processes.thaw('worker');
    await shop.isQuiet('all to end');
  });
});

describe('a worker that was stopped', () => {
  beforeAll(() => shop.processes.stop('worker'));

  test('is missed, and does not count as silent, for it took itself off', timeout, async () => {
    await shop.fires('HoldfastNoWorker');
    expect(await shop.firing()).not.toContain('HoldfastWorkerSilent');
  });

  afterAll(() => startWorker(shop.processes, { name: 'worker', env: shop.env }));
});

describe('a Redis that hangs', () => {
  let stopBuying: () => Promise<void>;
  beforeAll(async () => {
    const buyer = await openShopper(shop.apiUrl);
    shop.redis.freeze();
    stopBuying = repeat(() => buyer.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] }));
  });
  afterAll(async () => {
    shop.redis.thaw();
    await stopBuying();
  });

  test.each(['HoldfastStoreAway redis', 'HoldfastPurchasesFailing'])('fires %s', timeout, (alert) =>
    shop.fires(alert),
  );

  test('fires no alert any more once it is thawed', timeout, async () => {
    await shop.fires('HoldfastStoreAway redis');
    shop.redis.thaw();
    await stopBuying();
    await shop.isQuiet('the store to be back');
  });
});

describe('a Redis that fills up', () => {
  const setMax = (bytes: number) => shop.stores.redis.config('SET', 'maxmemory', bytes);
  beforeAll(async () => {
    await shop.isQuiet('no alert before');
    const [memory] = await shop.stores.redisStatus.readMemory();
    // It then uses 80 %.
    await setMax(Math.round((memory?.usedBytes ?? 0) / 0.8));
  });
  afterAll(() => setMax(0));

  test('fires HoldfastRedisMemory while it still sells, and no more once it has room', timeout, async () => {
    await shop.fires('HoldfastRedisMemory');
    await (await openShopper(shop.apiUrl)).buy(saleId);
    expect(await shop.firing()).toEqual(['HoldfastRedisMemory']);

    await setMax(0);
    await shop.isQuiet('the alert to end');
  });
});

describe('a MySQL that hangs', () => {
  let stopPaying: () => Promise<void>;
  beforeAll(async () => {
    const buyer = await openShopper(shop.apiUrl);
    const orderNo = await buyer.buy(saleId);
    await buyer.awaitStatus(orderNo, 'awaiting_payment');
    servers.freeze('mysql');
    stopPaying = repeat(() => buyer.pay(orderNo));
  });
  afterAll(async () => {
    servers.thaw('mysql');
    await stopPaying();
  });

  test.each(['HoldfastStoreAway mysql', 'HoldfastCallsFailing', 'HoldfastStoreErrors mysql'])(
    'fires %s',
    timeout,
    (alert) => shop.fires(alert),
  );
});

describe('without an API', () => {
  beforeAll(() => shop.processes.stop('api'));
  afterAll(() => startApi(shop.processes, { name: 'api', env: shop.env }));

  test('an alert says that nothing is scraped', timeout, () => shop.fires('HoldfastNotScraped'));
});
