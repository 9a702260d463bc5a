/**
 * `npm run chaos -- [--rolling] [--seed N] [--faults N] [--only NAME]
 * [--orders N]`: a sale in a storm, or a rolling restart.
 * `npm run chaos -- --failover redis|mysql [--times N]`: failovers after which the old server lives on.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Processes } from '../stack/processes/processes.ts';
import { openDataDir } from '../stack/servers/servers.ts';
import { FAILED_OVER, printFailovers, runFailover, type FailoverReport } from './failover.ts';
import { faultsOfRolling, faultsOfStorm, printRolling, printStorm, printTrial } from './report.ts';
import { runRolling } from './rolling.ts';
import { runStorm, type StormOptions } from './storm.ts';
import { startSystem, type System } from './system.ts';

/** Of every other failover. */
const LAG_MS = 1_000;
const PURCHASES_PER_SECOND = 50;

const progress = (line: string): void => console.log(`· ${line}`);

process.exitCode = await main();

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return 1;
  if (options.failover !== undefined) return failOver(options.failover, options.times);
  let system: (System & { supervise(crash: Error, name: string): void }) | undefined;
  const onCrash = (crash: Error, name: string): void => system?.supervise(crash, name);
  const passed = await withProcesses(onCrash, async (processes) => {
    system = await startSystem(processes, progress);
    progress(`seed ${options.seed}, at least ${options.orders} orders`);
    const isGood = await (options.rolling ? roll(system, options) : storm(system, options));
    await system.close();
    return isGood;
  });
  return passed ? 0 : 1;
}

/** @param work returns whether nothing was found wrong: the logs of what broke something are worth having */
async function withProcesses(
  onCrash: (crash: Error, name: string) => void,
  work: (processes: Processes) => Promise<boolean>,
): Promise<boolean> {
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-chaos-'));
  const processes = await openDataDir({ dataDir, fresh: true, progress, onCrash });
  const stopOnSignal = (): void => {
    processes.killAllNow();
    process.exit(130);
  };
  // Not `once`: a terminal and npm both send the signal, and
  // without a listener the second one would end us half-way.
  process.on('SIGINT', stopOnSignal).on('SIGTERM', stopOnSignal);
  let passed = false;
  try {
    passed = await work(processes);
  } finally {
    await processes.stopAll();
    if (passed) rmSync(dataDir, { recursive: true, force: true });
    else progress(`logs and data are left in ${dataDir}`);
    process.off('SIGINT', stopOnSignal).off('SIGTERM', stopOnSignal);
  }
  return passed;
}

/** Each time once with a replica that has all, and once with one that has got nothing for a second. */
async function failOver(store: FailoverReport['store'], times: number): Promise<number> {
  const reports: FailoverReport[] = [];
  for (let i = 0; i < 2 * times; i += 1) {
    const crashes: string[] = [];
    await withProcesses(
      (_, name) => void crashes.push(name),
      async (processes) => {
        const report = await runFailover(processes, crashes, {
          store,
          lagMs: i % 2 === 0 ? 0 : LAG_MS,
          purchasesPerSecond: PURCHASES_PER_SECOND,
          progress,
        });
        reports.push(report);
        printFailovers([report]);
        return report.faults.length === 0;
      },
    );
  }
  printFailovers(reports);
  return reports.every(({ faults }) => faults.length === 0) ? 0 : 1;
}

/** @returns whether nothing was found wrong */
async function storm(system: System, options: Options): Promise<boolean> {
  const report = await runStorm(system, options);
  const faults = faultsOfStorm(report);
  printStorm(report);
  printTrial(report, system.crashes, faults);
  return faults.length === 0;
}

async function roll(system: System, options: Options): Promise<boolean> {
  const report = await runRolling(system, options);
  const faults = faultsOfRolling(report);
  printRolling(report);
  printTrial(report, system.crashes, faults);
  return faults.length === 0;
}

interface Options extends StormOptions {
  rolling: boolean;
  failover: FailoverReport['store'] | undefined;
  times: number;
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        rolling: { type: 'boolean', default: false },
        seed: { type: 'string', default: String(Date.now() % 1_000_000) },
        faults: { type: 'string', default: '22' },
        only: { type: 'string', default: '' },
        orders: { type: 'string', default: '1000' },
        failover: { type: 'string' },
        times: { type: 'string', default: '1' },
      },
    });
    const { rolling, only } = values;
    const failover = FAILED_OVER.find((store) => store === values.failover);
    const [seed, faults, orders, times] = [values.seed, values.faults, values.orders, values.times].map(
      Number,
    );
    if (seed === undefined || faults === undefined || orders === undefined || times === undefined)
      return undefined;
    const areCounts = [seed, faults, orders, times].every((value) => Number.isInteger(value) && value >= 0);
    if (areCounts && (failover !== undefined || values.failover === undefined)) {
      return { rolling, seed, faults, only, orders, failover, times, progress };
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
  }
  console.error(
    'Usage: npm run chaos -- [--rolling] [--seed N] [--faults N] [--only NAME] [--orders N]\n       npm run chaos -- --failover redis|mysql [--times N]',
  );
  return undefined;
}
