/** The account of the processes may run each command that a script calls; a pcall would hide a refusal. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repoDir } from '../../stack/install/repo-dir.ts';

const read = (path: string): string => readFileSync(join(repoDir, path), 'utf8');
const rights = read('deploy/redis-rights.txt').trim().split(/\s+/);
const scripts = readdirSync(join(repoDir, 'lua'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.lua'))
  .map((name) => ({ name, text: read(join('lua', name)) }));

/** Commands that Redis gives rights for by their subcommands, of those that a script may call. */
const HAVE_SUBCOMMANDS = ['XGROUP', 'XINFO'];

/** As the scripts write them: `HSET`, `XINFO STREAM`. */
function commandsOf(text: string): string[] {
  return Array.from(text.matchAll(/redis\.p?call\(\s*'(\w+)'(?:,\s*'(\w+)')?/g), ([, command = '', word]) =>
    HAVE_SUBCOMMANDS.includes(command) ? `${command} ${word}` : command,
  );
}

const commands = [...new Set(scripts.flatMap(({ text }) => commandsOf(text)))].toSorted();

const missingIn = (given: string[]): string[] =>
  commands.filter((command) => !given.includes(`+${command.toLowerCase().replace(' ', '|')}`));

test('each call of a script names its command, and a subcommand, in the call itself', () => {
  for (const { name, text } of scripts)
    expect(commandsOf(text).length, name).toBe(text.match(/redis\.p?call\b/g)?.length ?? 0);
  expect(commands).toEqual(expect.arrayContaining(['HSET', 'XINFO GROUPS', 'XGROUP DELCONSUMER']));
  expect(commands.filter((command) => command.includes('undefined'))).toEqual([]);
});

test('the account may run each command that a script calls', () => {
  expect(missingIn(rights)).toEqual([]);
});

test.each([
  ['+rpushx', 'RPUSHX'],
  ['+xinfo|groups', 'XINFO GROUPS'],
])('without the right %s it is noticed that a script calls %s', (right, command) => {
  expect(rights).toContain(right);
  expect(missingIn(rights.filter((word) => word !== right))).toEqual([command]);
});
