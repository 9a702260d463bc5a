/**
 * What docs/architecture.md says of the house is true: every file has its room, and the bridges between the
 * stores and the pairs of rooms that need each other are those of its lists.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDERS = [
  'src',
  'sandbox',
  'provider-check',
  'packages',
  'stack',
  'bench',
  'chaos',
  'test',
  'lua',
  'pages',
  'lint',
  'monitoring',
  'deploy',
  'examples',
];

interface Import {
  /** Files. */
  from: string;
  to: string;
  isType: boolean;
}

const page = readFileSync(join(ROOT, 'docs', 'architecture.md'), 'utf8');

function sectionOf(heading: string): string {
  const [, section] = new RegExp(`^## ${heading}$([\\s\\S]*?)(?=^## )`, 'm').exec(page) ?? [];
  return section ?? '';
}

/** The first column of the rows that begin with names in backticks; a row may have several. */
function firstColumn(section: string): string[] {
  return [...section.matchAll(/^\| (`[^|]+`) +\|/gm)].map(([, names = '']) => names.replaceAll('`', ''));
}

const rooms = firstColumn(sectionOf('The rooms'));

/** The room with the longest name that the file's path begins with. */
function roomOf(file: string): string {
  if (/^src\/[^/]+$/.test(file)) return 'src/*.ts';
  const names = rooms.filter((name) => file.startsWith(`${name}/`));
  return names.toSorted((a, b) => b.length - a.length)[0] ?? `no room: ${file}`;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  return [...text.matchAll(/^(?:import|export)( type)? ?([^;]*?)from '(\.[^']+)'/gm)].map(
    ([, type, names = '', path = '']) => ({
      from: file,
      to: normalize(join(dirname(file), path)),
      isType: type !== undefined || /^\{(\s*type [^,}]+,?)+\s*\}\s*$/.test(names),
    }),
  );
}

const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard', ...FOLDERS], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .trim()
  .split('\n');

/** Of the product, and what is loaded when it runs. */
const imports = files
  .filter((file) => /^src\/.*\.ts$/.test(file))
  .flatMap(importsOf)
  .filter(({ isType }) => !isType);

test('every file is in a room of the tables, and every room has files', () => {
  const inhabited = new Set(files.map(roomOf));
  expect([...inhabited].toSorted()).toEqual(rooms.toSorted());
});

test('a file that calls both stores is in the list of bridges', () => {
  // The names of keys call nothing.
  const reaches = (file: string, kind: RegExp) =>
    imports.some(({ from, to }) => from === file && kind.test(to));
  const bridges = files.filter(
    (file) =>
      reaches(file, /^src\/mysql\/|\.sql\.ts$/) && reaches(file, /^src\/redis\/(?!keys)|\.redis\.ts$/),
  );
  expect(bridges).toEqual(firstColumn(sectionOf('The bridges')));
});

test('rooms that need each other are in the list of pairs', () => {
  const arrows = new Set(
    imports
      // What lies beside the rooms are programs, which need all, and leaves, which all need.
      .filter(({ from, to }) => dirname(from) !== 'src' && dirname(to) !== 'src')
      .filter(({ from, to }) => roomOf(from) !== roomOf(to))
      .map(({ from, to }) => `${roomOf(from)} ${roomOf(to)}`),
  );
  const pairs = [...arrows].filter((arrow) => {
    const [from = '', to = ''] = arrow.split(' ');
    return from < to && arrows.has(`${to} ${from}`);
  });
  expect(arrows.size).toBeGreaterThan(10);
  expect(pairs.toSorted()).toEqual(firstColumn(sectionOf('Rooms that need each other')));
});
