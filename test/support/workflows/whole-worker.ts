/** The worker's service as it starts in production, in this process. */

import type { Client } from '@temporalio/client';
import { loadWorkerConfig } from '../../../src/config.ts';
import type { PaymentProvider } from '../../../src/providers/provider.ts';
import { openStores } from '../../../src/stores/open.ts';
import { startWorker } from '../../../src/workers/service.ts';
import { RECONCILE_SCHEDULE } from '../../../src/workflows/contract.ts';
import { asProduct } from '../../../stack/servers/accounts.ts';
import { silent, type TestStores } from '../stores.ts';
import { builtWorkflows } from './built-workflows.ts';

export interface WholeWorkerOptions {
  stores: TestStores;
  provider: PaymentProvider;
  providerUrl: string;
  webhookSecret: string;
  /** Of the namespace in which it works. */
  client: Client;
  temporalAddress: string;
  /** More settings. */
  env: Record<string, string>;
}

/** On stores of its own, with the rights that the product has. @returns what stops it */
export async function startWholeWorker(options: WholeWorkerOptions): Promise<() => Promise<void>> {
  const { stores, provider, client } = options;
  const redisUrls = stores.config.REDIS_URL.map(asProduct);
  const mysqlUrl = asProduct(stores.config.MYSQL_URL);
  const config = loadWorkerConfig({
    NODE_ENV: 'test',
    REDIS_URL: stores.config.REDIS_URL.join(','),
    MYSQL_URL: stores.config.MYSQL_URL,
    PAYMENT_PROVIDER_URL: options.providerUrl,
    PAYMENT_PROVIDER_API_KEY: 'the-provider-is-given',
    WEBHOOK_SECRETS: options.webhookSecret,
    ORDER_SIGNING_SECRETS: 'nothing-is-signed-by-this-worker-here',
    TEMPORAL_ADDRESS: options.temporalAddress,
    TEMPORAL_NAMESPACE: client.options.namespace,
    WORKFLOW_BUNDLE: builtWorkflows.codePath,
    ...options.env,
  });
  const worker = startWorker(config, {
    stores: await openStores({ ...stores.config, REDIS_URL: redisUrls, MYSQL_URL: mysqlUrl }, silent),
    provider,
    log: silent,
  });
  return async () => {
    await worker.stop();
    // It would go on starting workflows on the server that all test files share.
    await client.schedule.getHandle(RECONCILE_SCHEDULE).delete();
  };
}
