/** One run of the reconciliation, as the schedule starts it: all steps side by side, each for itself. */

import {
  ActivityFailure,
  proxyActivities,
  proxyLocalActivities,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import type { ReconcileActivities } from '../activities/reconcile.ts';
import { paymentsQueueOf, type StepOutcome } from './contract.ts';

const { listReconcileSteps } = proxyLocalActivities<ReconcileActivities>({
  summary: 'List the steps',
  startToCloseTimeout: '3 seconds',
});

/** @returns the outcome of each step by its name */
export async function ReconcileWorkflow(): Promise<Record<string, StepOutcome>> {
  const { taskQueue } = workflowInfo();
  const steps = await listReconcileSteps();
  // Side by side, so that a provider or a store that hangs delays no other step.
  const outcomes = await Promise.all(
    steps.map(async ({ name, callsProvider }): Promise<[string, StepOutcome]> => [
      name,
      await run(name, callsProvider ? paymentsQueueOf(taskQueue) : taskQueue),
    ]),
  );
  return Object.fromEntries(outcomes);
}

/** A step is tried once a run: the next run, soon after, is the repeat. */
async function run(name: string, taskQueue: string): Promise<StepOutcome> {
  const { runReconcileStep } = proxyActivities<ReconcileActivities>({
    summary: name,
    taskQueue,
    // A step that walks or calls the provider takes seconds; one that takes longer goes on in the next run.
    startToCloseTimeout: '5 minutes',
    // Of a worker that died: no other run begins before this one has ended.
    heartbeatTimeout: '10 seconds',
    retry: { maximumAttempts: 1 },
  });
  try {
    return await runReconcileStep({ name });
  } catch (error) {
    if (!(error instanceof ActivityFailure)) throw error;
    return { failed: error.cause?.message ?? error.message };
  }
}

// A run belongs to no version: without this, one that a stopped version began would wait for it. The server
// refuses the option of a worker without a version.
setWorkflowOptions(
  () =>
    workflowInfo().currentDeploymentVersion?.deploymentName ? { versioningBehavior: 'AUTO_UPGRADE' } : {},
  ReconcileWorkflow,
);
