/** How long each test file takes: what a run prints of it at its end, and the order of the next one. */

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { BaseSequencer, type Reporter, type TestModule, type TestSpecification } from 'vitest/node';
import { z } from 'zod';
import { cacheDir } from './install/cache.ts';
import { repoDir } from './install/repo-dir.ts';

/** They take about half the time of `npm test`. The other files differ by less than the noise. */
const SHOWN = 30;
/** A run of a few files, as while one works on them, needs no list. */
const LEAST_FILES = 10;

/** Milliseconds by project and path, as in `fast test/lua/headers.test.ts`. */
const durations = z.record(z.string(), z.number());

/** Prints the slowest files of a run, with what they took the last time on this machine. */
export class SlowestFiles implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    if (modules.length < LEAST_FILES) return;
    const before = readDurations();
    const now = modules.map((module) => ({
      name: nameOf(module.project.name, module.moduleId),
      ms: timeOf(module),
    }));
    const sum = now.reduce((total, { ms }) => total + ms, 0);
    console.log(
      `\n· The slowest of ${modules.length} files, which took ${seconds(sum)} one after the other:`,
    );
    for (const { name, ms } of now.toSorted((a, b) => b.ms - a.ms).slice(0, SHOWN))
      console.log(`  ${seconds(ms).padStart(8)}  ${name}${trend(before[name])}`);
    writeDurations({ ...before, ...Object.fromEntries(now.map(({ name, ms }) => [name, ms])) });
  }
}

/** Begins with the files that took longest, so that none of them runs alone at the end. */
export class LongestFirst extends BaseSequencer {
  override sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const known = readDurations();
    // A file that never ran here may be a long one.
    const msOf = ({ project, moduleId }: TestSpecification): number =>
      known[nameOf(project.name, moduleId)] ?? Number.MAX_SAFE_INTEGER;
    return Promise.resolve(files.toSorted((a, b) => msOf(b) - msOf(a)));
  }
}

function timeOf(module: TestModule): number {
  const { collectDuration, duration, prepareDuration, setupDuration } = module.diagnostic();
  return Math.round(collectDuration + duration + prepareDuration + setupDuration);
}

function trend(beforeMs: number | undefined): string {
  return beforeMs === undefined ? '' : ` (${seconds(beforeMs)} the last time)`;
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
const nameOf = (project: string, file: string): string => `${project} ${relative(repoDir, file)}`;
/** In the user's cache, where a fresh clone finds it too. */
const file = (): string => join(cacheDir(), 'test-durations.json');

function readDurations(): Record<string, number> {
  if (!existsSync(file())) return {};
  const read = durations.safeParse(JSON.parse(readFileSync(file(), 'utf8')));
  // Another version of this module may have written another form.
  return read.success ? read.data : {};
}

/** Written beside and renamed, because another run may read it. */
function writeDurations(all: Record<string, number>): void {
  const beside = `${file()}.${process.pid}`;
  writeFileSync(beside, JSON.stringify(all));
  renameSync(beside, file());
}
