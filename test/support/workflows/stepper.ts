/** Fake steps for workflow tests alone: they are counted, and can fail, wait and be raced. */

import { ApplicationFailure } from '@temporalio/common';

type Act = () => Promise<void> | void;

/**
 * @param retryDelayMs where given, a failing step is tried
 * again after this time instead of the workflow's own delays
 */
export function createStepper<Step extends string>(retryDelayMs?: number) {
  /** Every try, and those that succeeded. */
  const tries: Step[] = [];
  const steps: Step[] = [];
  const failuresLeft = new Map<Step, number>();
  const before = new Map<Step, Act>();
  const after = new Map<Step, Act>();

  const step =
    <I, R>(name: Step, work: (input: I) => R) =>
    async (input: I): Promise<R> => {
      tries.push(name);
      await before.get(name)?.();
      const left = failuresLeft.get(name) ?? 0;
      failuresLeft.set(name, left - 1);
      if (left > 0) throw unavailable(name, retryDelayMs);
      const result = work(input);
      steps.push(name);
      await after.get(name)?.();
      return result;
    };

  return {
    step,
    /** For the test. */
    controls: {
      tries,
      steps,
      /** The step's next tries fail, as when its store is away. */
      fail: (name: Step, times: number) => void failuresLeft.set(name, times),
      /** Runs just before the step reads, or just after it has committed; at every try. */
      before: (name: Step, act: Act) => void before.set(name, act),
      after: (name: Step, act: Act) => void after.set(name, act),
      /** Holds the step up: `entered` settles when it is there, `letGo` lets it and all later tries pass. */
      holdUp: (name: Step) => {
        const entered = createGate();
        const released = createGate();
        before.set(name, () => {
          entered.open();
          return released.opened;
        });
        return { entered: entered.opened, letGo: released.open };
      },
    },
  };
}

export function createGate() {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

function unavailable(name: string, retryDelayMs: number | undefined): Error {
  const message = `${name}: the store is away`;
  if (retryDelayMs === undefined) return new Error(message);
  return ApplicationFailure.create({ message, nextRetryDelay: retryDelayMs });
}
