/**
 * Two deployments, both with the default name, on one Redis, one MySQL server, one namespace of Temporal and
 * one account at the provider. With keys, a queue and a database of their own they live side by side. Real
 * processes.
 */

import { once } from 'node:events';
import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { expect, inject, onTestFinished, test } from 'vitest';
import { openConsole } from '../../sandbox/console.ts';
import { createSandboxProvider } from '../../sandbox/server.ts';
import { openProvider } from '../../src/providers/open.ts';
import { reconcileScheduleOf } from '../../src/workflows/contract.ts';
import { appEnv, demoSecrets, startApi, startWorker } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { closeLater } from '../support/close-later.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openShop } from '../support/shop.ts';
import { JWT_SECRET } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { openEngine } from '../support/workflows/engines.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

const SALE_ID = 'lamps';

/** Sends each notice to all, as an account with two webhook endpoints does. */
async function openFanOut(urls: readonly string[]): Promise<string> {
  const server = createServer((request, response) => {
    void (async () => {
      const body = new Uint8Array(await buffer(request));
      const headers = Object.entries(request.headersDistinct).flatMap(([name, values = []]) =>
        name.startsWith('webhook-') || name === 'content-type' ? [[name, values.join(',')] as const] : [],
      );
      const call = { method: 'POST', headers: Object.fromEntries(headers), body };
      const replies = await Promise.all(urls.map((url) => fetch(`${url}${request.url}`, call)));
      response.writeHead(replies.every(({ ok }) => ok) ? 200 : 503).end();
    })().catch(() => response.destroy());
  });
  const port = await findFreePort();
  await once(server.listen(port, '127.0.0.1'), 'listening');
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${port}`;
}

/** An account at the provider that notifies both APIs. */
async function openAccount(apiUrls: readonly string[]): Promise<string> {
  const sandbox = await createSandboxProvider({
    host: '127.0.0.1',
    apiKey: demoSecrets.providerApiKey,
    webhookUrl: `${await openFanOut(apiUrls)}/v1/webhooks/payments`,
    webhookSecret: demoSecrets.webhook,
    retryDelaysMs: Array.from({ length: 600 }, () => 100),
    logger: silent,
  }).start(0);
  onTestFinished(() => sandbox.stop());
  return sandbox.url;
}

interface Place {
  stores: TestStores;
  namespace: string;
  apiUrl: string;
  providerUrl: string;
  taskQueue: string;
}

/** One of the two: its processes run, and its sale is open. */
async function openDeployment({ stores, namespace, apiUrl, providerUrl, taskQueue }: Place) {
  await stores.openSale(buildSale({ saleId: SALE_ID }));
  const { client, close: closeEngine } = await openEngine(namespace);
  closeLater(closeEngine);
  // The schedule would go on starting workflows on the server that all test files share.
  closeLater(() => client.schedule.getHandle(reconcileScheduleOf(taskQueue)).delete());
  const { processes, close } = await openTestProcesses((crash) => console.error(crash.message));
  closeLater(close);
  const servers = {
    redisUrl: stores.config.REDIS_URL.join(','),
    mysqlUrl: stores.config.MYSQL_URL,
    temporalAddress: inject('temporalAddress'),
    temporalUiUrl: undefined,
  };
  const { REDIS_KEY_PREFIX } = stores.config;
  const env = {
    ...appEnv({ servers, urls: { apiUrl, providerUrl } }),
    ...(REDIS_KEY_PREFIX !== undefined && { REDIS_KEY_PREFIX }),
    TEMPORAL_NAMESPACE: namespace,
    TEMPORAL_TASK_QUEUE: taskQueue,
    JWT_SECRET,
    RECONCILE_EVERY_SECONDS: '1',
  };
  await Promise.all([
    startApi(processes, { name: 'api', env }),
    startWorker(processes, { name: 'worker', env }),
  ]);
  await stores.deployment.check();
  const account = {
    PAYMENT_PROVIDER_URL: providerUrl,
    PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
    WEBHOOK_SECRETS: [demoSecrets.webhook],
  };
  const providerConsole = openConsole({ url: providerUrl, apiKey: demoSecrets.providerApiKey });
  const shop = openShop({ url: apiUrl, stores, providerConsole });
  return { ...shop, stores, client, taskQueue, provider: openProvider(account, stores.deployment) };
}

test('two deployments with keys, queue and database of their own sell and refund, and each leaves the other alone', async () => {
  // Opening one empties their Redis, so neither may run before both are open.
  const bothStores = [await openTestStores(), await openTestStores({ REDIS_KEY_PREFIX: 'theirs' })] as const;
  const apiUrls = [
    `http://127.0.0.1:${await findFreePort()}`,
    `http://127.0.0.1:${await findFreePort()}`,
  ] as const;
  const account = { namespace: await createNamespace(), providerUrl: await openAccount(apiUrls) };
  const both = await Promise.all([
    openDeployment({ ...account, stores: bothStores[0], apiUrl: apiUrls[0], taskQueue: 'orders' }),
    openDeployment({ ...account, stores: bothStores[1], apiUrl: apiUrls[1], taskQueue: 'theirs' }),
  ]);

  // In each step both are given the same number: of their order's payment, and of its refund.
  const sellToAda = () =>
    Promise.all(both.map(async (shop) => shop.buyAndPay(SALE_ID, { shopper: await shop.shopper('ada') })));
  const [sold, kept] = [await sellToAda(), await sellToAda()];
  await Promise.all(both.map((shop) => shop.buyAndCancel(SALE_ID)));
  await Promise.all(
    both.map(async (shop, i) => {
      const orderNo = sold[i]?.orderNo ?? '';
      await shop.refund({ orderNo }, { reason: 'late', restock: true });
      await shop.awaitReturned({ orderNo });
    }),
  );

  for (const [i, shop] of both.entries()) {
    // Two were sold, one of which came back. The cancelled one is back as well.
    await expectStock(shop.stores, SALE_ID, { sku: 'lamp', available: 9, held: 0, sold: 1 });
    const payments = 'SELECT payment_id, order_no FROM payments ORDER BY payment_id';
    expect(await select(shop.stores.pool, payments)).toEqual([
      { payment_id: 1, order_no: sold[i]?.orderNo },
      { payment_id: 2, order_no: kept[i]?.orderNo },
    ]);
    expect(await select(shop.stores.pool, 'SELECT kind, reference FROM parked')).toEqual([]);
    await expectCleanAudit(shop);
  }
  const keys = await bothStores[0].redis.keys('*');
  expect(keys.filter((key) => !/^(theirs:)?holdfast:/.test(key))).toEqual([]);
});
