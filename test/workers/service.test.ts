/** The worker's process as it starts in production, with a workflow bundle and a build id. */

import { expect, inject, onTestFinished, test } from 'vitest';
import { loadWorkerConfig } from '../../src/config.ts';
import { openStores } from '../../src/stores/open.ts';
import { startWorker } from '../../src/workers/service.ts';
import { buildSale } from '../support/factories.ts';
import { openHttpApp, WEBHOOK_SECRET } from '../support/http-app.ts';
import { openTestStores, ownRedisUrl, silent } from '../support/stores.ts';
import { builtWorkflows } from '../support/workflows/built-workflows.ts';
import { makeCurrent, pinnedBuildOf } from '../support/workflows/deployment.ts';
import { openEngine } from '../support/workflows/engines.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

test('a worker whose environment names a build takes orders once that build is current, and stops in order', async () => {
  const namespace = await createNamespace();
  const stores = await openTestStores();
  onTestFinished(() => stores.close());
  const { engine, client, close } = await openEngine(namespace);
  onTestFinished(close);
  const app = await openHttpApp({ stores, engine });
  onTestFinished(() => app.close());
  const config = loadWorkerConfig({
    NODE_ENV: 'test',
    REDIS_URL: ownRedisUrl(),
    MYSQL_URL: stores.config.MYSQL_URL,
    PAYMENT_PROVIDER_URL: app.providerUrl,
    PAYMENT_PROVIDER_API_KEY: 'the-provider-is-given',
    WEBHOOK_SECRETS: WEBHOOK_SECRET,
    ORDER_SIGNING_SECRETS: 'nothing-is-signed-by-this-worker-here',
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    TEMPORAL_NAMESPACE: namespace,
    WORKFLOW_BUNDLE: builtWorkflows.codePath,
    WORKER_DEPLOYMENT_NAME: 'lamps',
    WORKER_BUILD_ID: '5c1f0e9',
  });
  const { saleId } = await stores.openSale(buildSale());
  const shopper = await app.shopper();
  const worker = startWorker(config, {
    stores: await openStores(stores.config, silent),
    provider: app.provider,
    log: silent,
  });
  onTestFinished(() => worker.stop());
  const orderNo = await shopper.buy(saleId);

  await makeCurrent(client, { deploymentName: 'lamps', buildId: '5c1f0e9' });

  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  expect(await pinnedBuildOf(client, orderNo)).toBe('5c1f0e9');
});
