/**
 * `npm run chaos -- [--rolling] [--seed N] [--faults N] [--only NAME]
 * [--orders N]`: a sale in a storm, or a rolling restart.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openDataDir } from '../stack/servers/servers.ts';
import { faultsOfRolling, faultsOfStorm, printRolling, printStorm, printTrial } from './report.ts';
import { runRolling } from './rolling.ts';
import { runStorm, type StormOptions } from './storm.ts';
import { startSystem, type System } from './system.ts';

const progress = (line: string): void => console.log(`· ${line}`);

process.exitCode = await main();

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return 1;
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-chaos-'));
  let system: (System & { supervise(crash: Error, name: string): void }) | undefined;
  const onCrash = (crash: Error, name: string): void => system?.supervise(crash, name);
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
    system = await startSystem(processes, progress);
    progress(`seed ${options.seed}, at least ${options.orders} orders`);
    passed = await (options.rolling ? roll(system, options) : storm(system, options));
    await system.close();
  } finally {
    await processes.stopAll();
    // The logs of a storm that broke something are worth having.
    if (passed) rmSync(dataDir, { recursive: true, force: true });
    else progress(`logs and data are left in ${dataDir}`);
    process.off('SIGINT', stopOnSignal).off('SIGTERM', stopOnSignal);
  }
  return passed ? 0 : 1;
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
      },
    });
    const [seed, faults, orders] = [values.seed, values.faults, values.orders].map(Number);
    if (seed === undefined || faults === undefined || orders === undefined) return undefined;
    if ([seed, faults, orders].every((value) => Number.isInteger(value) && value >= 0)) {
      return { rolling: values.rolling, seed, faults, only: values.only, orders, progress };
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
  }
  console.error('Usage: npm run chaos -- [--rolling] [--seed N] [--faults N] [--only NAME] [--orders N]');
  return undefined;
}
