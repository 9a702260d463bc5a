/** The processes' account may run each command that scripts and code call; a pcall would hide a refusal. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { listCommands } from '../../stack/renew/redis-rights.ts';

const read = (path: string): string => readFileSync(join(repoDir, path), 'utf8');
const rights = read('deploy/redis-rights.txt').trim().split(/\s+/);
const scripts = readdirSync(join(repoDir, 'lua'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.lua'))
  .map((name) => ({ name, text: read(join('lua', name)) }));

test('each call of a script names its command, and a subcommand, in the call itself', () => {
  for (const { name, text } of scripts)
    expect(text.match(/redis\.p?call\b/g)?.length ?? 0, name).toBe(
      text.match(/redis\.p?call\(\s*'(?:(?!XINFO|XGROUP)[A-Z]+'|(?:XINFO|XGROUP)',\s*'[A-Z]+')/g)?.length ??
        0,
    );
});

test('the account may run each command that a script, the code or its limiter calls', () => {
  const commands = listCommands();
  expect(commands).toEqual(expect.arrayContaining(['hset', 'xinfo|groups', 'xgroup|delconsumer', 'scan']));
  expect(commands.filter((command) => !rights.includes(`+${command}`))).toEqual([]);
});
