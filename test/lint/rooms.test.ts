/** The rooms' table in docs/architecture.md is true: it names every folder, each import is allowed by it, and no rooms import each other. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Room {
  /** As the table has it: a folder, or `src/*.ts` for the files that lie in `src` itself. */
  name: string;
  mayImport: string[];
  mayImportTypesOf: string[];
}

interface Import {
  from: string;
  to: string;
  isType: boolean;
}

/** Rows of the table whose first column is a name in backticks and whose last names what the room may import. */
function readRooms(): Room[] {
  const text = readFileSync(join(ROOT, 'docs', 'architecture.md'), 'utf8');
  const section = /^## The rooms$([\s\S]*?)(?=^## )/m.exec(text)?.[1] ?? '';
  return section.split('\n').flatMap((line) => {
    const columns = line.split('|').map((column) => column.trim());
    const name = /^`(.+?)\/?`$/.exec(columns[1] ?? '')?.[1];
    if (name === undefined) return [];
    const entries = (columns[3] ?? '').split(',').map((entry) => entry.replaceAll('`', '').trim());
    return [
      {
        name,
        mayImport: entries.filter((entry) => entry !== '' && !entry.startsWith('types of ')),
        mayImportTypesOf: entries.flatMap((entry) => /^types of (.+)$/.exec(entry)?.[1] ?? []),
      },
    ];
  });
}

const rooms = readRooms();
const files = execFileSync(
  'git',
  ['ls-files', 'src', 'sandbox', 'stack', 'bench', 'chaos', 'test', 'lua', 'pages'],
  {
    cwd: ROOT,
    encoding: 'utf8',
  },
)
  .trim()
  .split('\n');

/** The innermost room that a file lies in. */
function roomOf(file: string): string | undefined {
  if (/^src\/[^/]+$/.test(file))
    return rooms.some(({ name }) => name === 'src/*.ts') ? 'src/*.ts' : undefined;
  const around = rooms.filter(({ name }) => file.startsWith(`${name}/`)).map(({ name }) => name);
  return around.toSorted((a, b) => b.length - a.length)[0];
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  return [...text.matchAll(/^(import|export)( type)? ?([^;]*?)from '(\.[^']+)'/gm)].map(
    ([, , type, names = '', path = '']) => ({
      from: file,
      to: normalize(join(dirname(file), path)),
      isType: type !== undefined || /^\{(\s*type [^,}]+,?)+\s*\}\s*$/.test(names),
    }),
  );
}

/** Tests may import everything; what tools and product import is held to the table. */
const imports = files
  .filter((file) => file.endsWith('.ts') && !file.startsWith('test/'))
  .flatMap(importsOf)
  .filter(({ from, to }) => roomOf(from) !== roomOf(to));

function isAllowed({ from, to, isType }: Import): boolean {
  const room = rooms.find(({ name }) => name === roomOf(from));
  const covers = (entry: string) =>
    to === `${entry}.ts` || to.startsWith(`${entry}/`) || (entry === 'src/*.ts' && /^src\/[^/]+$/.test(to));
  return (
    room !== undefined && (room.mayImport.some(covers) || (isType && room.mayImportTypesOf.some(covers)))
  );
}

test('every file lies in a room of the table, and every room has files', () => {
  expect(files.filter((file) => roomOf(file) === undefined)).toEqual([]);
  expect(
    rooms.filter(({ name }) => !files.some((file) => roomOf(file) === name)).map(({ name }) => name),
  ).toEqual([]);
});

test('a room imports what the table says, and nothing else', () => {
  expect(imports.length).toBeGreaterThan(100);
  expect(imports.filter((each) => !isAllowed(each)).map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
});

test('what the table allows is used', () => {
  const unused = rooms.flatMap(({ name, mayImport, mayImportTypesOf }) =>
    [...mayImport, ...mayImportTypesOf].flatMap((entry) => {
      const isUsed = imports.some(
        ({ from, to }) =>
          roomOf(from) === name &&
          (to === `${entry}.ts` ||
            to.startsWith(`${entry}/`) ||
            (entry === 'src/*.ts' && /^src\/[^/]+$/.test(to))),
      );
      return isUsed || name === 'test' ? [] : [`${name} -> ${entry}`];
    }),
  );
  expect(unused).toEqual([]);
});

test('no rooms import each other, not even through others', () => {
  const graph = new Map<string, Set<string>>();
  for (const { from, to } of imports.filter(({ isType }) => !isType)) {
    const [a, b] = [roomOf(from) ?? from, roomOf(to) ?? to];
    graph.set(a, (graph.get(a) ?? new Set()).add(b));
  }
  const reachable = (start: string): Set<string> => {
    const seen = new Set<string>();
    const left = [...(graph.get(start) ?? [])];
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      left.push(...(graph.get(next) ?? []));
    }
    return seen;
  };
  expect([...graph.keys()].filter((room) => reachable(room).has(room))).toEqual([]);
});
