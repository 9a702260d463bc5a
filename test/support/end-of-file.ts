/**
 * Ends what belongs to a test file, and holds the file to the rule that it stops the workers it starts.
 * Vitest loads this before every file.
 */

import { afterAll, expect } from 'vitest';
import { closeWorlds } from './close-later.ts';
import { endOwnRedis } from './own-redis.ts';
import { runningWorkers } from './workflows/running-workers.ts';

// Registered before the file's own hooks, so they run after them, the last one first.
afterAll(endOwnRedis);
afterAll(() => {
  const left = runningWorkers.size;
  runningWorkers.clear();
  expect(left).toBe(0);
});
afterAll(() => closeWorlds());
