/** The activities of the reconciliation: they run its steps, which know nothing of Temporal. */

import { ApplicationFailure, heartbeat, cancellationSignal } from '@temporalio/activity';
import { PROVIDER_STEPS } from '../reconcile/steps.ts';
import type { Step } from '../reconcile/walk.ts';
import type { StepReport } from '../workflows/contract.ts';

/** Several to each heartbeat timeout of the workflow, so that one that is late does no harm. */
const HEARTBEAT_EVERY_MS = 2_000;

export interface ReconcileActivityDeps<Deps> {
  steps: ReadonlyMap<string, Step<Deps>>;
  deps: Deps;
  /** Aborts when the worker stops: a stop does not wait for a long step. */
  stopping: AbortSignal;
}

interface ListedStep {
  name: string;
  /** It runs beside the other calls to the provider. */
  callsProvider: boolean;
}

export type ReconcileActivities = ReturnType<typeof createReconcileActivities>;

export function createReconcileActivities<Deps>({ steps, deps, stopping }: ReconcileActivityDeps<Deps>) {
  return {
    /** The steps that this version of the worker has. */
    listReconcileSteps: async (): Promise<ListedStep[]> =>
      [...steps.keys()].map((name) => ({ name, callsProvider: PROVIDER_STEPS.has(name) })),

    /**
     * Runs one step. It ends when the worker stops or Temporal gives it up, even where the step hangs.
     * @throws when the step fails; the next run of the workflow tries it again
     */
    async runReconcileStep({ name }: { name: string }): Promise<StepReport> {
      const step = steps.get(name);
      // While a new version is rolled out, an older worker may get a step that it does not have.
      if (!step) throw ApplicationFailure.nonRetryable(`this worker has no step ${name}`);
      const signal = AbortSignal.any([stopping, cancellationSignal()]);
      const beating = setInterval(heartbeat, HEARTBEAT_EVERY_MS);
      try {
        return await Promise.race([step(deps, signal), aborted(signal)]);
      } finally {
        clearInterval(beating);
      }
    },
  };
}

/** @throws once the signal aborts */
async function aborted(signal: AbortSignal): Promise<never> {
  const failed = () => new Error('the step was aborted', { cause: signal.reason });
  if (signal.aborted) throw failed();
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(failed()), { once: true });
  });
}
