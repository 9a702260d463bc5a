/** Properties: the same cases in each run, others when exploring, and a finding that can be repeated. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { batchLine, EXPLORE, REPEAT } from '../../stack/exploration.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { assertProperty } from './property.ts';

beforeEach(() => {
  for (const name of [...Object.values(EXPLORE), ...Object.values(REPEAT)]) vi.stubEnv(name, undefined);
});
afterEach(() => void vi.unstubAllEnvs());

/** The first 60 cases that a property is tried with, 20 from a seed; where only 20 are tried, these. */
async function draw(): Promise<number[]> {
  const cases: number[] = [];
  const property = fc.property(fc.noShrink(fc.integer()), (n) => cases.push(n) < 60);
  await assertProperty(property, { numRuns: 20 }).catch(() => {});
  return cases;
}

const tooSmall = fc.property(fc.integer(), (n) => n < 1_000);

/** As `npm run explore` does for one test. */
function explore(seed: string, sliceMs: number) {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-property-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const log = join(dir, 'log');
  vi.stubEnv(EXPLORE.log, log);
  vi.stubEnv(EXPLORE.seed, seed);
  vi.stubEnv(EXPLORE.sliceMs, `${sliceMs}`);
  const read = () => readFileSync(log, 'utf8').trim().split('\n');
  return () => read().map((line) => batchLine.parse(JSON.parse(line)));
}

test('each run of the tests has the same cases', async () => {
  const cases = await draw();

  expect(cases).toHaveLength(20);
  expect(await draw()).toEqual(cases);
});

test('exploring tries other cases from one seed after the other, and says how many', async () => {
  const usual = await draw();
  const readBatches = explore('7', 60_000);

  const cases = await draw();

  const parts = [usual, cases.slice(0, 20), cases.slice(20, 40), cases.slice(40)];
  expect(new Set(parts.map(String)).size).toBe(4);
  expect(readBatches().map((batch) => batch.cases)).toEqual([20, 20, 20]);
});

test('exploring ends when the time is over', async () => {
  explore('7', 0);
  expect(await draw()).toEqual([]);
});

test('another seed explores other cases, the same one the same', async () => {
  const drawFrom = (seed: string): Promise<number[]> => {
    explore(seed, 60_000);
    return draw();
  };
  const [first, again, other] = [await drawFrom('7'), await drawFrom('7'), await drawFrom('8')];

  expect(again).toEqual(first);
  expect(other).not.toEqual(first);
});

test('a finding is told with its shortest case, and its command repeats that case alone', async () => {
  const readBatches = explore('7', 60_000);
  await expect(assertProperty(tooSmall, { numRuns: 100 })).rejects.toThrow('[1000]');
  const { report = '', command = '' } = readBatches().at(-1)?.found ?? {};
  expect(report).toContain('Counterexample: [1000]');
  const [, seed, path, file] =
    /^PROPERTY_SEED=(-?\d+) PROPERTY_PATH=([\d:]+) npm test -- (\S+) -t /.exec(command) ?? [];
  expect(file).toBe('test/support/property.test.ts');

  vi.stubEnv(EXPLORE.log, undefined);
  vi.stubEnv(REPEAT.seed, seed);
  vi.stubEnv(REPEAT.path, path);

  await expect(assertProperty(tooSmall, { numRuns: 100 })).rejects.toThrow('Property failed after 1 tests');
});

test('every test with properties can be explored', () => {
  const dir = join(repoDir, 'test');
  const texts = readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('support/property'))
    .map((name) => ({ name, text: readFileSync(join(dir, name), 'utf8') }));
  const withOwnSeeds = texts.filter(({ text }) => /\bfc\.(?:assert|check)\(/.test(text));
  expect(withOwnSeeds.map(({ name }) => name)).toEqual([]);
});
