import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    globalSetup: 'stack/test-setup.ts',
    include: ['test/**/*.test.ts'],
    // The Temporal worker's native module wants processes, not threads.
    pool: 'forks',
    // The files share one Redis, one MySQL and one Temporal, and two cores: one after the other is both simpler and not slower.
    fileParallelism: false,
    // A real workflow on a real server takes seconds on a busy machine; this bounds a hang, it asserts no speed.
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
