/** Worker versions in Temporal: makes a build current, and reads which build works on an order. */

import { isGrpcServiceError, type Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import { temporal } from '@temporalio/proto';
import { PAYMENTS_QUEUE } from '../../../src/workflows/contract.ts';
import { waitFor } from '../wait.ts';
import { describeIfStarted } from './start.ts';

const { WorkerDeploymentVersionStatus, TaskQueueType, VersioningBehavior } = temporal.api.enums.v1;
/** Of gRPC. */
const NOT_FOUND = 5;

export function buildVersion(buildId: string): WorkerDeploymentVersion {
  return { deploymentName: 'holdfast', buildId };
}

/** New orders begin under this version from now on; its worker must be running. */
export async function makeCurrent(client: Client, version: WorkerDeploymentVersion): Promise<void> {
  await waitFor(`the worker of ${version.buildId} to ask for orders`, async () => {
    const queues = (await describe(client, version))?.taskQueueInfos ?? [];
    // Of its queues the payments' has activities alone.
    const [hasWorkflows, hasPayments] = [
      queues.some(({ type }) => type === TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
      queues.some(({ name }) => name === PAYMENTS_QUEUE),
    ];
    return hasWorkflows && hasPayments;
  });
  const { namespace } = client.options;
  await client.workflowService.setWorkerDeploymentCurrentVersion({
    namespace,
    identity: 'operator',
    ...version,
  });
}

export async function statusOf(
  client: Client,
  version: WorkerDeploymentVersion,
): Promise<string | undefined> {
  const status = (await describe(client, version))?.status;
  return status ? WorkerDeploymentVersionStatus[status] : undefined;
}

/** The build an order is pinned to, once its first task is done. */
export function pinnedBuildOf(client: Client, orderNo: string): Promise<string> {
  return waitFor(`order ${orderNo} to be pinned`, async () => {
    const description = await describeIfStarted(client, orderNo);
    const { behavior, deploymentVersion } = description?.raw.workflowExecutionInfo?.versioningInfo ?? {};
    const isPinned = behavior === VersioningBehavior.VERSIONING_BEHAVIOR_PINNED;
    return isPinned && (deploymentVersion?.buildId ?? undefined);
  });
}

/** Of every build that has done a task of the order; those without a version go by ''. */
export async function buildsAtWork(client: Client, orderNo: string): Promise<string[]> {
  const { events } = await client.workflow.getHandle(orderNo).fetchHistory();
  const builds = (events ?? []).flatMap(({ workflowTaskCompletedEventAttributes: task }) =>
    task ? [task.deploymentVersion?.buildId ?? ''] : [],
  );
  return [...new Set(builds)];
}

/** What a workflow of changed code leaves to be seen. */
export async function codeOf(client: Client, orderNo: string): Promise<unknown> {
  const { memo } = await client.workflow.getHandle(orderNo).describe();
  return memo?.['code'] ?? 'as it is';
}

/** Undefined while Temporal has not heard of the version. */
async function describe(client: Client, { deploymentName, buildId }: WorkerDeploymentVersion) {
  try {
    const { workerDeploymentVersionInfo } = await client.workflowService.describeWorkerDeploymentVersion({
      namespace: client.options.namespace,
      deploymentVersion: { deploymentName, buildId },
    });
    return workerDeploymentVersionInfo;
  } catch (error) {
    if (!isGrpcServiceError(error)) throw error;
    const code: number = error.code;
    if (code === NOT_FOUND) return undefined;
    throw error;
  }
}
