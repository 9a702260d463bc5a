/** Finds or fetches a server of MySQL, for the tests that run on it beside MariaDB. */

import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { cacheDir, intoCache, withInstallLock } from './cache.ts';
import { locateDebootstrap, mirrorOfApt } from './debootstrap.ts';
import { findProgram } from './server-packages.ts';

const VERSION_TIMEOUT_MS = 10_000;
const FETCH_TIMEOUT_MS = 10 * 60_000;
const CACHED_NAME = 'mysql-of-debian-sid';
const ADVICE =
  'MySQL is missing: put a mysqld of MySQL 8 or newer on PATH, or set MYSQL_URL to a running server. As root on Debian it is fetched.';

/** @returns the path of its `mysqld` */
export async function locateMysql(progress: (line: string) => void): Promise<string> {
  const own = findProgram(['mysqld']);
  const ownVersion = own && (await versionOfMysql(own));
  if (own && ownVersion) {
    progress(`MySQL ${ownVersion}: ${own}`);
    return own;
  }
  const dir = await locateCached(progress);
  const server = join(dir, 'mysqld');
  progress(`MySQL ${await versionOfMysql(server)}: ${dir} (remove it, and the next run fetches the newest)`);
  return server;
}

async function locateCached(progress: (line: string) => void): Promise<string> {
  const dir = join(cacheDir(), CACHED_NAME);
  if (existsSync(dir)) return dir;
  return withInstallLock(CACHED_NAME, progress, async () => {
    if (existsSync(dir)) return dir;
    return intoCache(CACHED_NAME, (workDir) => fetchInto(workDir, progress));
  });
}

/** @returns undefined unless it is MySQL 8 or newer: Debian has a `mysqld` that is MariaDB */
async function versionOfMysql(file: string): Promise<string | undefined> {
  const { ok, output } = await runCommand(file, ['--version'], { timeoutMs: VERSION_TIMEOUT_MS });
  const [, version, major] = /Ver ((\d+)\.\S+)/.exec(output) ?? [];
  return ok && !output.includes('MariaDB') && Number(major) >= 8 ? version : undefined;
}

/**
 * Debian's stable releases have MariaDB alone, its unstable one has MySQL too. No version is pinned, because
 * mirrors have the newest alone: the cache keeps that of the day on which it was fetched. The packages bring
 * their own C library, so they are unpacked beside the system and not installed. Nothing of theirs runs but
 * the server.
 */
async function fetchInto(workDir: string, progress: (line: string) => void): Promise<string> {
  const debootstrap = await locateDebootstrap(progress);
  if (debootstrap === undefined) throw new Error(ADVICE);
  progress("Fetching MySQL from Debian's unstable (about a minute, once)");
  const packages = join(workDir, 'packages');
  const mirror = await mirrorOfApt();
  await run(debootstrap, [
    '--variant=minbase',
    '--include=mysql-server-core',
    '--download-only',
    'sid',
    packages,
    ...mirror,
  ]);
  const made = join(workDir, 'made');
  const root = join(made, 'root');
  mkdirSync(root, { recursive: true });
  const archives = join(packages, 'var', 'cache', 'apt', 'archives');
  for (const file of readdirSync(archives).filter((name) => name.endsWith('.deb'))) {
    await run('dpkg-deb', ['--extract', join(archives, file), root]);
  }
  writeFileSync(join(made, 'mysqld'), launcher(root));
  chmodSync(join(made, 'mysqld'), 0o755);
  if (!(await versionOfMysql(join(made, 'mysqld'))))
    throw new Error(`${ADVICE} What was fetched does not run here.`);
  return made;
}

/** Runs the server with the libraries beside it, as one process. */
function launcher(root: string): string {
  const library = readdirSync(join(root, 'usr', 'lib')).find((name) => name.endsWith('-linux-gnu')) ?? '';
  const loader = readdirSync(join(root, 'usr', 'lib', library)).find((name) => name.startsWith('ld-linux'));
  return `#!/bin/sh
usr=\${0%/*}/root/usr
libraries=$usr/lib/${library}
exec "$libraries/${loader}" --library-path "$libraries" "$usr/sbin/mysqld" "$@" --basedir="$usr"
`;
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const result = await runCommand(command, args, { timeoutMs: FETCH_TIMEOUT_MS });
  if (!result.ok) throw new Error(`${ADVICE} (${result.reason})\n${result.output}`);
}
