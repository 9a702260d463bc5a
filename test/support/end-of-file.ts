/**
 * Ends what belongs to a test file, and holds the file to the rule that it stops the workers it starts.
 * Vitest loads this before every file.
 */

import { afterAll, beforeAll, expect } from 'vitest';
import { closeWorlds } from './close-later.ts';
import { endOwnRedis } from './own-redis.ts';
import { runningWorkers } from './workflows/running-workers.ts';

// Vitest skips all hooks that come after one that fails. What such a file leaves would meet the next file of
// its process, so that ends it first.
beforeAll(endFile);
// Registered before the file's own hooks, so it runs after them.
afterAll(endFile);

/** Each step is done, also after one that fails. */
async function endFile(): Promise<void> {
  const failures: unknown[] = [];
  for (const step of [closeWorlds, expectNoWorkers, endOwnRedis]) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 1) throw new AggregateError(failures, failures.join('; '));
  if (failures.length === 1) throw failures[0];
}

function expectNoWorkers(): void {
  const left = runningWorkers.size;
  runningWorkers.clear();
  expect(left).toBe(0);
}
