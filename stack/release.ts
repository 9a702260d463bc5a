/**
 * `npm run test:release`: all tests, and what is too long for each change. Its parts run one after the other,
 * and a part that fails does not keep the others from running. It prints a line a part, and one verdict, also
 * when it is interrupted.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { repoDir } from './install/repo-dir.ts';

/** Tests run on both of these majors of Node. */
const NODES = ['20', '24'];
const QUOTED_LINES = 20;

interface Part {
  name: string;
  /** A command of stack/bootstrap.mjs, with its arguments. */
  command: readonly string[];
  env?: Record<string, string>;
  /** Another major of Node than that of this process. */
  node?: string;
}

const [ownNode = ''] = process.versions.node.split('.');
const otherNodes = NODES.filter((major) => major !== ownNode);

const PARTS: readonly Part[] = [
  { name: 'test', command: ['test'] },
  { name: 'slow', command: ['test:slow'] },
  { name: 'storm', command: ['test:storm'], env: { STORM_FAULTS: '100' } },
  { name: 'faults', command: ['test:faults'], env: { CALL_OFF_FULL: '1' } },
  {
    name: 'alerts-in-real-time',
    command: ['test:slow', 'test/flow/alerts', 'test/flow/slow-alerts'],
    env: { ALERTS_IN_REAL_TIME: '1' },
  },
  { name: 'openapi', command: ['test:openapi'] },
  { name: 'image', command: ['test:image'] },
  { name: 'explore', command: ['explore', '--minutes', '10'] },
  { name: 'redis-8', command: ['test:redis-8'] },
  { name: 'mysql', command: ['test:mysql'] },
  ...otherNodes.flatMap((node) => [
    { name: `test-on-node-${node}`, command: ['test'], node },
    { name: `slow-on-node-${node}`, command: ['test:slow'], node },
  ]),
];

const counts = z.object({
  numPassedTests: z.int(),
  numFailedTests: z.int(),
});

const dir = join(repoDir, '.holdfast', 'release');

process.exitCode = await main(process.argv.slice(2));

/** @param names of parts; all unless given */
async function main(names: readonly string[]): Promise<number> {
  const unknown = names.find((name) => !PARTS.some((part) => part.name === name));
  if (unknown !== undefined) {
    console.error(`There is no part ${unknown}. The parts: ${PARTS.map(({ name }) => name).join(', ')}.`);
    return 1;
  }
  const parts = PARTS.filter(({ name }) => names.length === 0 || names.includes(name));
  mkdirSync(dir, { recursive: true });
  // The running part gets the signal too, as it is of the same process group.
  let isInterrupted = false;
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => (isInterrupted = true));
  const passed: string[] = [];
  const failed: string[] = [];
  for (const part of parts) {
    if (isInterrupted) break;
    ((await passes(part)) ? passed : failed).push(part.name);
  }
  if (passed.length === parts.length) {
    console.log(`release: all ${parts.length} parts passed`);
    return 0;
  }
  const others = parts.length - passed.length - failed.length;
  console.log(
    `release: ${failed.length} of ${parts.length} parts failed: ${failed.join(', ')}` +
      (others > 0 ? `; ${others} did not run` : ''),
  );
  return 1;
}

/** A part that could not even be started has failed. */
async function passes(part: Part): Promise<boolean> {
  try {
    return await run(part);
  } catch (error) {
    console.log(`${part.name}: FAILED: ${String(error)}`);
    return false;
  }
}

/** @returns whether it passed */
async function run({ name, command, env, node }: Part): Promise<boolean> {
  const log = join(dir, `${name}.log`);
  const report = join(dir, `${name}.json`);
  rmSync(report, { force: true });
  const startedMs = Date.now();
  const bootstrap = ['stack/bootstrap.mjs', ...command];
  const [file, args] =
    node === undefined
      ? [process.execPath, bootstrap]
      : ['npm', ['exec', '--yes', `--package=node@${node}`, '--', 'node', ...bootstrap]];
  const child = spawn(file, args, {
    cwd: repoDir,
    env: { ...process.env, ...env, TEST_REPORT: report },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const written = createWriteStream(log);
  child.stderr.pipe(written, { end: false });
  const [[code]] = await Promise.all([once(child, 'close'), pipeline(child.stdout, written, { end: false })]);
  written.end();
  await finished(written);
  const seconds = Math.round((Date.now() - startedMs) / 1_000);
  console.log(`${name}: ${code === 0 ? 'passed' : 'FAILED'} in ${seconds} s${readCounts(report)}`);
  if (code !== 0) console.log(`${quoteEnd(log)}\n· all of it: ${log}`);
  return code === 0;
}

/** Nothing for a part that is no run of tests. */
function readCounts(report: string): string {
  if (!existsSync(report)) return '';
  const { numPassedTests, numFailedTests } = counts.parse(JSON.parse(readFileSync(report, 'utf8')));
  return ` (${numPassedTests} tests passed, ${numFailedTests} failed)`;
}

function quoteEnd(log: string): string {
  return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-QUOTED_LINES).join('\n');
}
