/** Clean-up that a world registers itself, so that no test has to close what it opens. */

import { onTestFinished, TestRunner, type RunnerTestSuite } from 'vitest';

type Close = () => Promise<unknown>;

/** Bounds a hang. Vitest puts its own bound only on hooks that it registers. */
const CLOSED_WITHIN_MS = 120_000;

/** Closes each open world; the last to open is the last here. */
const closersOf = new Map<RunnerTestSuite, Close[]>();

/**
 * Runs when the test ends that opens the world. A world that is opened in `beforeAll` is closed after the
 * tests of that hook and after their `afterAll`. What was opened last is closed first. Not for tests that run
 * at once (`test.concurrent`), which Vitest does not tell apart: they use the `onTestFinished` of their
 * context.
 */
export function closeLater(close: Close): void {
  if (TestRunner.getCurrentTest()) {
    onTestFinished(async () => void (await close()));
    return;
  }
  const { file } = TestRunner.getCurrentSuite();
  const suite = findOpening(file);
  if (!suite) throw new Error('a world is opened in a test or in beforeAll');
  const closers = closersOf.get(suite) ?? [];
  // The setup file closes what belongs to the file. Vitest runs these hooks from the last to the first.
  if (suite !== file && closers.length === 0)
    TestRunner.getSuiteHooks(suite).afterAll.unshift(() => closeWorlds(suite));
  closersOf.set(suite, [...closers, close]);
}

/**
 * Closes it later by itself, where it is not closed before.
 * @param later a test of `test.concurrent` gives the `onTestFinished` of its context
 * @returns closes it now; idempotent
 */
export function closeOnce(
  close: () => Promise<void>,
  later: (close: () => Promise<void>) => void = closeLater,
): () => Promise<void> {
  let closed: Promise<void> | undefined;
  const once = (): Promise<void> => (closed ??= close());
  later(once);
  return once;
}

/** All that the `beforeAll` hooks of this group have opened; unless given, of all groups and files. */
export async function closeWorlds(suite?: RunnerTestSuite): Promise<void> {
  const suites = suite ? [suite] : [...closersOf.keys()];
  const closers = suites.flatMap((each) => closersOf.get(each) ?? []);
  for (const each of suites) closersOf.delete(each);
  await doAll(closers.toReversed().map((close) => () => within(CLOSED_WITHIN_MS, close())));
}

/** Does each step, one after the other, also after one that fails. @throws what failed */
export async function doAll(steps: readonly (() => unknown)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, `several failed: ${failures.join('; ')}`);
}

/** The file or group whose `beforeAll` runs now. */
function findOpening(suite: RunnerTestSuite): RunnerTestSuite | undefined {
  const { result } = suite;
  if (result?.state === 'run' && result.hooks?.beforeAll === 'run') return suite;
  for (const task of suite.tasks) {
    const found = task.type === 'suite' ? findOpening(task) : undefined;
    if (found) return found;
  }
  return undefined;
}

async function within(ms: number, closing: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not closed within ${ms} ms`)), ms);
  });
  try {
    await Promise.race([closing, late]);
  } finally {
    clearTimeout(timer);
  }
}
