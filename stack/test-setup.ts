/** Vitest's global setup: one private Redis, MySQL and Temporal on free ports for the whole test run. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { ProvidedContext } from 'vitest';
import type { TestProject } from 'vitest/node';
import { locateChromium } from './install/chromium.ts';
import { locateFaketime } from './install/faketime.ts';
import { locateRedis8 } from './install/redis-8.ts';
import { locateServers } from './install/server-packages.ts';
import { timeSkippingServerPath } from './install/time-skipping.ts';
import type { Processes } from './processes/processes.ts';
import { redisPackage, startRedis } from './servers/redis.ts';
import { launchServers, openDataDir } from './servers/servers.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** One for each file that runs at the same time: each begins with an empty one. */
    redisUrls: string[];
    mysqlUrl: string;
    temporalAddress: string;
    /** For `createTimeSkipping`; undefined when only the SDK's own download is left. */
    timeSkippingPath: string | undefined;
    /** Undefined when no browser is there and none can be installed. */
    chromiumPath: string | undefined;
    /** The library; undefined when it is not there and cannot be installed. */
    faketimePath: string | undefined;
  }
}

const progress = (line: string): void => console.log(`· ${line}`);
const onCrash = (crash: Error): void => console.error(crash.message);

/** Starts one stack for the whole run and returns the function that ends it. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const startedMs = Date.now();
  if (project.vitest.projects.some(({ name }) => name === 'redis-8')) await preferRedis8();
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-test-'));
  const open = (dir: string): Promise<Processes> =>
    openDataDir({ dataDir: dir, fresh: true, progress, onCrash });
  const processes = await open(dataDir);
  // Beside the first Redis, which the servers bring.
  // A project may have more files at once than the root.
  const filesAtOnce = Math.max(...project.vitest.projects.map(({ config }) => config.maxWorkers));
  const ofMoreRedises = await Promise.all(
    Array.from({ length: filesAtOnce - 1 }, (_, index) => open(join(dataDir, `redis-${index + 2}`))),
  );
  const all = [processes, ...ofMoreRedises];
  const disarm = killWhenInterrupted(dataDir, all);
  const end = async (): Promise<void> => {
    await Promise.all(all.map((each) => each.stopAll()));
    disarm();
    rmSync(dataDir, { recursive: true, force: true });
  };
  try {
    const [servers, timeSkippingPath, chromiumPath, faketimePath] = await Promise.all([
      launchServers(processes, { fresh: true, durable: false, progress }),
      timeSkippingServerPath(progress),
      locateChromium(progress),
      locateFaketime(progress),
    ]);
    const { redisUrl, mysqlUrl, temporalAddress } = servers;
    const redisUrls = [redisUrl, ...(await Promise.all(ofMoreRedises.map(startOneRedis)))];
    provideAll(project, {
      redisUrls,
      mysqlUrl,
      temporalAddress,
      timeSkippingPath,
      chromiumPath,
      faketimePath,
    });
  } catch (error) {
    await end();
    throw error;
  }
  progress(`Redis, MySQL and Temporal are up (${Date.now() - startedMs} ms)`);
  return end;
}

/** For this process and those of the test files, which begin later. */
async function preferRedis8(): Promise<void> {
  process.env['PATH'] = [await locateRedis8(progress), process.env['PATH']].join(delimiter);
}

function provideAll(project: TestProject, context: ProvidedContext): void {
  project.provide('redisUrls', context.redisUrls);
  project.provide('mysqlUrl', context.mysqlUrl);
  project.provide('temporalAddress', context.temporalAddress);
  project.provide('timeSkippingPath', context.timeSkippingPath);
  project.provide('chromiumPath', context.chromiumPath);
  project.provide('faketimePath', context.faketimePath);
}

async function startOneRedis(processes: Processes): Promise<string> {
  const [found] = await locateServers([redisPackage], progress);
  if (!found) throw new Error('Redis was asked for');
  return startRedis({ processes, found, fresh: true, durable: false });
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function exitOnSignal(_signal: NodeJS.Signals, number: number): void {
  process.exit(128 + number);
}

/** An interrupted vitest exits without a teardown; at that point only what is synchronous still happens. */
function killWhenInterrupted(dataDir: string, all: readonly Processes[]): () => void {
  const killAll = (): void => {
    for (const processes of all) processes.killAllNow();
    rmSync(dataDir, { recursive: true, force: true });
  };
  process.on('exit', killAll);
  for (const signal of signals) process.on(signal, exitOnSignal);
  return () => {
    process.off('exit', killAll);
    for (const signal of signals) process.off(signal, exitOnSignal);
  };
}
