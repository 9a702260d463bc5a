/** Whether Temporal has an order's workflow. An order may be stored, and payable, before it is started. */

import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { waitFor } from '../wait.ts';

/** Undefined while Temporal does not know the workflow. */
export async function describeIfStarted(client: Client, workflowId: string) {
  try {
    return await client.workflow.getHandle(workflowId).describe();
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}

export async function awaitStart(client: Client, workflowId: string): Promise<void> {
  await waitFor(`the start of ${workflowId}`, () => describeIfStarted(client, workflowId));
}
