/**
 * The ways through the house, as walked: `budgets.json` holds how many files and lines each takes, and
 * docs/architecture.md lists the files.
 */

import { basename, dirname } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { holdBudgets, isRenewing, readBudgets, writeText } from './budgets.ts';
import { countLines, readText } from './sources.ts';
import { recordWays, type Taken } from './ways.ts';

const PAGE = 'docs/architecture.md';
const BEGIN = '<!-- ways: recorded by test/house/ways.test.ts -->';
const END = '<!-- ways: end -->';

let ways: Map<string, Taken>;

/** Bounds a hang: twenty journeys with a rest before and after each, on a machine that may be busy. */
const RECORDING_TIMEOUT_MS = 600_000;

beforeAll(async () => {
  ways = await recordWays();
}, RECORDING_TIMEOUT_MS);

test('no way has grown', () => {
  const figures = [...ways].flatMap(([name, { files, linesThatRun }]) => [
    [filesOf(name), files.length] as const,
    [linesOf(name), files.reduce((sum, file) => sum + countLines(file), 0)] as const,
    [linesThatRunOf(name), linesThatRun] as const,
  ]);
  holdBudgets(Object.fromEntries(figures));
});

test('docs/architecture.md lists the files of each way', () => {
  const text = readText(PAGE);
  const [before, rest] = text.split(BEGIN);
  const after = rest?.split(END)[1];
  const expected = `${before}${BEGIN}\n\n${renderWays()}\n\n${END}${after}`;
  if (isRenewing) writeText(PAGE, expected);
  else expect(text).toBe(expected);
});

test('a purchase is seen in Redis, in MySQL and in its workflow', () => {
  const files = ways.get('a purchase with its payment')?.files;
  expect(files).toEqual(
    expect.arrayContaining(['lua/reserve.lua', 'lua/shared/held-order.lua', 'src/workflows/order.ts']),
  );
  expect(files?.some((file) => file.includes('mysql'))).toBe(true);
});

const filesOf = (way: string) => `${way}: files`;
const linesOf = (way: string) => `${way}: lines`;
const linesThatRunOf = (way: string) => `${way}: lines that run`;

/** Each way, folder by folder. The lines are those that are held: they change with every edit. */
function renderWays(): string {
  const held = readBudgets();
  return [...ways]
    .map(([name, { files }]) => {
      const folders = [...new Set(files.map((file) => dirname(file)))];
      const list = folders.map((folder) => {
        const names = files.filter((file) => dirname(file) === folder).map((file) => basename(file));
        return `- \`${folder}\`: ${names.join(', ')}`;
      });
      const [lines, run] = [linesOf(name), linesThatRunOf(name)].map((figure) =>
        held[figure]?.now.toLocaleString('en'),
      );
      const sum = `${files.length} files in ${folders.length} folders, ${lines} lines, of which ${run} run`;
      return `**${name}**: ${sum}\n\n${list.join('\n')}`;
    })
    .join('\n\n');
}
