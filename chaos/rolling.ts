/**
 * A rolling restart during a sale: each API and each worker
 * gets SIGTERM, ends and is started again, one at a time.
 */

import { createRandom } from './random.ts';
import type { System } from './system.ts';
import { runTrial, type TrialReport } from './trial.ts';

export interface RollingOptions {
  seed: number;
  orders: number;
  progress: (line: string) => void;
}

interface Restart {
  name: string;
  /** From SIGTERM until it had ended. */
  stoppedMs: number;
  /** From its start until it was ready. */
  readyMs: number;
}

export interface RollingReport extends TrialReport {
  restarts: Restart[];
}

export async function runRolling(system: System, options: RollingOptions): Promise<RollingReport> {
  const { seed, orders, progress } = options;
  const restarts: Restart[] = [];
  const trial = { saleId: `rolling-${seed}`, orders, random: createRandom(seed), seed, progress };
  const report = await runTrial(system, trial, async () => {
    for (const part of system.parts.filter(({ name }) => /^(api|worker)-/.test(name))) {
      const stoppedMs = await timed(() => part.stop());
      const readyMs = await timed(() => part.start());
      restarts.push({ name: part.name, stoppedMs, readyMs });
      progress(`${part.name} stopped in ${stoppedMs} ms and was ready again after ${readyMs} ms`);
    }
  });
  return { ...report, restarts };
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return Math.round(performance.now() - startedMs);
}
