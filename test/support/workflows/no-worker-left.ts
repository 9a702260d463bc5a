/**
 * Holds each test file to the rule that it stops the workers it starts. Vitest loads this before every file.
 */

import { afterAll, expect } from 'vitest';
import { runningWorkers } from './running-workers.ts';

// Registered before the file's own hooks, so it runs after them.
afterAll(() => {
  const left = runningWorkers.size;
  runningWorkers.clear();
  expect(left).toBe(0);
});
