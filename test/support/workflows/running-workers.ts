/** The Temporal workers that the running test file has started and not stopped yet. */

import type { Worker } from '@temporalio/worker';

export const runningWorkers = new Set<Worker>();
