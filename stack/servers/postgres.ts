/** Runs a private PostgreSQL on loopback: the database of a peer in the benchmarks. */

import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { canUseApt, findProgram, homeOf, installWithApt, isRoot } from '../install/server-packages.ts';
import { runCommand } from '../processes/command.ts';
import { withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';

const READY_TIMEOUT_MS = 30_000;
const INITIALISE_TIMEOUT_MS = 60_000;
/** It waits for its clients to leave, and writes a checkpoint. */
const STOP_TIMEOUT_MS = 10_000;
const CALL_TIMEOUT_MS = 2_000;

/** Debian keeps each major version in a folder of its own, and none of them on PATH. */
const DEBIAN_DIR = '/usr/lib/postgresql';
const APT_PACKAGE = 'postgresql';

const LOOPBACK = '127.0.0.1';
const USER = 'holdfast';
/** PostgreSQL refuses to run as root; this is the user without rights of every system. */
const NOBODY = 65_534;

export interface PostgresOptions {
  processes: Processes;
  progress: (line: string) => void;
}

/** @returns the URL of its first database; its commits are durable, as PostgreSQL has it by default */
export async function startPostgres({ processes, progress }: PostgresOptions): Promise<string> {
  const server = await locatePostgres(progress);
  const dir = join(processes.dataDir, 'postgres');
  if (!existsSync(dir)) await initialise(server, processes.dataDir, dir);
  const isReady = join(homeOf(server), 'pg_isready');
  return withFreePort(undefined, async (port) => {
    const settings = ['-h', LOOPBACK, '-p', String(port), '-c', 'unix_socket_directories='];
    await processes.start({
      name: 'postgres',
      ...asOrdinaryUser(server, ['-D', dir, ...settings]),
      marker: dir,
      // It listens before it takes connections.
      isReady: async () =>
        (await runCommand(isReady, ['-h', LOOPBACK, '-p', String(port)], { timeoutMs: CALL_TIMEOUT_MS })).ok,
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return `postgresql://${USER}@${LOOPBACK}:${port}/postgres`;
  });
}

async function initialise(server: string, parentDir: string, dir: string): Promise<void> {
  mkdirSync(dir);
  if (isRoot()) {
    chownSync(dir, NOBODY, NOBODY);
    // A temporary folder is its owner's alone, and the server has to pass through it.
    chmodSync(parentDir, 0o711);
  }
  // Any user of this machine may connect: it holds nothing but a measurement, for a minute.
  const initdb = asOrdinaryUser(join(homeOf(server), 'initdb'), ['-D', dir, '-U', USER, '-A', 'trust']);
  const result = await runCommand(initdb.command, initdb.args, { timeoutMs: INITIALISE_TIMEOUT_MS });
  if (!result.ok) throw new Error(`${dir} could not be made (${result.reason}):\n${result.output}`);
}

function asOrdinaryUser(command: string, args: string[]): { command: string; args: string[] } {
  if (!isRoot()) return { command, args };
  const user = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--'];
  return { command: 'setpriv', args: [...user, command, ...args] };
}

async function locatePostgres(progress: (line: string) => void): Promise<string> {
  const there = findPostgres();
  if (there !== undefined) return there;
  if (canUseApt()) await installWithApt([APT_PACKAGE], progress);
  const installed = findPostgres();
  if (installed !== undefined) return installed;
  throw new Error(`PostgreSQL not found: install it, on Debian with \`apt-get install ${APT_PACKAGE}\`.`);
}

function findPostgres(): string | undefined {
  const versions = existsSync(DEBIAN_DIR) ? readdirSync(DEBIAN_DIR) : [];
  return findProgram(
    ['postgres'],
    versions.map((version) => join(DEBIAN_DIR, version, 'bin')),
  );
}
