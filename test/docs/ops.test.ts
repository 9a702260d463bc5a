/** The table of the operator's commands is what the program takes. */

import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { readHelp } from '../../stack/renew/help.ts';

const page = new URL('../../docs/operations.md', import.meta.url);

/** Each command by its words, with whether it wants a reason. */
async function readCommands(group: readonly string[] = []): Promise<Map<string, boolean>> {
  const text = await readHelp(group, 80);
  const [, listed] = text.split('\nCommands:\n');
  if (listed === undefined) return new Map([[group.join(' '), text.includes('--reason')]]);
  const names = [...(listed.split('\n\n')[0] ?? '').matchAll(/^ {2}([\w-]+)/gm)].map(
    ([, name]) => name ?? '',
  );
  const all = await Promise.all(
    names.filter((name) => name !== 'help').map((name) => readCommands([...group, name])),
  );
  return new Map(all.flatMap((commands) => [...commands]));
}

test('docs/operations.md lists each command of ops, and those that need a reason', async () => {
  const rows = (await readFile(page, 'utf8')).matchAll(
    /^\| `ops ([a-z -]+?)(?: [<[][^`]*)?` *\| (yes|no) *\|/gm,
  );
  const described = new Map([...rows].map(([, command = '', needed]) => [command, needed === 'yes']));

  expect(Object.fromEntries(described)).toEqual(Object.fromEntries(await readCommands()));
});
