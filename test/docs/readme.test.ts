/** README.md has the figures that were measured, and no others. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { withFigures } from '../../bench/compare/readme.ts';
import { readResults } from '../../bench/compare/results.ts';

const root = new URL('../../', import.meta.url);
const readme = readFileSync(new URL('README.md', root), 'utf8');
const results = readResults(fileURLToPath(new URL('docs/benchmarks/results.json', root)));

/** Rates, times and shares: "5,143/s", "35 ms", "99 %", "7.8 times", "11,622 refusals a second". */
const MEASURED = /\d[\d.,]*(?: ?(?:ms|µs|%|\/s)| times| (?:\w+ ){0,3}(?:a|per) second)/g;

test("README.md's figures are those of the results; `npm run bench -- page` writes them again", () => {
  expect(readme).toBe(withFigures(readme, results));
});

test('README.md has no figure that is written by hand', () => {
  const byHand = withFigures(readme, { parts: [] });
  expect(byHand.match(MEASURED) ?? []).toEqual([]);
});

test('a figure that is written by hand is found', () => {
  const text =
    '64 connections: 5,143 orders accepted a second, 7.8 times, within 35 ms and 114µs, 93 % of 11/s';
  expect(text.match(MEASURED)).toEqual([
    '5,143 orders accepted a second',
    '7.8 times',
    '35 ms',
    '114µs',
    '93 %',
    '11/s',
  ]);
});

test('a figure stands with what it is compared with, its goal, the bound that its part lifts, and the commit', () => {
  const accept = results.parts.find(({ name }) => name === 'accept');
  assert(accept);
  const measurements = [
    { round: 1, contestant: 'Holdfast, all running', figures: { rate: 1_234 }, seconds: 1 },
    { round: 1, contestant: 'limit', figures: { rate: 2_468 }, seconds: 1 },
  ];
  const target = {
    text: 'of the limit',
    figure: 'rate',
    of: 'Holdfast, all running',
    against: ['limit'],
    atLeast: 1,
  };
  const part = { ...accept, measurements, targets: [target], commit: 'abc123', lifted: 'A bound.' };
  const line = withFigures(readme, { parts: [part] })
    .split('\n')
    .find((each) => each.includes('1,234'));
  expect(line).toMatch(
    /1,234\/s\\\* \| 0\.50 × limit, goal ≥ 1: \*\*not met\*\* \| accept, [\d-]+, abc123 \|$/,
  );
});

test('figures of a part that has measured something else, and a README without their place, are errors', () => {
  const [first] = results.parts;
  assert(first);
  expect(() => withFigures(readme, { parts: [{ ...first, measurements: [] }] })).toThrow('has measured');
  expect(() => withFigures('# Holdfast', results)).toThrow('once each');
});
