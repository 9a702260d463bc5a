/**
 * Runs property tests: with the same cases in each run of the tests, so that a change is judged by what it
 * changed, and with new ones in `npm run explore`.
 */

import { createHash } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { relative } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { expect } from 'vitest';
import { EXPLORE, REPEAT, type BatchLine } from '../../stack/exploration.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';

const SEED = 11;

/** @throws with the shortest case that breaks the property, its seed and its path */
export async function assertProperty<Ts>(
  property: fc.IAsyncProperty<Ts> | fc.IProperty<Ts>,
  { numRuns }: { numRuns: number },
): Promise<void> {
  const { [EXPLORE.log]: log, [REPEAT.seed]: seed = SEED, [REPEAT.path]: path } = process.env;
  if (log === undefined) {
    await fc.assert(property, { numRuns, seed: Number(seed), ...(path !== undefined && { path }) });
    return;
  }
  const { currentTestName: title = '', testPath = '' } = expect.getState();
  const untilMs = Date.now() + Number(process.env[EXPLORE.sliceMs]);
  for (let batch = 0; Date.now() < untilMs; batch += 1) {
    const details = await fc.check(property, { numRuns, seed: drawSeed(title, batch) });
    const line: BatchLine = { title, cases: details.numRuns };
    if (details.failed) {
      const report = fc.defaultReportMessage(details) ?? '';
      line.found = { report, command: commandOf({ file: relative(repoDir, testPath), title, ...details }) };
    }
    appendFileSync(log, `${JSON.stringify(line)}\n`);
    if (line.found) throw new Error(line.found.report);
    // A property that waits for nothing must not keep the process from answering.
    await turn();
  }
}

function drawSeed(title: string, batch: number): number {
  const text = `${process.env[EXPLORE.seed]} ${title} ${batch}`;
  return createHash('sha256').update(text).digest().readInt32BE();
}

interface Case {
  file: string;
  title: string;
  seed: number;
  counterexamplePath: string | null;
}

function commandOf({ file, title, seed, counterexamplePath }: Case): string {
  const path = counterexamplePath === null ? '' : ` ${REPEAT.path}=${counterexamplePath}`;
  return `${REPEAT.seed}=${seed}${path} npm test -- ${file} -t ${JSON.stringify(title)}`;
}
