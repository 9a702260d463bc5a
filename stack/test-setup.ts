/**
 * Vitest's global setup: one private MySQL and Temporal on free ports for the whole test run. Each file
 * starts a Redis of its own.
 */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { ProvidedContext } from 'vitest';
import type { TestProject } from 'vitest/node';
import { locateMysql } from './install/mysql-server.ts';
import { locateRedis8 } from './install/redis-8.ts';
import { locateTools, type Tools } from './install/test-tools.ts';
import { timeSkippingServerPath } from './install/time-skipping.ts';
import type { Processes } from './processes/processes.ts';
import { launchMysql, launchTemporal, locateStores, openDataDir } from './servers/servers.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    mysqlUrl: string;
    temporalAddress: string;
    /** The program; undefined when it cannot be had. */
    timeSkippingPath: string | undefined;
    /** The tools that the projects of this run need. */
    tools: Tools;
  }
}

const progress = (line: string): void => console.log(`· ${line}`);
const onCrash = (crash: Error): void => console.error(crash.message);

/** Starts one stack for the whole run and returns the function that ends it. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const startedMs = Date.now();
  const projects = project.vitest.projects.map(({ name }) => name);
  await chooseServer(process.env['TEST_SERVER']);
  // stack/bootstrap.mjs names it, and ends what names it; a vitest that was started without it has one too.
  const dataDir = process.env['HOLDFAST_TEST_RUN'] ?? mkdtempSync(join(tmpdir(), 'holdfast-test-'));
  const processes = await openDataDir({ dataDir, fresh: true, progress, onCrash });
  const disarm = killWhenInterrupted(processes);
  const end = async (): Promise<void> => {
    await processes.stopAll();
    disarm();
    rmSync(dataDir, { recursive: true, force: true });
  };
  try {
    const options = { fresh: true, durable: false, progress };
    const [mysqlUrl, temporal, timeSkippingPath, tools] = await Promise.all([
      locateStores(progress).then(({ mysql }) => launchMysql(processes, options, mysql)),
      launchTemporal(processes, options),
      timeSkippingServerPath(progress),
      locateTools(projects, progress),
    ]);
    const temporalAddress = temporal.address;
    provideAll(project, { mysqlUrl, temporalAddress, timeSkippingPath, tools });
  } catch (error) {
    await end();
    throw error;
  }
  // The processes of the test files begin later and inherit it, and so does all that they start.
  process.env['TMPDIR'] = join(dataDir, 'tmp');
  mkdirSync(process.env['TMPDIR']);
  progress(`MySQL and Temporal are up (${Date.now() - startedMs} ms)`);
  return end;
}

/**
 * For this process and those of the test files, which begin later.
 * @param name as stack/bootstrap.mjs gives it; undefined: the servers of the machine
 */
async function chooseServer(name: string | undefined): Promise<void> {
  switch (name) {
    case 'redis-8':
      process.env['PATH'] = [await locateRedis8(progress), process.env['PATH']].join(delimiter);
      break;
    case 'mysql':
      if (!process.env['MYSQL_URL']) process.env['HOLDFAST_MYSQLD'] = await locateMysql(progress);
      break;
    case undefined:
      break;
    default:
      throw new Error(`TEST_SERVER is ${name}, and may be redis-8 or mysql`);
  }
}

function provideAll(project: TestProject, context: ProvidedContext): void {
  project.provide('mysqlUrl', context.mysqlUrl);
  project.provide('temporalAddress', context.temporalAddress);
  project.provide('timeSkippingPath', context.timeSkippingPath);
  project.provide('tools', context.tools);
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
