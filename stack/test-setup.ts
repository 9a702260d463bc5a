import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProvidedContext } from 'vitest';
import type { TestProject } from 'vitest/node';
import { locateChromium } from './install/chromium.ts';
import { timeSkippingServerPath } from './install/time-skipping.ts';
import type { Processes } from './processes/processes.ts';
import { launchServers, openDataDir } from './servers/servers.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    redisUrl: string;
    mysqlUrl: string;
    temporalAddress: string;
    /** For `createTimeSkipping`; undefined when only the SDK's own download is left. */
    timeSkippingPath: string | undefined;
    /** Undefined when no browser can be had. */
    chromiumPath: string | undefined;
  }
}

const progress = (line: string): void => console.log(`· ${line}`);
const onCrash = (crash: Error): void => console.error(crash.message);

/** Starts one stack for the whole run and answers how to end it. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const startedMs = Date.now();
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-test-'));
  const processes = await openDataDir({ dataDir, fresh: true, progress, onCrash });
  const disarm = killWhenInterrupted(processes);
  const end = async (): Promise<void> => {
    await processes.stopAll();
    disarm();
    rmSync(dataDir, { recursive: true, force: true });
  };
  try {
    const [servers, timeSkippingPath, chromiumPath] = await Promise.all([
      launchServers(processes, { fresh: true, temporalInMemory: true, durable: false, progress }),
      timeSkippingServerPath(progress),
      locateChromium(progress),
    ]);
    const { redisUrl, mysqlUrl, temporalAddress } = servers;
    provideAll(project, { redisUrl, mysqlUrl, temporalAddress, timeSkippingPath, chromiumPath });
  } catch (error) {
    await end();
    throw error;
  }
  progress(`Redis, MySQL and Temporal are up (${Date.now() - startedMs} ms)`);
  return end;
}

function provideAll(project: TestProject, context: ProvidedContext): void {
  project.provide('redisUrl', context.redisUrl);
  project.provide('mysqlUrl', context.mysqlUrl);
  project.provide('temporalAddress', context.temporalAddress);
  project.provide('timeSkippingPath', context.timeSkippingPath);
  project.provide('chromiumPath', context.chromiumPath);
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function exitOnSignal(_signal: NodeJS.Signals, number: number): void {
  process.exit(128 + number);
}

/** An interrupted vitest exits without a teardown; at that point only what is synchronous still happens. */
function killWhenInterrupted(processes: Processes): () => void {
  const killAll = (): void => {
    processes.killAllNow();
    rmSync(processes.dataDir, { recursive: true, force: true });
  };
  process.on('exit', killAll);
  for (const signal of signals) process.on(signal, exitOnSignal);
  return () => {
    process.off('exit', killAll);
    for (const signal of signals) process.off(signal, exitOnSignal);
  };
}
