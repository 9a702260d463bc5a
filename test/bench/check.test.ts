/** `npm run bench -- compare --check`: which figures are older than the code they were measured on. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findOutdated } from '../../bench/compare/check.ts';
import { buildPart } from './build-part.ts';

const PART_FILE = 'bench/compare/parts/accept.ts';

let repo: string;

beforeEach(() => {
  repo = mkdtempSync(join(tmpdir(), 'holdfast-check-'));
  git('init', '--quiet');
  commit({
    'src/api.ts': 'first',
    'lua/reserve.lua': 'first',
    [PART_FILE]: 'first',
    'docs/page.md': 'first',
  });
});
afterEach(() => rmSync(repo, { recursive: true, force: true }));

function git(...args: string[]): string {
  const own = ['user.name=test', 'user.email=test@example.com', 'commit.gpgSign=false'];
  return execFileSync('git', [...own.flatMap((each) => ['-c', each]), ...args], {
    cwd: repo,
    encoding: 'utf8',
  }).trim();
}

function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(repo, name)), { recursive: true });
    writeFileSync(join(repo, name), text);
  }
}

/** @returns as a result names it */
function commit(files: Record<string, string>): string {
  write(files);
  git('add', '.');
  git('commit', '--quiet', '--message', 'A change');
  return head();
}

const head = (): string => git('rev-parse', '--short=12', 'HEAD');

async function check(commitOfAccept: string): Promise<string[]> {
  const names = ['accept', 'poll'];
  const parts = [buildPart({ commit: commitOfAccept }), buildPart({ name: 'poll', commit: commitOfAccept })];
  const outdated = await findOutdated({ repo, names, results: { parts } });
  return outdated.map(({ name, reason }) => `${name}: ${reason}`);
}

test('a part that was measured on the code as it is is not listed', async () => {
  expect(await check(head())).toEqual([]);
});

test.each(['src/api.ts', 'lua/reserve.lua'])(
  'a change of %s lists every part that was measured before, with the change',
  async (file) => {
    const measured = head();
    const changed = commit({ [file]: 'second' });
    const listed = await check(measured);
    expect(listed).toHaveLength(2);
    for (const line of listed) {
      expect(line).toContain(`measured on 2026-11-22 at ${measured}; since then 1 file changed`);
      expect(changed).toContain(/last in (\w+) of/.exec(line)?.[1]);
    }
  },
);

test('a change of a part lists this part alone, and a change of the docs none', async () => {
  const measured = head();
  commit({ 'docs/page.md': 'second' });
  expect(await check(measured)).toEqual([]);
  commit({ [PART_FILE]: 'second' });
  expect(await check(measured)).toEqual([expect.stringMatching(/^accept: /)]);
});

test('a change that was taken back makes no figure old', async () => {
  const measured = head();
  commit({ 'src/api.ts': 'second' });
  commit({ 'src/api.ts': 'first' });
  expect(await check(measured)).toEqual([]);
});

test('a change that is not committed counts', async () => {
  write({ 'src/api.ts': 'second' });
  expect((await check(head()))[0]).toContain('last in what is not committed');
});

test('figures of no commit that this checkout has are listed, and so is a part without figures', async () => {
  expect((await check('0123456789ab'))[0]).toContain('which this checkout does not have');
  expect((await check(`${head()} with changes`))[0]).toContain('which no commit has');
  expect((await check('unknown'))[0]).toContain('which no commit has');
  expect(await findOutdated({ repo, names: ['accept'], results: { parts: [] } })).toEqual([
    { name: 'accept', reason: 'never measured' },
  ]);
});
