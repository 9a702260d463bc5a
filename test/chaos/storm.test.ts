/**
 * The chaos suite as CI runs it: processes are killed, wires struck, data lost and workflows meddled with,
 * and a rolling restart follows.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { faultsOfRolling, faultsOfStorm } from '../../chaos/report.ts';
import { runRolling } from '../../chaos/rolling.ts';
import { runStorm, type StormReport } from '../../chaos/storm.ts';
import { startSystem } from '../../chaos/system.ts';
import { openTestProcesses, type TestProcesses } from '../support/test-processes.ts';

/**
 * Two each of kills, struck wires, lost data and meddling, which takes some three minutes. A release has
 * STORM_FAULTS=100; a storm of any length is `npm run chaos`.
 */
const FAULTS = Number(process.env['STORM_FAULTS'] ?? 8);
/** With this many faults or more, the traffic reaches every way of an order. */
const FAULTS_FOR_ALL_WAYS = 22;
/** A fault takes 6 to 18 s, and 40 on a busy machine; the start, the end and late money take minutes. */
const TIMEOUT_MS = 10 * 60_000 + FAULTS * 40_000;

const progress = (line: string): void => console.log(`· ${line}`);

let own: TestProcesses;
let system: Awaited<ReturnType<typeof startSystem>> | undefined;

beforeAll(async () => {
  own = await openTestProcesses((crash, name) => system?.supervise(crash, name));
  system = await startSystem(own.processes, progress);
});
afterAll(async () => {
  await system?.close();
  await own.close();
});

function running(): NonNullable<typeof system> {
  if (!system) throw new Error('the system has not started');
  return system;
}

test(
  'a sale survives a storm: every fault is recovered from, every answer stays true, every unit and cent is there',
  { timeout: TIMEOUT_MS },
  async () => {
    const report = await runStorm(running(), { seed: 7, faults: FAULTS, only: '', orders: 0, progress });

    expect(faultsOfStorm(report)).toEqual([]);
    expect(report.struck).toHaveLength(FAULTS);
    expect(report.answers.get('accepted')).toBeGreaterThan(0);
    expect(report.neighbour.ends.get('paid')).toBeGreaterThan(0);
    if (FAULTS >= FAULTS_FOR_ALL_WAYS) expectAllWays(report);
  },
);

test(
  'a rolling restart under load fails no call of a client that repeats',
  { timeout: TIMEOUT_MS },
  async () => {
    const report = await runRolling(running(), { seed: 8, orders: 0, progress });

    expect(faultsOfRolling(report)).toEqual([]);
    expect(report.restarts.map(({ name }) => name)).toEqual(['api-1', 'api-2', 'worker-1', 'worker-2']);
  },
);

/** Each mischief, each way to follow an order, and each act of staff has come about. */
function expectAllWays(report: StormReport): void {
  const { duplicate, reorder, drop, late } = report.mischief;
  expect(Math.min(duplicate, reorder, drop, late)).toBeGreaterThan(0);
  expect(report.books.returned.amount).toBeGreaterThan(0);
  const { pulled, pushed } = report.backOffice.notices;
  // Whether a wait runs out is left to the faults: test/flow/waiting.test.ts has some that do.
  const { timedOut: _, ...history } = report.history;
  const ways = { ...history, pulled, pushed, free: report.ends.get('of them free') };
  for (const [way, times] of Object.entries(ways)) expect(times, way).toBeGreaterThan(0);
  expect(report.answers.get('called_off')).toBeGreaterThan(0);
  for (const done of [
    'changes made',
    'refunds of all',
    'refunds of a line',
    'deadlines extended',
    'extended orders that ended at their later deadline',
    'orders cancelled as called off',
    'orders refunded as called off',
  ])
    expect(report.byShop.get(done), done).toBeGreaterThan(0);
}
