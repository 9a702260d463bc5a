/**
 * Ends what belongs to a test file, and holds the file to the rule that it stops the workers it starts.
 * Vitest loads this before every file.
 */

import { afterAll, beforeAll, expect } from 'vitest';
import { closeWorlds, doAll } from './close-later.ts';
import { endOwnRedis } from './own-redis.ts';
import { runningWorkers } from './workflows/running-workers.ts';

// Vitest skips all hooks that come after one that fails. What such a file leaves would meet the next file of
// its process, so that ends it first.
beforeAll(endFile);
// Registered before the file's own hooks, so it runs after them.
afterAll(endFile);

function endFile(): Promise<void> {
  return doAll([() => closeWorlds(), expectNoWorkers, endOwnRedis]);
}

function expectNoWorkers(): void {
  const left = runningWorkers.size;
  runningWorkers.clear();
  expect(left).toBe(0);
}
