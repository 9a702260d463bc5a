/**
 * `npm run bench -- compare [--only accept,poll] [--rounds 3]`: measures Holdfast beside what it competes
 * with, and writes docs/benchmarks.md and the figures of README.md. A part that fails says so, and the others
 * are measured all the same. `--check` measures nothing, and lists the parts that are older than the code.
 */

import { parseArgs } from 'node:util';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { takeLifted } from '../lifted-bound.ts';
import { findOutdated } from './check.ts';
import { readEnvironment } from './environment.ts';
import { mediansOf } from './judgement.ts';
import { resultsFile, writePage } from './page.ts';
import type { Part } from './part.ts';
import { PARTS } from './parts.ts';
import { createProgress, expectSeconds, type Progress } from './progress.ts';
import {
  judgementsOf,
  mergeResults,
  readResults,
  toPartResult,
  writeResults,
  type Environment,
  type PartResult,
  type Results,
} from './results.ts';
import { measureRounds, type Measurement } from './rounds.ts';
import { figuresTable, formatFigure, judgementsTable } from './tables.ts';

const DEFAULT_ROUNDS = 3;

interface Request {
  parts: readonly Part[];
  rounds: number;
  isCheck: boolean;
}

/** @returns the exit code: 1 when a part failed; a target that is not met is a result */
export async function compare(args: readonly string[]): Promise<number> {
  const request = parseRequest(args);
  if (typeof request === 'string') {
    console.error(request);
    return 1;
  }
  if (request.isCheck) return printOutdated(request.parts);
  const exitCode = await measureParts(
    request.parts.map((part) => ({
      part,
      rounds: Math.min(request.rounds, part.roundsMax ?? request.rounds),
    })),
    { file: resultsFile, names: PARTS.map(({ name }) => name), writePage },
  );
  console.log(`README.md, docs/benchmarks.md, its charts and results.json are up to date`);
  return exitCode;
}

/**
 * Measures parts one after the other, and keeps each result in `file`, which has the parts of these names.
 * @returns the exit code, as `compare`
 */
export async function measureParts(
  wanted: readonly { part: Part; rounds: number }[],
  into: { file: string; names: readonly string[]; writePage: (results: Results) => unknown },
): Promise<number> {
  const { file, names } = into;
  const progress = createProgress(process.stdout);
  const environment = await readEnvironment();
  const failed: string[] = [];
  for (const { part, rounds } of wanted) {
    const startedMs = performance.now();
    progress.line(`${part.name}: ${part.about}`);
    try {
      const earlier = readResults(file);
      const result = await measurePart(part, { rounds, environment, progress, earlier });
      // After each part, so that a later one that ends this process loses nothing.
      const merged = mergeResults(readResults(file), [result], names);
      writeResults(file, merged);
      into.writePage(merged);
      console.log(summaryOf(result));
      progress.line(`${part.name} took ${((performance.now() - startedMs) / 1_000).toFixed(0)} s`);
    } catch (error) {
      failed.push(part.name);
      progress.stepFailed();
      console.error(`✗ ${part.name} failed; its earlier result stays as it was:\n${describe(error)}\n`);
    }
  }
  progress.stop();
  if (failed.length > 0) console.error(`✗ failed: ${failed.join(', ')}`);
  return failed.length === 0 ? 0 : 1;
}

/** Nothing fails by it: figures may be older than the code, but not unnoticed. */
async function printOutdated(parts: readonly Part[]): Promise<number> {
  const names = parts.map(({ name }) => name);
  const outdated = await findOutdated({ repo: repoDir, names, results: readResults(resultsFile) });
  for (const { name, reason } of outdated) console.log(`${name}: ${reason}`);
  console.log(`${outdated.length} of ${names.length} parts are older than src, lua or the part itself`);
  return 0;
}

function parseRequest(args: readonly string[]): Request | string {
  const names = PARTS.map(({ name }) => name);
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { only: { type: 'string' }, rounds: { type: 'string' }, check: { type: 'boolean' } },
    });
    const wanted = values.only?.split(',') ?? names;
    const unknown = wanted.find((name) => !names.includes(name));
    if (unknown !== undefined) return `There is no part "${unknown}". The parts: ${names.join(', ')}`;
    const rounds = Number(values.rounds ?? DEFAULT_ROUNDS);
    if (!Number.isInteger(rounds) || rounds < 1) return '--rounds takes a whole number, 1 or more';
    const parts = PARTS.filter(({ name }) => wanted.includes(name));
    return { parts, rounds, isCheck: values.check ?? false };
  } catch (error) {
    return `${describe(error)}\nUsage: npm run bench -- compare [--only ${names.join(',')}] [--rounds ${DEFAULT_ROUNDS}] [--check]`;
  }
}

async function measurePart(
  part: Part,
  options: { rounds: number; environment: Environment; progress: Progress; earlier: Results },
): Promise<PartResult> {
  const { rounds, environment, progress, earlier } = options;
  // An earlier part that failed may have left its own.
  takeLifted();
  const open = await part.open(progress.line);
  try {
    const { contestants } = open;
    const measured: Measurement[] = [];
    const expected = expectSeconds({
      contestants: contestants.map(({ name }) => name),
      rounds,
      measured,
      earlier: earlier.parts.find(({ name }) => name === part.name)?.measurements ?? [],
    });
    const measurements = await measureRounds({
      contestants,
      columns: part.columns,
      rounds,
      watcher: {
        began({ round, contestant }) {
          const [step, rest] = [expected.secondsOf(contestant), expected.rest()];
          const expectedSeconds = step === undefined || rest === undefined ? undefined : { step, rest };
          progress.began({ part: part.name, round, rounds, contestant, expectedSeconds });
        },
        ended(measurement) {
          measured.push(measurement);
          const figures = part.columns.map((column) => {
            const text = formatFigure(measurement.figures[column.key], column);
            return `${column.label} ${text}`;
          });
          progress.ended(figures.join(', '));
        },
      },
    });
    const notes = open.notes?.() ?? [];
    return toPartResult({
      part,
      contestants: [...contestants],
      measurements,
      notes,
      lifted: takeLifted(),
      rounds,
      environment,
    });
  } finally {
    await open.close();
  }
}

function summaryOf(result: PartResult): string {
  const { title, lifted, contestants, columns, measurements, notes } = result;
  return [
    '',
    title,
    '',
    ...(lifted === undefined ? [] : [lifted, '']),
    ...figuresTable(contestants, columns, mediansOf(measurements)),
    '',
    ...(result.targets.length === 0 ? [] : [...judgementsTable(judgementsOf(result)), '']),
    ...notes.map((note) => `- ${note}`),
    '',
  ].join('\n');
}

/** With its causes: the outer message says where, the inner one what. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined
    ? (error.stack ?? error.message)
    : `${error.message}: ${describe(error.cause)}`;
}
