/** Bundles a variant of the workflow code, such as `changed-order.ts`, for a worker of another build. */

import { bundleWorkflowCode, DefaultLogger, type WorkflowBundleWithSourceMap } from '@temporalio/worker';

/** @param file relative to this folder */
export function bundleVariant(file: string): Promise<WorkflowBundleWithSourceMap> {
  const { pathname } = new URL(file, import.meta.url);
  return bundleWorkflowCode({ workflowsPath: pathname, logger: new DefaultLogger('ERROR') });
}
