/**
 * `npm run explore -- --minutes N [--seed N]`: tries the property tests with new cases until the time is
 * over, or until one is broken.
 */

import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { batchLine, EXPLORE, type BatchLine } from './exploration.ts';
import { repoDir } from './install/repo-dir.ts';

const MINUTE_MS = 60_000;
/** Each property of a file has this time in a round; its servers start anew with each. */
const SLICE_MS = 2 * MINUTE_MS;
/** With the time in which a broken case is made as short as it can be. */
const TEST_TIMEOUT_MS = 15 * MINUTE_MS;
const REPORT_EVERY_MS = 30_000;
const SEEDS = 2 ** 31;
/** By this import a test is known to have a property. */
const HELPER = /from '[./]+\/support\/property\.ts'/;
const PROPERTY = /assertProperty\(/g;

const USAGE = 'Usage: npm run explore -- --minutes N [--seed N]';

const say = (line: string): void => console.log(`· ${line}`);

process.exitCode = await main();

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return 1;
  const { minutes, seed } = options;
  const untilMs = Date.now() + minutes * MINUTE_MS;
  const { files, longest } = findProperties();
  say(`seed ${seed}, ${minutes} min, ${files.join(', ')}`);
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-explore-'));
  const log = join(dir, 'batches.jsonl');
  // The tests get the signal too and stop their servers; their end ends this process.
  let isAsked = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => (isAsked = true));
  const reporting = setInterval(() => report(readBatches(log)), REPORT_EVERY_MS);
  try {
    let isWell = true;
    for (let round = 0; isWell && Date.now() < untilMs; round += 1) {
      const sliceMs = Math.min(SLICE_MS, Math.max(1, (untilMs - Date.now()) / longest));
      const env = { [EXPLORE.log]: log, [EXPLORE.seed]: `${seed} ${round}`, [EXPLORE.sliceMs]: `${sliceMs}` };
      isWell = await runTests(files, env, () => isAsked || readBatches(log).some(({ found }) => found));
    }
    const batches = readBatches(log);
    report(batches);
    const findings = batches.flatMap(({ title, found }) => (found ? [{ title, ...found }] : []));
    for (const { title, report: text, command } of findings)
      console.log(`\nFOUND: ${title}\n${text}\n\nOnce more: ${command}`);
    return isWell ? 0 : 1;
  } finally {
    clearInterval(reporting);
    rmSync(dir, { recursive: true, force: true });
  }
}

/**
 * By `npm test`, which runs each file once, and removes what the run leaves.
 * @returns whether all went well; what vitest printed is shown unless the end is explained otherwise
 */
async function runTests(
  files: readonly string[],
  env: NodeJS.ProcessEnv,
  isExplained: () => boolean,
): Promise<boolean> {
  const bootstrap = join(repoDir, 'stack', 'bootstrap.mjs');
  const args = [bootstrap, 'test', ...files, `--testTimeout=${TEST_TIMEOUT_MS}`];
  const child = spawn(process.execPath, args, {
    cwd: repoDir,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const printed: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => printed.push(chunk));
  const [code] = await once(child, 'close');
  if (code !== 0 && !isExplained()) process.stderr.write(Buffer.concat(printed));
  return code === 0;
}

/** The test files with properties, and how many the longest of them has. */
function findProperties(): { files: string[]; longest: number } {
  const dir = join(repoDir, 'test');
  const texts = readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => ({ file: join('test', name), text: readFileSync(join(dir, name), 'utf8') }))
    .filter(({ text }) => HELPER.test(text));
  return {
    files: texts.map(({ file }) => file),
    longest: Math.max(...texts.map(({ text }) => text.match(PROPERTY)?.length ?? 0)),
  };
}

function readBatches(log: string): BatchLine[] {
  if (!existsSync(log)) return [];
  // A line that is being written has no end yet.
  const lines = readFileSync(log, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => batchLine.parse(JSON.parse(line)));
}

function report(batches: readonly BatchLine[]): void {
  const titles = [...new Set(batches.map(({ title }) => title))].toSorted();
  const lines = titles.map((title) => {
    const own = batches.filter((batch) => batch.title === title);
    return `  ${sumCases(own)} cases of ${own.length} seeds: ${title}`;
  });
  say([`${sumCases(batches)} cases of ${batches.length} seeds`, ...lines].join('\n'));
}

function sumCases(batches: readonly BatchLine[]): number {
  return batches.reduce((sum, { cases }) => sum + cases, 0);
}

function readOptions(): { minutes: number; seed: number } | undefined {
  try {
    const { values } = parseArgs({
      options: { minutes: { type: 'string' }, seed: { type: 'string', default: String(randomInt(SEEDS)) } },
    });
    const [minutes, seed] = [Number(values.minutes), Number(values.seed)];
    if (minutes > 0 && Number.isFinite(minutes) && Number.isInteger(seed)) return { minutes, seed };
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
  }
  console.error(USAGE);
  return undefined;
}
