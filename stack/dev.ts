/** What `npm run dev` adds to `npm start`: it builds a change in the sources and restarts API and worker. */

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { repoDir } from './install/repo-dir.ts';
import { runCommand } from './processes/command.ts';
import type { Processes } from './processes/processes.ts';

const WATCHED_FOLDERS = ['src', 'lua', 'pages'];
/** Editors also write backups and swap files, which change nothing. */
const SOURCE_FILE = /\.(ts|lua|html|css|js)$/;
/** Short enough that a save is noticed at once; a look at some 150 files takes a few milliseconds. */
const POLL_MS = 250;
/** Longer than a poll, so that what a git checkout writes between two polls is one round. */
const SETTLE_MS = 300;
/** A build takes some seconds; this bounds a hang. */
const BUILD_TIMEOUT_MS = 5 * 60_000;

/** The parts that run the watched sources. */
export const RESTARTED_PARTS: readonly string[] = ['api', 'worker'];

/** Until the processes are being stopped: each change in the sources leads to a build and a restart. */
export function restartOnChange(processes: Processes, say: (line: string) => void): void {
  const onChange = createRounds({
    settle: () => delay(SETTLE_MS),
    round: (files) => rebuildAndRestart(processes, files, say),
  });
  for (const folder of WATCHED_FOLDERS) {
    pollSources({
      dir: join(repoDir, folder),
      intervalMs: POLL_MS,
      signal: processes.stopping,
      onChange: (file) => onChange(join(folder, file)),
      onUnreadable: (error) => say(`${folder} is not watched until it can be read again: ${String(error)}`),
    });
  }
}

/**
 * Until the signal: compares the source files below a folder with those of the poll before.
 *
 * It polls because a recursive `fs.watch` on Linux follows a file's inode: after a save that writes a
 * temporary file and renames it (vim, JetBrains, git checkout, sed -i) it misses all later saves of the file.
 */
export function pollSources(options: {
  dir: string;
  intervalMs: number;
  signal: AbortSignal;
  /** Receives the path, from the folder, of a file that was added, saved or removed. */
  onChange: (file: string) => void;
  /** Called at the first of successive polls that fail; the later polls go on. */
  onUnreadable: (error: unknown) => void;
}): void {
  let versions = new Map<string, string>();
  let isReadable = true;

  const read = (): Map<string, string> => {
    try {
      const latest = readVersions(options.dir);
      isReadable = true;
      return latest;
    } catch (error) {
      if (isReadable) options.onUnreadable(error);
      isReadable = false;
      return versions;
    }
  };

  versions = read();
  const timer = setInterval(() => {
    if (options.signal.aborted) return clearInterval(timer);
    const before = versions;
    versions = read();
    for (const file of new Set([...before.keys(), ...versions.keys()])) {
      if (before.get(file) !== versions.get(file)) options.onChange(file);
    }
  }, options.intervalMs);
}

/** Inode and size are part of a version, because two saves within milliseconds may share the time. */
function readVersions(dir: string): Map<string, string> {
  const versions = new Map<string, string>();
  for (const file of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    if (!SOURCE_FILE.test(file)) continue;
    const stats = statSync(join(dir, file), { throwIfNoEntry: false });
    // Undefined when it was removed after the folder was read.
    if (stats !== undefined) versions.set(file, `${stats.ino} ${stats.size} ${stats.mtimeMs}`);
  }
  return versions;
}

/**
 * Gathers changes and handles them in rounds, one at a time. What changes while a round runs is handled in
 * one further round. `round` must not reject.
 */
export function createRounds(options: {
  /** Resolves when the changes that belong together have arrived. */
  settle: () => Promise<void>;
  round: (files: string[]) => Promise<void>;
}): (file: string) => void {
  const changed = new Set<string>();
  let isRunning = false;

  const run = async (): Promise<void> => {
    if (isRunning) return;
    isRunning = true;
    while (changed.size > 0) {
      await options.settle();
      const files = [...changed];
      changed.clear();
      await options.round(files);
    }
    isRunning = false;
  };

  return (file) => {
    changed.add(file);
    void run();
  };
}

async function rebuildAndRestart(
  processes: Processes,
  files: readonly string[],
  say: (line: string) => void,
): Promise<void> {
  const startedMs = Date.now();
  say(files.length === 1 ? `${files[0]} changed` : `${files.length} files changed`);
  const args = [join(repoDir, 'stack', 'bootstrap.mjs'), 'build'];
  const options = { cwd: repoDir, timeoutMs: BUILD_TIMEOUT_MS, signal: processes.stopping };
  const built = await runCommand(process.execPath, args, options);
  if (processes.stopping.aborted) return;
  if (!built.ok) {
    say(`The build failed; the API and the worker run on as they were:\n${built.output.trimEnd()}`);
    return;
  }
  const restarts = await Promise.allSettled(RESTARTED_PARTS.map((name) => processes.restart(name)));
  if (processes.stopping.aborted) return;
  const failed = restarts.filter((restart) => restart.status === 'rejected');
  for (const { reason } of failed) say(`${String(reason)}\n  It is started again after the next change`);
  if (failed.length === 0) {
    say(`The API and the worker run the change, after ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
  }
}
