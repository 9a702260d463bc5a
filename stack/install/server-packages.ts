/** Finds or installs the database servers: as a program on PATH, with apt-get, or in a container. */

import { accessSync, constants, realpathSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { withInstallLock } from './cache.ts';
import { dockerAnswers } from './docker.ts';

/** Where package managers put servers that an ordinary user's PATH does not name. */
const MORE_BIN_DIRS = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin', '/opt/homebrew/bin', '/usr/libexec'];

const APT_TIMEOUT_MS = 10 * 60_000;
const VERSION_TIMEOUT_MS = 10_000;

/** A database server that Holdfast needs, and every way to come by it. */
export type ServerPackage = {
  /** With the oldest version that will do, as in "Redis 7 or newer". */
  what: string;
  /** The first that is there and good is started. */
  binaries: readonly string[];
  /** The environment variable that names the program to start, whatever else is there. */
  programVariable?: string;
  isGoodVersion: (versionOutput: string) => boolean;
  aptPackage: string;
  brewFormula: string;
  /** The environment variable that names a running one instead. */
  variable: string;
};

export type Found = { kind: 'binary'; path: string } | { kind: 'docker' };

/** On PATH, else by apt-get as root, else in a container; throws one sentence that says what to do. */
export async function locateServers(
  servers: readonly ServerPackage[],
  progress: (line: string) => void,
): Promise<Found[]> {
  let found = await Promise.all(servers.map(findServer));
  const missing = servers.filter((_, index) => found[index] === undefined);
  if (missing.length > 0 && canUseApt()) {
    await installWithApt(
      missing.map((server) => server.aptPackage),
      progress,
    );
    found = await Promise.all(servers.map(findServer));
  }
  const stillMissing = servers.filter((_, index) => found[index] === undefined);
  if (stillMissing.length > 0 && !(await dockerAnswers())) throw new Error(advice(stillMissing));
  return found.map((path) => (path === undefined ? { kind: 'docker' } : { kind: 'binary', path }));
}

/** The full path of the first of these programs that is there. */
export function findProgram(names: readonly string[], moreDirs: readonly string[] = []): string | undefined {
  const dirs = [...(process.env['PATH'] ?? '').split(delimiter), ...MORE_BIN_DIRS, ...moreDirs];
  const candidates = names.flatMap((name) => dirs.filter((dir) => dir !== '').map((dir) => join(dir, name)));
  return candidates.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The folder in which a program really lies: its companions are there even if only a link is on PATH. */
export function homeOf(program: string): string {
  return dirname(realpathSync(program));
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

async function findServer(server: ServerPackage): Promise<string | undefined> {
  const named = server.programVariable && process.env[server.programVariable];
  const paths = named ? [named] : server.binaries.map((name) => findProgram([name]));
  for (const path of paths) {
    if (path === undefined) continue;
    const version = await runCommand(path, ['--version'], { timeoutMs: VERSION_TIMEOUT_MS });
    if (version.ok && server.isGoodVersion(version.output)) return path;
  }
  return undefined;
}

export function canUseApt(): boolean {
  return process.platform === 'linux' && isRoot() && findProgram(['apt-get']) !== undefined;
}

/**
 * Debian's packages start a system service when they are installed; a policy-rc.d that exits 101 is Debian's
 * own way to say no. The whole is one shell script, so that the policy is removed even if this process dies
 * meanwhile.
 */
export async function installWithApt(
  names: readonly string[],
  progress: (line: string) => void,
): Promise<void> {
  const packages = names.join(' ');
  await withInstallLock('apt', progress, () => runApt(packages, progress));
}

async function runApt(packages: string, progress: (line: string) => void): Promise<void> {
  progress(`Installing ${packages} with apt-get (no system service is started or enabled by this)`);
  const script = `
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap 'rm -f $policy' EXIT
      trap : INT TERM HUP
      printf '#!/bin/sh\\nexit 101\\n' > $policy && chmod 755 $policy
    fi
    apt-get update -q
    apt-get install -q -y --no-install-recommends ${packages}`;
  const result = await runCommand('sh', ['-c', script], {
    timeoutMs: APT_TIMEOUT_MS,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    onStillRunning: (elapsedMs) => progress(`… apt-get is at work (${Math.round(elapsedMs / 1000)} s)`),
  });
  if (!result.ok) progress(`apt-get could not install ${packages} (${result.reason}):\n${result.output}`);
}

function advice(missing: readonly ServerPackage[]): string {
  const what = missing.map((server) => server.what).join(' and ');
  const variables = missing.map((server) => server.variable).join(' and ');
  const packages = missing.map((server) => server.aptPackage).join(' ');
  const formulas = missing.map((server) => server.brewFormula).join(' ');
  const apt =
    findProgram(['apt-get']) === undefined
      ? undefined
      : `${isRoot() ? '' : 'sudo '}apt-get install ${packages}`;
  const command = process.platform === 'darwin' ? `brew install ${formulas}` : apt;
  const first = command === undefined ? 'install it with your package manager' : `run \`${command}\``;
  return `${what} not found: ${first}, or start Docker, or set ${variables} to a running server.`;
}
