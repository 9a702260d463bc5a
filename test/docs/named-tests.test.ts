/**
 * The tests that the documents name, for each promise and for each case of money, exist under those titles.
 */

import { readFile, readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';

const docsDir = new URL('../../docs/', import.meta.url);
const testDir = new URL('../', import.meta.url);

/**
 * `folder/file` "a title", "another title": a cell of the table of cases. Titles are whole, and those of
 * `test.each` have their `%s`.
 */
const NAMED = /`(?:test\/)?([\w/-]+)(?:\.test\.ts)?`((?:,? "[^"]+")*)/g;

/** The title of a test or of a group, after `test(`, `describe(`, `test.each(…)(` and the like. */
const LITERAL = String.raw`'((?:[^'\\\n]|\\.)+)'|"((?:[^"\\\n]|\\.)+)"|\x60((?:[^\x60\\]|\\.)+)\x60`;
const TITLED = new RegExp(String.raw`^ *(?:test|describe)(?:\(|\.\w+\([^]*?\)\()\s*(?:${LITERAL})`, 'gm');

test.each([
  ['payments.md', 'The cases', 20],
  ['architecture.md', 'The promise', 4],
])(
  'every test that docs/%s names under "%s" exists, and every row names one',
  async (file, heading, least) => {
    const cases = readCases(await readFile(new URL(file, docsDir), 'utf8'), heading);
    const titles = await readTitles();
    expect(cases.length).toBeGreaterThanOrEqual(least);

    const wrong = cases.flatMap(({ first, tests }) => {
      if (tests.length === 0) return [`"${first}" names no test`];
      return tests.flatMap((named) => describeFault(named, titles));
    });

    expect(wrong.join('\n')).toBe('');
  },
);

test('a test that is missing is named, with the file that has its title, or the titles that are near', () => {
  const titles = new Map([
    ['flow/money', ['a slow refund is awaited']],
    ['flow/late', ['a payment whose notice never comes is found when its window ends, and pays']],
  ]);
  const fault = (file: string, title?: string) => describeFault({ file, title }, titles);

  expect(
    fault('flow/late', 'a payment whose notice never comes is found when its window ends, and pays'),
  ).toEqual([]);
  expect(fault('flow/late', 'a payment whose notice never comes')).not.toEqual([]);
  expect(fault('flow/late')).toEqual([]);
  expect(fault('flow/none')).toEqual(['there is no test/flow/none.test.ts']);
  expect(fault('flow/late', 'a slow refund is awaited')[0]).toContain(
    'flow/money "a slow refund is awaited"',
  );
  expect(fault('flow/money', 'a slow refund is waited for')[0]).toContain('"a slow refund is awaited"');
});

test('titles are what tests and groups are called, and no other text of a file', () => {
  const source = [
    "test('one', () => { const text = 'no title'; });",
    "describe('a group', () => {",
    "  test.each(['no title', f('neither')])(",
    "    'the %s of two',",
    "    () => expect(text).toBe('nor this'),",
    '  );',
    '  test("the shopper\'s own", () => {});',
    "  test('it\\'s escaped', () => {});",
    '});',
  ].join('\n');

  expect(findTitles(source)).toEqual([
    'one',
    'a group',
    'the %s of two',
    "the shopper's own",
    "it's escaped",
  ]);
});

type Named = { file: string; title: string | undefined };

function readCases(text: string, heading: string): { first: string; tests: Named[] }[] {
  const table = text.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const rows = table.split('\n').filter((line) => line.startsWith('|'));
  return rows.slice(2).map((row) => {
    const cells = row.split('|').map((cell) => cell.trim());
    const tests = [...(cells.at(-2) ?? '').matchAll(NAMED)].flatMap(([, file = '', quoted = '']) => {
      const named = [...quoted.matchAll(/"([^"]+)"/g)].map(([, title]) => ({ file, title }));
      return named.length > 0 ? named : [{ file, title: undefined }];
    });
    return { first: cells[1] ?? '', tests };
  });
}

/** By file: the titles of its tests and of their groups. */
async function readTitles(): Promise<Map<string, string[]>> {
  const names = await readdir(testDir, { recursive: true });
  const files = names.filter((name) => name.endsWith('.test.ts'));
  return new Map(
    await Promise.all(
      files.map(async (name): Promise<[string, string[]]> => {
        const source = await readFile(new URL(name, testDir), 'utf8');
        return [name.replace('.test.ts', ''), findTitles(source)];
      }),
    ),
  );
}

/** The first argument of `test(`, `describe(` and of what `test.each(…)` and the like return. */
function findTitles(source: string): string[] {
  const calls = source.matchAll(TITLED);
  return [...calls].map(([, single, double, back]) =>
    (single ?? double ?? back ?? '').replaceAll(/\\(.)/g, '$1'),
  );
}

function describeFault({ file, title }: Named, titles: Map<string, string[]>): string[] {
  const known = titles.get(file);
  if (title === undefined ? known !== undefined : known?.includes(title)) return [];
  const elsewhere = [...titles].flatMap(([other, texts]) =>
    texts.filter((each) => each === title).map((each) => `${other} "${each}"`),
  );
  const near = (known ?? []).filter((each) => countShared(each, title ?? '') >= 4).map((each) => `"${each}"`);
  const fault =
    known === undefined ? `there is no test/${file}.test.ts` : `test/${file}.test.ts has no "${title}"`;
  const hints = elsewhere.length > 0 ? elsewhere : near;
  return [hints.length === 0 ? fault : `${fault}; did you mean ${hints.join(' or ')}?`];
}

function countShared(a: string, b: string): number {
  const words = new Set(a.split(/\W+/));
  return new Set(b.split(/\W+/).filter((word) => words.has(word))).size;
}
