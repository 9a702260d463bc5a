/** What `npm start` and its like print before the command itself, in a project of a few lines. */

import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { runCommand } from '../../stack/processes/command.ts';
import { withDataDir } from './data-dir.ts';

/** Bounds a hang: npm is started three times, each of which takes seconds on a busy machine. */
const TIMEOUT_MS = 150_000;
const INSTALLING = '· Installing the dependencies (npm ci)';

const dependencies = { local: 'file:./local' };
const fittingLock = {
  '': { dependencies },
  local: { version: '1.0.0' },
  'node_modules/local': { resolved: 'local', link: true },
};
/** `npm ci` refuses a lock that lacks a dependency. */
const poorLock = { '': {} };

/** Runs `lint`, which needs no build, in a project that was just cloned and has one dependency. */
async function lint(dir: string, packages: object, hooks: { preinstall?: string } = {}) {
  const write = (path: string, content: object): Promise<void> =>
    writeFile(join(dir, path), JSON.stringify(content));
  for (const folder of ['stack', 'local']) await mkdir(join(dir, folder));
  await copyFile(join(repoDir, 'stack', 'bootstrap.mjs'), join(dir, 'stack', 'bootstrap.mjs'));
  await write(join('local', 'package.json'), { name: 'local', version: '1.0.0' });
  await write('package.json', { scripts: { 'lint:tools': 'echo linted', ...hooks }, dependencies });
  await write('package-lock.json', { lockfileVersion: 3, requires: true, packages });
  const args = [join(dir, 'stack', 'bootstrap.mjs'), 'lint'];
  const env = { ...process.env, npm_config_loglevel: 'silent' };
  const { ok, output } = await runCommand(process.execPath, args, { timeoutMs: TIMEOUT_MS, env });
  return { ok, output, lines: output.trim().split('\n') };
}

test('an install that works prints one line', () =>
  withDataDir(async (dir) => {
    const { ok, lines } = await lint(dir, fittingLock);

    expect(lines).toEqual([INSTALLING, 'linted']);
    expect(ok).toBe(true);
  }));

test('where npm ci refuses the lock and npm install works, npm itself prints nothing', () =>
  withDataDir(async (dir) => {
    const { ok, lines } = await lint(dir, poorLock);

    expect(lines).toEqual([
      INSTALLING,
      '· npm ci did not work here; trying npm install, which leaves the lock file as it is',
      'linted',
    ]);
    expect(ok).toBe(true);
  }));

test('where both fail, what npm printed of both is shown, and the command is not run', () =>
  withDataDir(async (dir) => {
    const { ok, output } = await lint(dir, poorLock, { preinstall: 'echo no room here && exit 1' });

    expect(output).toContain('npm help ci');
    expect(output).toContain('no room here');
    expect(output).not.toContain('linted');
    expect(ok).toBe(false);
  }));
