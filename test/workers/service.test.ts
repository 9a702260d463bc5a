/** The worker's process as it starts in production, with a workflow bundle and a build id. */

import { expect, test } from 'vitest';
import { RECONCILE_WORKFLOW } from '../../src/workflows/contract.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';
import { makeCurrent, pinnedBuildOf } from '../support/workflows/deployment.ts';

test('a worker whose environment names a build takes orders once that build is current, and stops in order', async () => {
  const { stores, client, ...shop } = await openCheckout({
    worker: 'whole',
    workerEnv: { WORKER_DEPLOYMENT_NAME: 'lamps', WORKER_BUILD_ID: '5c1f0e9' },
    reconcileEveryMs: 1_000,
  });
  const { saleId } = await stores.openSale(buildSale());
  const shopper = await shop.shopper();
  const orderNo = await shopper.buy(saleId);

  await makeCurrent(client, { deploymentName: 'lamps', buildId: '5c1f0e9' });

  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  expect(await pinnedBuildOf(client, orderNo)).toBe('5c1f0e9');
  // What the schedule started belongs to no build.
  await waitFor('a run of the reconciliation', async () => {
    const query = `WorkflowType = '${RECONCILE_WORKFLOW}' AND ExecutionStatus = 'Completed'`;
    for await (const { workflowId } of client.workflow.list({ query })) return workflowId;
    return undefined;
  });
});
