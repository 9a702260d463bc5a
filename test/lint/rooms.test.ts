/**
 * The rooms' tables in docs/architecture.md are true: every file has its room, every import its permission,
 * and no rooms form a circle.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDERS = ['src', 'sandbox', 'stack', 'bench', 'chaos', 'test', 'lua', 'pages', 'lint', 'examples'];

interface Room {
  name: string;
  mayImport: string[];
  mayImportTypesOf: string[];
}

interface Import {
  /** Files. */
  from: string;
  to: string;
  isType: boolean;
}

/**
 * Rows that begin with a name in backticks; the last column names rooms, and those whose types alone may be
 * imported.
 */
function readRooms(): Room[] {
  const text = readFileSync(join(ROOT, 'docs', 'architecture.md'), 'utf8');
  const section = /^## The rooms$([\s\S]*?)(?=^## )/m.exec(text)?.[1] ?? '';
  return section.split('\n').flatMap((line) => {
    const columns = line.split('|').map((column) => column.trim());
    const name = /^`(.+)`$/.exec(columns[1] ?? '')?.[1];
    if (name === undefined) return [];
    const entries = (columns[3] ?? '')
      .replaceAll('`', '')
      .split(', ')
      .filter((entry) => entry !== '');
    return [
      {
        name,
        mayImport: entries.filter((entry) => !entry.startsWith('types of ')),
        mayImportTypesOf: entries.flatMap((entry) => /^types of (.+)$/.exec(entry)?.[1] ?? []),
      },
    ];
  });
}

const rooms = readRooms();

/** Asked once for each room that a row may import, and for each import of each file. */
const roomsOfFiles = new Map<string, string>();

function roomOf(file: string): string {
  const room = roomsOfFiles.get(file) ?? findRoom(file);
  roomsOfFiles.set(file, room);
  return room;
}

/** The room with the longest name that the file's path begins with. */
function findRoom(file: string): string {
  if (/^src\/[^/]+$/.test(file)) return 'src/*.ts';
  const names = rooms.map(({ name }) => name).filter((name) => new RegExp(`^${name}[/.]`).test(file));
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

/** Of product and tools; tests may import every room. */
const imports = files
  .filter((file) => /\.(ts|mjs|js)$/.test(file) && roomOf(file) !== 'test')
  .flatMap(importsOf)
  .filter(({ from, to }) => roomOf(from) !== roomOf(to));

test('every file is in a room of the tables, and every room has files', () => {
  const inhabited = new Set(files.map(roomOf));
  expect([...inhabited].toSorted()).toEqual(rooms.map(({ name }) => name).toSorted());
});

test('a room imports the rooms that its row names, and no other', () => {
  const allowed = new Map(rooms.map((room) => [room.name, room]));
  const forbidden = imports.filter(({ from, to, isType }) => {
    const room = allowed.get(roomOf(from));
    const isAllowed = room?.mayImport.includes(roomOf(to)) === true;
    return !isAllowed && !(isType && room?.mayImportTypesOf.includes(roomOf(to)) === true);
  });
  expect(forbidden.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
});

test('a row names no room that its own does not import', () => {
  const unused = rooms
    .filter(({ name }) => name !== 'test')
    .flatMap(({ name, mayImport, mayImportTypesOf }) =>
      [...mayImport, ...mayImportTypesOf]
        .filter((other) => !imports.some(({ from, to }) => roomOf(from) === name && roomOf(to) === other))
        .map((other) => `${name} -> ${other}`),
    );
  expect(unused).toEqual([]);
});

test('no room imports itself through others', () => {
  const arrows = new Map<string, Set<string>>();
  for (const { from, to } of imports.filter(({ isType }) => !isType)) {
    arrows.set(roomOf(from), (arrows.get(roomOf(from)) ?? new Set()).add(roomOf(to)));
  }
  const reachableFrom = (start: string): Set<string> => {
    const reached = new Set<string>();
    const left = [...(arrows.get(start) ?? [])];
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      if (reached.has(next)) continue;
      reached.add(next);
      left.push(...(arrows.get(next) ?? []));
    }
    return reached;
  };
  expect(arrows.size).toBeGreaterThan(10);
  expect([...arrows.keys()].filter((room) => reachableFrom(room).has(room))).toEqual([]);
});
