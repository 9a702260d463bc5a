/** The product does not grow while it is drawn anew; `budgets.json` has its figures. */

import { expect, test } from 'vitest';
import { holdBudgets, readBudgets } from './budgets.ts';
import { measureHouse, productFiles } from './figures.ts';
import { countLines, listFiles, readSources } from './sources.ts';

/** A file that is longer holds more than one noun. */
const LINES_MAX = 600;

const sources = readSources();
const measured = measureHouse(sources);

/** `SHOW_FIGURES=1 npm test -- test/house/budgets.test.ts` prints what was counted, name by name. */
if (process.env['SHOW_FIGURES'] === '1') {
  for (const [name, { count, names }] of Object.entries(measured))
    console.log([`${name}: ${count}`, ...names].join('\n  '));
}

test('no figure of the house has grown', () => {
  holdBudgets(Object.fromEntries(Object.entries(measured).map(([name, { count }]) => [name, count])));
});

test('the entries of the product reach every file of `src`', () => {
  const reached = new Set(productFiles(sources));
  expect(listFiles('src').filter((file) => !reached.has(file))).toEqual([]);
});

test('a file of the product has at most 600 lines', () => {
  const tooLong = productFiles(sources).filter((file) => countLines(file) > LINES_MAX);
  expect(tooLong).toEqual([]);
});

test('what is held now is no more than what there was before', () => {
  const raised = Object.entries(readBudgets()).filter(([, { before, now }]) => now > before);
  expect(raised.filter(([, { because }]) => because === undefined)).toEqual([]);
});
