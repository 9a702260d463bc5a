import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { LongestFirst, SlowestFiles } from './stack/slowest-files.ts';

/** What `npm run test:slow` runs: processes that die or are exchanged, a browser, clusters, long ways. */
const SLOW = [
  'test/api/orders/watch-faults.test.ts',
  'test/audit/command.test.ts',
  'test/browser/*.test.ts',
  'test/client/purchase.test.ts',
  'test/chaos/{back-office,failover,history,push-receiver}.test.ts',
  'test/deploy/*.test.ts',
  'test/doctor/*.test.ts',
  'test/flow/{alerts,slow-alerts}.test.ts',
  'test/flow/{clocks,drift,failover,mysql-set-back,operator-hands,poison,redis-lost,restore}.test.ts',
  'test/flow/{cluster,watch-cluster,sale-changes,temporal-lost,two-deployments,waiting}.test.ts',
  'test/monitoring/*.test.ts',
  'test/mysql/plans/*.test.ts',
  'test/prepare.test.ts',
  'test/providers/provider-check.test.ts',
  'test/providers/stripe/requests.test.ts',
  'test/stack/{bootstrap,dev,given-mysql,left-behind,processes,servers,supervisor}.test.ts',
  'test/versions/{patched,versions}.test.ts',
];
/** Part of `test:slow`: each file has a process of its own, as one of them listens to its whole process. */
const CRASH = ['test/crash/*.test.ts'];
/** Eight faults, two of each family, and a rolling restart; STORM_FAULTS says how many. */
const STORM = ['test/chaos/storm.test.ts'];
/** Only a release waits for these: a calling-off under chaos, and the audit against faults in the code. */
const FAULTS = ['test/audit/deliberate-faults.test.ts', 'test/chaos/call-off.test.ts'];
/** Some eight minutes of made-up calls (`npm run test:openapi`); OPENAPI_CASES says how many an operation. */
const OPEN_API = ['test/api/schemathesis.test.ts'];
/** The images of the Dockerfile, built and run by podman, and a second reader of the compose file. */
const IMAGE = ['test/image/*.test.ts'];
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
/** All that sends SQL, once more on MySQL instead of MariaDB. */
const ON_MYSQL = [
  'test/{activities,audit,events,money,mysql,ops,orders,parked,reconcile,sales,status,stores}/**/*.test.ts',
  'test/{push,workers}/*.test.ts',
  'test/flow/{after-sale,call-off,charges,drift,erase-person,extended-deadlines,free-orders}.test.ts',
  'test/flow/{late-money,money-back,mysql-set-back,opaque-ids,order-lines,purchase,redis-lost}.test.ts',
  'test/flow/{restore,rush,sale-changes}.test.ts',
];
/** What depends on the Node version: HTTP, sockets, streams, processes, Temporal's native module. */
const SMOKE = [
  'test/api/http/*.test.ts',
  'test/flow/purchase.test.ts',
  'test/mysql/connection.test.ts',
  'test/push/*.test.ts',
  'test/redis/*.test.ts',
  'test/replay/*.test.ts',
  'test/stack/{dev,ports,processes,supervisor}.test.ts',
  'test/workers/heap-growth.test.ts',
];

/**
 * Most files wait for timers and servers, so two cores take more than two files at once. Each has a Redis, a
 * database and a namespace of its own. A Redis that the environment names is the only one, so the files take
 * turns there.
 */
const FILES_AT_ONCE = process.env['REDIS_URL'] ? 1 : 4;

/** Where CI wants a report of the run. */
const reportFile = process.env['TEST_REPORT'];

export default defineConfig({
  test: {
    globalSetup: 'stack/test-setup.ts',
    maxWorkers: FILES_AT_ONCE,
    sequence: { sequencer: LongestFirst },
    reporters: [
      'default',
      new SlowestFiles(),
      ...(reportFile ? [['json', { outputFile: reportFile }] as ['json', { outputFile: string }]] : []),
    ],
    projects: [
      // Its files share their processes: loading Temporal's client and worker anew took a quarter of the CPU
      // time.
      project('fast', {
        include: ['test/**/*.test.ts'],
        exclude: [
          ...configDefaults.exclude,
          ...SLOW,
          ...CRASH,
          ...STORM,
          ...FAULTS,
          ...OPEN_API,
          ...IMAGE,
          WHICH_REDIS,
        ],
        isolate: false,
      }),
      project('slow', { include: SLOW, isolate: false }),
      // Each point has four processes: more of them at once only wait for each other.
      project('crash', { include: CRASH, maxConcurrency: 2 }),
      project('smoke', { include: SMOKE, isolate: false }),
      project('storm', { include: STORM }),
      project('faults', { include: FAULTS }),
      project('redis-8', { include: ON_REDIS_8 }),
      project('mysql', { include: ON_MYSQL, exclude: FAULTS, isolate: false }),
      project('openapi', { include: OPEN_API }),
      project('image', { include: IMAGE }),
    ],
  },
});

function project(name: string, own: TestProjectInlineConfiguration['test']): TestProjectInlineConfiguration {
  return {
    test: {
      name,
      ...own,
      maxWorkers: FILES_AT_ONCE,
      setupFiles: 'test/support/end-of-file.ts',
      // The Temporal worker's native module wants processes, not threads.
      pool: 'forks',
      // A real workflow on a real server takes seconds on a busy machine; this bounds a hang, it asserts no
      // speed.
      testTimeout: 180_000,
      hookTimeout: 240_000,
    },
  };
}
