/** A test run leaves neither processes nor files, however it ends. */

import { spawn } from 'node:child_process';
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

test.each(WAYS)('when %s, the run ends the Redises that its file has left, and removes their files', (how) =>
  withDataDir(async (dir) => {
    const note = join(dir, 'note');
    const config = join('test', 'stack', 'left-behind', 'vitest.config.ts');
    const run = spawn(process.execPath, [join('stack', 'bootstrap.mjs'), 'test', '--config', config], {
      cwd: repoDir,
      stdio: 'ignore',
      env: {
        ...process.env,
        MYSQL_URL: inject('mysqlUrl'),
        TEMPORAL_ADDRESS: inject('temporalAddress'),
        END_BADLY: how,
        NOTE: note,
      },
    });
    const ended = once(run, 'exit');
    if (how === 'Ctrl-C is pressed') {
      await waitFor('the Redises', () => existsSync(note));
      run.kill('SIGINT');
    }

    expect((await ended)[0]).toBeGreaterThan(0);

    const { urls, folder } = noted.parse(JSON.parse(await readFile(note, 'utf8')));
    const ports = urls.map((url) => Number(new URL(url).port));
    expect(await Promise.all(ports.map((port) => canConnect('127.0.0.1', port)))).toEqual([false, false]);
    expect(existsSync(folder)).toBe(false);
  }),
);
