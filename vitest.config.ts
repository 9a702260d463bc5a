import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';

/** Two trials of minutes: a step of their own in CI, so that `npm test` can be waited for. */
const STORM = ['test/chaos/storm.test.ts'];
/**
 * Real processes that die, versions that come and go, a browser, a cluster, a shop with a hundred thousand
 * orders, and files that wait for a minute and more: `npm run test:fast` leaves them out.
 */
const DEEP = [
  'test/crash/**/*.test.ts',
  'test/chaos/**/*.test.ts',
  'test/versions/**/*.test.ts',
  'test/browser/**/*.test.ts',
  'test/audit/deliberate-faults.test.ts',
  'test/push/delivery.test.ts',
  'test/flow/operator-hands.test.ts',
  'test/flow/temporal-lost.test.ts',
  'test/flow/{alerts,slow-alerts}.test.ts',
  'test/flow/drift.test.ts',
  'test/flow/{cluster,watch-cluster}.test.ts',
  'test/flow/clocks.test.ts',
  'test/mysql/plans/*.test.ts',
  'test/flow/poison.test.ts',
  'test/flow/failover.test.ts',
  'test/flow/redis-lost.test.ts',
  'test/flow/mysql-set-back.test.ts',
  'test/flow/restore.test.ts',
  'test/flow/sale-changes.test.ts',
  'test/flow/waiting.test.ts',
];
/** An hour of made-up calls (`npm run test:openapi`); OPENAPI_CASES makes it shorter. */
const OPEN_API = ['test/api/schemathesis.test.ts'];
/** Fails on any other than Redis 8.2. */
const WHICH_REDIS = 'test/versions/redis.test.ts';
/** Scripts, stores and flows, once more on Redis 8.2 instead of the one that the machine has. */
const ON_REDIS_8 = [
  'test/lua/*.test.ts',
  'test/redis/*.test.ts',
  'test/stores/*.test.ts',
  'test/orders/*.test.ts',
  'test/sales/*.test.ts',
  'test/reconcile/*.test.ts',
  WHICH_REDIS,
  'test/flow/{purchase,rush,after-sale,money-back,late-money,sale-changes,redis-lost,failover,cluster}.test.ts',
];
/**
 * It counts what runs in its process, after all others: where each step takes long, also that runs which is
 * there for slow ones.
 */
const ALONE = ['test/house/ways.test.ts'];

/**
 * Most files wait for timers and servers, so two cores take more than two files at once. Each has a Redis, a
 * database and a namespace of its own. A Redis that the environment names is the only one, so the files take
 * turns there.
 */
const FILES_AT_ONCE = process.env['REDIS_URL'] ? 1 : 4;

export default defineConfig({
  test: {
    globalSetup: 'stack/test-setup.ts',
    maxWorkers: FILES_AT_ONCE,
    // Vitest begins with the first project by name: `deep` waits the longest, and `fast` fills that time.
    projects: [
      project('deep', { include: DEEP, exclude: [...configDefaults.exclude, ...STORM, WHICH_REDIS] }),
      // Its files share their processes: loading Temporal's client and worker anew took a quarter of the CPU
      // time.
      project('fast', {
        include: ['test/**/*.test.ts'],
        exclude: [...configDefaults.exclude, ...DEEP, ...ALONE, ...OPEN_API],
        isolate: false,
      }),
      project('alone', { include: ALONE, sequence: { groupOrder: 1 } }),
      project('storm', { include: STORM }),
      project('redis-8', { include: ON_REDIS_8 }),
      project('openapi', { include: OPEN_API }),
    ],
  },
});

function project(name: string, own: TestProjectInlineConfiguration['test']): TestProjectInlineConfiguration {
  return {
    test: {
      name,
      ...own,
      maxWorkers: FILES_AT_ONCE,
      setupFiles: 'test/support/workflows/no-worker-left.ts',
      // The Temporal worker's native module wants processes, not threads.
      pool: 'forks',
      // A real workflow on a real server takes seconds on a busy machine; this bounds a hang, it asserts no
      // speed.
      testTimeout: 180_000,
      hookTimeout: 240_000,
    },
  };
}
