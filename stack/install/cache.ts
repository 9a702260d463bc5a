/** The cache of downloaded and built programs, shared by all stacks of this user. */

import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { takeLock } from '../processes/lock.ts';
import { waitUntil } from '../processes/wait.ts';

/** The slowest of them, the build of the Temporal server, took two and a half minutes on two cores. */
const LOCK_TIMEOUT_MS = 20 * 60_000;

/** Outside the repository's folder, so that a second clone finds what the first has fetched. */
export function cacheDir(): string {
  const base = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  const dir = join(base, 'holdfast');
  mkdirSync(dir, { recursive: true });
  return dir;
}

/**
 * Makes a program in a folder of its own and puts it into the cache with one rename: another stack sees it
 * whole or not at all. `make` returns the path of what is cached inside the folder.
 */
export async function intoCache(name: string, make: (workDir: string) => Promise<string>): Promise<string> {
  const target = join(cacheDir(), name);
  const workDir = mkdtempSync(join(cacheDir(), `${name}.making-`));
  const removeWorkDir = (): void => rmSync(workDir, { recursive: true, force: true });
  process.once('exit', removeWorkDir);
  try {
    renameSync(await make(workDir), target);
    return target;
  } finally {
    process.off('exit', removeWorkDir);
    removeWorkDir();
  }
}

/**
 * One stack at a time installs a program; the others wait for it. The lock of a dead holder is taken over.
 */
export async function withInstallLock<T>(
  name: string,
  progress: (line: string) => void,
  install: () => Promise<T>,
): Promise<T> {
  const lock = join(cacheDir(), `${name}.lock`);
  let saidSo = false;
  await waitUntil({
    what: `another process to finish getting ${name} (its lock is ${lock})`,
    timeoutMs: LOCK_TIMEOUT_MS,
    check: () => {
      if (takeLock(lock)) return true;
      if (!saidSo) progress(`Waiting for another process that is getting ${name}`);
      saidSo = true;
      return false;
    },
  });
  const release = (): void => rmSync(lock, { force: true });
  process.once('exit', release);
  try {
    return await install();
  } finally {
    process.off('exit', release);
    release();
  }
}
