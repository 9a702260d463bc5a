/**
 * `npm run figures`. Vitest runs it, as the service that is recorded is opened by what the tests open it by,
 * and as the sources have to run as they are: what a compiler writes has other lines.
 */

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/figures/figures.ts'],
    globalSetup: 'stack/test-setup.ts',
    maxWorkers: 1,
    pool: 'forks',
    disableConsoleIntercept: true,
    // Bounds a hang: twenty journeys with a rest before and after each, on a machine that may be busy.
    testTimeout: 600_000,
  },
});
