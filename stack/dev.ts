/** What `npm run dev` adds to `npm start`: it builds a change in the sources and restarts API and worker. */

import { watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { repoDir } from './install/repo-dir.ts';
import { runCommand } from './processes/command.ts';
import type { Processes } from './processes/processes.ts';

const WATCHED_FOLDERS = ['src', 'lua', 'pages'];
/** Editors also write backups and swap files, which change nothing. */
const SOURCE_FILE = /\.(ts|lua|html|css|js)$/;
/** An editor, or a git checkout, writes its files within this time. */
const SETTLE_MS = 200;
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
    const options = { recursive: true, signal: processes.stopping };
    watch(join(repoDir, folder), options, (_, file) => {
      if (file !== null && SOURCE_FILE.test(file)) onChange(join(folder, file));
    });
  }
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
