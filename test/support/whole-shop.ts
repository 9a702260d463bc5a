/** The whole service in this process, its worker as it starts in production; it ends with the test. */

import { Client, Connection } from '@temporalio/client';
import { inject, onTestFinished } from 'vitest';
import { loadWorkerConfig } from '../../src/config.ts';
import { createOrderEngine } from '../../src/engine/order-engine.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { openStores } from '../../src/stores/open.ts';
import { startWorker } from '../../src/workers/service.ts';
import { RECONCILE_SCHEDULE } from '../../src/workflows/contract.ts';
import { asProduct } from '../../stack/servers/accounts.ts';
import { openHttpApp, WEBHOOK_SECRET, type HttpApp } from './http-app.ts';
import { ownRedisUrl } from './own-redis.ts';
import { openTestStores, silent, type TestStores } from './stores.ts';
import { builtWorkflows } from './workflows/built-workflows.ts';

export interface WholeShop extends Omit<HttpApp, 'close'> {
  stores: TestStores;
  client: Client;
}

export interface WholeShopOptions {
  namespace: string;
  temporalAddress?: string;
  /** More settings of the worker. */
  env?: Record<string, string>;
  /** Puts something between the worker and the provider. */
  inFront?: (provider: PaymentProvider) => PaymentProvider;
}

/** The reconciliation runs each second. */
export async function openWholeShop({
  namespace,
  temporalAddress = inject('temporalAddress'),
  env = {},
  inFront = (provider) => provider,
}: WholeShopOptions): Promise<WholeShop> {
  const stores = await openTestStores();
  onTestFinished(() => stores.close());
  // Lazy, because a test may begin with a server that is away, or take it away.
  const connection = Connection.lazy({ address: temporalAddress });
  onTestFinished(() => connection.close());
  const client = new Client({ connection, namespace });
  const app = await openHttpApp({ stores, engine: createOrderEngine(client) });
  onTestFinished(() => app.close());
  const config = loadWorkerConfig({
    NODE_ENV: 'test',
    REDIS_URL: await ownRedisUrl(),
    MYSQL_URL: stores.config.MYSQL_URL,
    PAYMENT_PROVIDER_URL: app.providerUrl,
    PAYMENT_PROVIDER_API_KEY: 'the-provider-is-given',
    WEBHOOK_SECRETS: WEBHOOK_SECRET,
    ORDER_SIGNING_SECRETS: 'nothing-is-signed-by-this-worker-here',
    TEMPORAL_ADDRESS: temporalAddress,
    TEMPORAL_NAMESPACE: namespace,
    WORKFLOW_BUNDLE: builtWorkflows.codePath,
    RECONCILE_EVERY_SECONDS: '1',
    ...env,
  });
  const worker = startWorker(config, {
    stores: await openStores(
      {
        ...stores.config,
        REDIS_URL: stores.config.REDIS_URL.map(asProduct),
        MYSQL_URL: asProduct(stores.config.MYSQL_URL),
      },
      silent,
    ),
    provider: inFront(app.provider),
    log: silent,
  });
  onTestFinished(async () => {
    await worker.stop();
    // It would go on starting workflows on the server that all test files share.
    await client.schedule.getHandle(RECONCILE_SCHEDULE).delete();
  });
  return { ...app, stores, client };
}
