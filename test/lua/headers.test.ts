/** The headers are what people read instead of the scripts; so they are held to what the scripts do. */

import { describe, expect, test } from 'vitest';
import { SCRIPTS } from '../../src/stores/redis/scripts.ts';

/** How a hold can have ended: what a script answers that passes the hold's own state on. */
const SETTLED_HOLDS = ['released', 'returned', 'sold'];

interface Script {
  header: string;
  code: string;
}

function split(lua: string): Script {
  const end = lua.indexOf(']]');
  return { header: lua.slice(0, end), code: lua.slice(end + 2).replaceAll(/--.*$/gm, '') };
}

/** The text of a section: from its name to the next one, or to an empty line. */
function section(header: string, name: string): string {
  return new RegExp(`^${name}\\s+([\\s\\S]*?)(?=^\\S|^$)`, 'm').exec(`${header}\n`)?.[1] ?? '';
}

function numbersIn(text: string): number[] {
  return [...text.matchAll(/(?<=^|\s\s)(\d+)…? /gm)].map(([, number]) => Number(number));
}

function documentedReplies(header: string): string[] {
  const replies = section(header, 'Replies');
  return [...`  ${replies}`.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name]) => String(name)).toSorted();
}

function repliesOf(code: string): string[] {
  const returns = [...code.matchAll(/return \{([^}]*)\}/g)].map(([, values]) => String(values));
  const literals = returns.flatMap((values) => {
    // The first value is the name; it may be chosen by a condition.
    const first = values.split(',')[0] ?? '';
    return [...first.matchAll(/'([a-z-]+)'/g)].map(([, name]) => String(name));
  });
  const passesHoldOn = returns.some((values) => values.trim() === 'order[1]');
  return [...new Set([...literals, ...(passesHoldOn ? SETTLED_HOLDS : [])])].toSorted();
}

function indexesIn(code: string, table: 'KEYS' | 'ARGV'): number[] {
  return [...code.matchAll(new RegExp(`${table}\\[(\\d+)\\]`, 'g'))].map(([, index]) => Number(index));
}

const range = (length: number) => Array.from({ length }, (_, i) => i + 1);

describe.each(Object.entries(SCRIPTS))('the header of %s', (_name, { lua, numberOfKeys }) => {
  const { header, code } = split(lua);

  test('numbers as many keys as the script is called with and uses', () => {
    expect(numbersIn(section(header, 'KEYS'))).toEqual(range(numberOfKeys));
    expect(new Set(indexesIn(code, 'KEYS'))).toEqual(new Set(range(numberOfKeys)));
  });

  test('numbers every argument that the script reads', () => {
    const documented = numbersIn(section(header, 'ARGV'));
    expect(documented).toEqual(range(documented.length));
    const firstRepeated = /local firstRepeated = (\d+)/.exec(code)?.[1];
    const used = [
      ...indexesIn(code, 'ARGV'),
      ...(firstRepeated === undefined ? [] : [Number(firstRepeated)]),
    ];
    expect(new Set(used)).toEqual(new Set(documented));
  });

  test('names every reply that the script gives, and no other', () => {
    expect(repliesOf(code).length).toBeGreaterThan(0);
    expect(documentedReplies(header)).toEqual(repliesOf(code));
  });

  test('states its purpose, and that it reads no clock but that of Redis', () => {
    expect(header).toMatch(/^#!lua( flags=allow-oom)?\n--\[\[\n[A-Z]/);
    expect(code).not.toMatch(/\bos\.(time|clock)\b/);
  });
});
