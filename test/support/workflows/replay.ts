/** Replays a history under some code of the workflows. */

import { Worker, type WorkerOptions } from '@temporalio/worker';

type History = Parameters<typeof Worker.runReplayHistory>[1];

/** @throws where the code would have gone another way */
export async function replayHistory(
  workflowBundle: NonNullable<WorkerOptions['workflowBundle']>,
  history: History,
): Promise<void> {
  // What was replayed gave its slot of the engine back when it ran.
  const sinks = { engineBudget: { release: { fn: () => undefined } } };
  await Worker.runReplayHistory({ workflowBundle, sinks }, history);
}
