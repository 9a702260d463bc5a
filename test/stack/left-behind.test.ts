/** A test run leaves neither processes nor files, however it ends. */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { canConnect } from '../../stack/processes/ports.ts';
import { waitFor } from '../support/wait.ts';
import { withDataDir } from './data-dir.ts';

/** What its one file writes down: its Redises, and the folder of the run. */
const noted = z.object({ urls: z.array(z.string()).length(2), folder: z.string() });
const WAYS = ['a hook hangs', 'the worker is killed', 'vitest is killed', 'Ctrl-C is pressed'];
const KILLED = 'the run is killed';

interface Run {
  process: ChildProcess;
  /** The exit code; null after a signal. */
  ended: Promise<number | null>;
}

function startRun(args: readonly string[], env: NodeJS.ProcessEnv = {}): Run {
  const config = join('test', 'stack', 'left-behind', 'vitest.config.ts');
  const all = [join('stack', 'bootstrap.mjs'), 'test', '--config', config, ...args];
  const run = spawn(process.execPath, all, {
    cwd: repoDir,
    stdio: 'ignore',
    env: {
      ...process.env,
      MYSQL_URL: inject('mysqlUrl'),
      TEMPORAL_ADDRESS: inject('temporalAddress'),
      ...env,
    },
  });
  return { process: run, ended: once(run, 'exit').then(() => run.exitCode) };
}

async function killOnceNoted(run: Run, signal: NodeJS.Signals, note: string): Promise<void> {
  await waitFor('the Redises', () => existsSync(note));
  run.process.kill(signal);
}

test.each([...WAYS, KILLED])(
  'when %s, that run or the next ends the Redises that its file has left, and removes their files',
  (how) =>
    withDataDir(async (dir) => {
      const note = join(dir, 'note');
      const run = startRun([], { END_BADLY: how, NOTE: note });
      if (how === 'Ctrl-C is pressed') await killOnceNoted(run, 'SIGINT', note);
      if (how === KILLED) await killOnceNoted(run, 'SIGKILL', note);
      expect(await run.ended).not.toBe(0);
      // The next run finds no test.
      if (how === KILLED) expect(await startRun(['no-such-file', '--passWithNoTests']).ended).toBe(0);

      const { urls, folder } = noted.parse(JSON.parse(await readFile(note, 'utf8')));
      const ports = urls.map((url) => Number(new URL(url).port));
      expect(await Promise.all(ports.map((port) => canConnect('127.0.0.1', port)))).toEqual([false, false]);
      expect(existsSync(folder)).toBe(false);
    }),
);
