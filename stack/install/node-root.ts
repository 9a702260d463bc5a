/**
 * The files of an image of Node on a slim Debian, for a machine that reaches no registry of images. Debian's
 * archive and npm have all that the public image consists of.
 */

import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { cacheDir, intoCache, withInstallLock } from './cache.ts';
import { locateDebootstrap, mirrorOfApt } from './debootstrap.ts';

const STEP_TIMEOUT_MS = 10 * 60_000;
/** The major that Node 24 brings. */
const NPM = 'npm@11';
const ADVICE = 'The base image can be neither pulled nor made here: making it needs root on Debian.';

/** @returns a tar of the root directory: Debian, Node, npm, and the user `node` (1000) */
export async function locateNodeRoot(
  { node, debian }: { node: string; debian: string },
  progress: (line: string) => void,
): Promise<string> {
  const name = `node-${node}-${debian}-slim.tar`;
  const file = join(cacheDir(), name);
  if (existsSync(file)) return file;
  return withInstallLock(name, progress, async () => {
    if (existsSync(file)) return file;
    progress(`Making a Debian ${debian} with Node ${node} (some minutes, once)`);
    return intoCache(name, (workDir) => make(workDir, { node, debian }, progress));
  });
}

async function make(
  workDir: string,
  { node, debian }: { node: string; debian: string },
  progress: (line: string) => void,
): Promise<string> {
  const debootstrap = await locateDebootstrap(progress);
  if (debootstrap === undefined) throw new Error(ADVICE);
  const root = join(workDir, 'root');
  // It mounts /proc in the new root: with mounts of its own nothing stays mounted, even if it is killed.
  const ownMounts = ['--mount', '--propagation', 'private', debootstrap];
  await run('unshare', [...ownMounts, '--variant=minbase', debian, root, ...(await mirrorOfApt())]);
  const packages = [`node-linux-${process.arch}@${node}`, NPM];
  await run('npm', ['pack', '--silent', `--pack-destination=${workDir}`, ...packages]);
  const local = join(root, 'usr', 'local');
  await unpack(workDir, 'node-', local, ['package/bin', 'package/LICENSE']);
  const npm = join(local, 'lib', 'node_modules', 'npm');
  mkdirSync(npm, { recursive: true });
  await unpack(workDir, 'npm-', npm, []);
  for (const name of ['npm', 'npx'])
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(local, 'bin', name));
  await run('chroot', [root, 'groupadd', '--gid', '1000', 'node']);
  const user = ['--uid', '1000', '--gid', 'node', '--shell', '/bin/bash', '--create-home', 'node'];
  await run('chroot', [root, 'useradd', ...user]);
  for (const dir of ['var/lib/apt/lists', 'var/cache/apt/archives']) {
    rmSync(join(root, dir), { recursive: true, force: true });
    mkdirSync(join(root, dir));
  }
  const file = join(workDir, 'root.tar');
  // The engine gives each container a /dev and a /proc of its own.
  await run('tar', ['--create', `--file=${file}`, `--directory=${root}`, '--exclude=./dev/*', '.']);
  return file;
}

/** @param start of the name of the package's file */
async function unpack(workDir: string, start: string, to: string, members: string[]): Promise<void> {
  const archive = readdirSync(workDir).find((name) => name.startsWith(start) && name.endsWith('.tgz')) ?? '';
  const from = ['--extract', `--file=${join(workDir, archive)}`];
  await run('tar', [...from, `--directory=${to}`, '--strip-components=1', '--no-same-owner', ...members]);
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const result = await runCommand(command, args, { timeoutMs: STEP_TIMEOUT_MS });
  if (!result.ok) throw new Error(`${ADVICE} (${result.reason})\n${result.output}`);
}
