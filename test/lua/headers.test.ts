/** The headers are read instead of the scripts, so they must agree with the definitions and with the code. */

import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { SCRIPTS } from '../support/scripts.ts';
import { documentedReplies, section, splitScript } from './header.ts';

/** How a hold can have ended: the replies of a script that passes the hold's own state on. */
const SETTLED_HOLDS = ['released', 'returned', 'sold'];

/** Each line is a number, a name (a repeated one: names), and after two spaces an explanation. */
function entriesOf(lines: readonly string[]): { number: string; name: string }[] {
  return lines.flatMap((line) => {
    const [, number, more, names] = /^ {2}(\d+)(…?) +(\S+(?: \S+)*)(?: {2,}.+)?$/.exec(line) ?? [];
    const each = more === '…' ? String(names).split(', ') : [String(names)];
    return each.map((name, i) => ({ number: `${Number(number) + i}${more}`, name }));
  });
}

function repliesOf(code: string): string[] {
  // A script for many orders collects a reply for each.
  const returns = [...code.matchAll(/(?:return \{|replies\[#replies \+ 1\] =)([^}\n]*)/g)].map(([, values]) =>
    String(values),
  );
  const literals = returns.flatMap((values) => {
    // The first value is the name; it may be chosen by a condition.
    const first = values.split(',')[0] ?? '';
    return [...first.matchAll(/'([a-z-]+)'/g)].map(([, name]) => String(name));
  });
  const passesHoldOn = returns.some((values) => values.trim() === 'order[1]');
  return [...new Set([...literals, ...(passesHoldOn ? SETTLED_HOLDS : [])])].toSorted();
}

/**
 * The locals that are bound to an element of KEYS or ARGV, by its index as it is written: `1`, `i`, `i + 1`.
 */
function boundLocals(code: string, table: 'KEYS' | 'ARGV'): Record<string, string> {
  const bound: Record<string, string> = {};
  for (const [, names, values] of code.matchAll(/^ *local ([\w, ]+) = (.+)$/gm)) {
    const locals = String(names).split(', ');
    for (const [i, value] of String(values).split(', ').entries()) {
      const index = new RegExp(`${table}\\[([^\\]]+)\\]`).exec(value)?.[1];
      if (index !== undefined) bound[index] = String(locals[i]);
    }
  }
  return bound;
}

/** The elements of KEYS or ARGV that the code reads at all. */
function indexesIn(code: string, table: 'KEYS' | 'ARGV'): Set<string> {
  return new Set([...code.matchAll(new RegExp(`${table}\\[([^\\]]+)\\]`, 'g'))].map(([, i]) => String(i)));
}

const numbered = (names: readonly string[]) => names.map((name, i) => ({ number: String(i + 1), name }));
const repeatedFrom = (first: number, names: readonly string[]) =>
  names.map((name, i) => ({ number: `${first + i}…`, name }));
/** By the index as it is written. */
const byColumn = (index: string, names: readonly string[]) =>
  Object.fromEntries(names.map((name, i) => [i === 0 ? index : `${index} + ${i}`, name]));
const byNumber = (names: readonly string[]) => Object.fromEntries(names.map((name, i) => [i + 1, name]));

describe.each(SCRIPTS)('the header of $name', ({ lua, keys, args, repeated, repeatedKeys, keyList }) => {
  const { header, code } = splitScript(lua);

  test('names the keys of the definition in their order, and the script binds each to a local of its name', () => {
    const list = repeatedFrom(keys.length + 1, keyList === undefined ? repeatedKeys : [keyList]);
    expect(entriesOf(section(header, 'KEYS'))).toEqual([...numbered(keys), ...list]);
    expect(/, (\w+)Key in ipairs\(KEYS\) do/.exec(code)?.[1]).toBe(keyList);
    const locals = {
      ...byNumber(keys.map((name) => `${name}Key`)),
      ...byColumn(
        'k',
        repeatedKeys.map((name) => `${name}Key`),
      ),
    };
    expect(boundLocals(code, 'KEYS')).toEqual(locals);
    expect(indexesIn(code, 'KEYS')).toEqual(new Set(Object.keys(locals)));
  });

  test('names the arguments of the definition in their order, and the script binds each to a local of its name', () => {
    const rows = repeatedFrom(args.length + 1, repeated);
    expect(entriesOf(section(header, 'ARGV'))).toEqual([...numbered(args), ...rows]);
    const columns = byColumn('i', repeated);
    expect(boundLocals(code, 'ARGV')).toEqual({ ...byNumber(args), ...columns });
    expect(indexesIn(code, 'ARGV')).toEqual(new Set(Object.keys({ ...byNumber(args), ...columns })));
  });

  test('is of a script that reads repeated arguments after the others, row by row', () => {
    const first = /local firstRepeated = (\d+)/.exec(code)?.[1];
    const loop = /for i = firstRepeated, #ARGV(?:, (\d+))? do/.exec(code);
    expect(first).toBe(repeated.length === 0 ? undefined : String(args.length + 1));
    expect(loop && Number(loop[1] ?? 1)).toBe(repeated.length === 0 ? null : repeated.length);
  });

  test('is of a script that finds the keys of a row by the number of rows before it', () => {
    const step = /local k = (\d+) \+ (\d+) \* #orders/.exec(code);
    const expected = repeatedKeys.length === 0 ? null : [keys.length + 1, repeatedKeys.length];
    expect(step && [Number(step[1]), Number(step[2])]).toEqual(expected);
  });

  test('names every reply that the script gives, and no other', () => {
    expect(repliesOf(code).length).toBeGreaterThan(0);
    expect(documentedReplies(header)).toEqual(repliesOf(code));
  });

  test('states its purpose, and that it reads no clock but that of Redis', () => {
    expect(header).toMatch(/^#!lua( flags=(allow-oom|no-writes))?\n--\[\[\n[A-Z]/);
    expect(code).not.toMatch(/\bos\.(time|clock)\b/);
  });
});

const folder = new URL('../../lua/', import.meta.url);

test('every script in lua/ is defined, once', async () => {
  const files = (await readdir(folder)).filter((name) => name !== 'shared');
  expect(SCRIPTS.map(({ name }) => `${name}.lua`).toSorted()).toEqual(files.toSorted());
});

test('each script includes the files of lua/shared whose functions are called, and no other', async () => {
  const files = await readdir(new URL('shared/', folder));
  const functions = new Map(
    files.map((file) => {
      const text = readFileSync(new URL(`shared/${file}`, folder), 'utf8');
      return [
        `shared/${file}`,
        [...text.matchAll(/^local function (\w+)/gm)].map(([, name]) => String(name)),
      ];
    }),
  );
  const unused = new Set(functions.keys());
  for (const { name, lua } of SCRIPTS) {
    const text = readFileSync(new URL(`${name}.lua`, folder), 'utf8');
    const included = [...text.matchAll(/^-- include (.+)$/gm)].map(([, file]) => String(file));
    for (const file of included) unused.delete(file);
    const called = [...functions].filter(([, names]) =>
      // Once where it is defined, and elsewhere.
      names.some((one) => lua.split(`${one}(`).length > (lua.includes(`function ${one}(`) ? 2 : 1)),
    );
    expect(called.map(([file]) => file).toSorted(), name).toEqual(included.toSorted());
  }
  expect(unused).toEqual(new Set());
});
