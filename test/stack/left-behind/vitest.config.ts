/** A run of the one file beside this, set up as all test runs are. */

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    globalSetup: 'stack/test-setup.ts',
    projects: [
      {
        test: {
          name: 'fast',
          include: ['test/stack/left-behind/redis-left.ts'],
          setupFiles: 'test/support/end-of-file.ts',
          pool: 'forks',
          isolate: false,
        },
      },
    ],
  },
});
