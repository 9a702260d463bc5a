/** A sale in a storm: one fault after the other strikes, and each time the system must recover by itself. */

import { setTimeout as delay } from 'node:timers/promises';
import { planFaults, takeFaults, type PlannedFault } from './faults.ts';
import type { History } from './history.ts';
import { createRandom } from './random.ts';
import { CALLED_OFF_SKU } from './sale.ts';
import type { System } from './system.ts';
import { runTrial, type TrialReport } from './trial.ts';

const CALM_MS = { min: 0, max: 500 };

export interface StormOptions {
  seed: number;
  faults: number;
  /** As in `FaultPlan`. */
  only: string;
  orders: number;
  progress: (line: string) => void;
}

interface StruckFault {
  name: string;
  /** Orders that had been accepted and had not ended when it struck. */
  inFlight: string[];
  /**
   * From its end until both APIs could sell, be paid and
   * cancel again; undefined when that took over two minutes.
   */
  recoveredMs: number | undefined;
}

export interface StormReport extends TrialReport {
  /** What the same probe takes without a fault. */
  calmMs: number | undefined;
  struck: StruckFault[];
}

export async function runStorm(system: System, options: StormOptions): Promise<StormReport> {
  const { seed, orders, progress } = options;
  const random = createRandom(seed);
  const saleId = `storm-${seed}`;
  const faults = planFaults(system, random, { saleId, count: options.faults, only: options.only });
  const struck: StruckFault[] = [];
  let calmMs: number | undefined;
  const trial = { saleId, orders, random, seed, progress };
  const report = await runTrial(system, trial, async (crowd, history) => {
    calmMs = await crowd.recover();
    const half = faults.length / 2;
    let callingOff: Promise<void> | undefined;
    while (faults.length > 0) {
      if (faults.length <= half) callingOff ??= crowd.shopStaff.callOff(CALLED_OFF_SKU);
      await delay(random.int(CALM_MS.min, CALM_MS.max));
      const inFlight = crowd.open();
      const together = takeFaults(faults, random);
      await Promise.all(together.map((fault) => strike(fault, history)));
      const recoveredMs = await crowd.recover();
      for (const { name, lastsMs } of together) {
        struck.push({ name, inFlight, recoveredMs });
        const came = recoveredMs === undefined ? 'NOT RECOVERED' : `recovered in ${seconds(recoveredMs)}`;
        progress(`${struck.length}/${options.faults} ${name} for ${seconds(lastsMs)}: ${came}`);
      }
    }
    await callingOff;
  });
  return { ...report, calmMs, struck };
}

/** Writes down what the fault does to Redis: only that excuses some answers. */
async function strike({ name, run }: PlannedFault, { losses, redisStruck }: History): Promise<void> {
  const span = { startMs: Date.now(), endMs: Infinity };
  if (name.includes('redis')) redisStruck.push(span);
  await run((lost) => losses.push({ ...lost, name }));
  span.endMs = Date.now();
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
