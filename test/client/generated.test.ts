/** The client's calls are those of the OpenAPI document: they are made again and compared. */

import { execFile } from 'node:child_process';
import { copyFile, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { withDataDir } from '../stack/data-dir.ts';

const run = promisify(execFile);
const client = join(repoDir, 'packages', 'client');

async function readAll(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder)).toSorted();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
  return Object.fromEntries(names.map((name, i) => [name, texts[i] ?? '']));
}

test('the generated calls are as the document has them; `npm run generate` in packages/client renews them', (context) =>
  withDataDir(async (dir) => {
    // What it needs is outside the lock, so a machine may be without it.
    const tools = await run('npm', ['exec', '--yes', '--package=node@22', '--', 'node', '--version']).catch(
      () => undefined,
    );
    context.skip(tools === undefined, 'npm brings no node@22 here');

    await mkdir(join(dir, 'src'));
    await copyFile(join(client, 'src', 'send.ts'), join(dir, 'src', 'send.ts'));
    const env = { ...process.env, HOLDFAST_CLIENT_DIR: dir };
    await run(process.execPath, [join(client, 'generate.mjs')], { env });

    expect(await readAll(join(dir, 'src', 'generated'))).toEqual(
      await readAll(join(client, 'src', 'generated')),
    );
  }));
