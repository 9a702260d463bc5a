/** The Temporal workers that the running test file has started and not stopped yet. */

export const runningWorkers = new Set<object>();
