/** Installs schemathesis, which makes up calls of the API from its OpenAPI document. */

import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { cacheDir, withInstallLock } from './cache.ts';

const VERSION = '4.32.5';
const INSTALL_TIMEOUT_MS = 10 * 60_000;

/** An environment of Python keeps its own path, so it is made where it stays. */
export async function locateSchemathesis(progress: (line: string) => void): Promise<string> {
  const name = `schemathesis-${VERSION}`;
  const folder = join(cacheDir(), name);
  const program = join(folder, 'bin', 'schemathesis');
  return withInstallLock(name, progress, async () => {
    if (existsSync(program)) return program;
    progress('Installing schemathesis with pip (once)');
    rmSync(folder, { recursive: true, force: true });
    await run('python3', ['-m', 'venv', folder]);
    await run(join(folder, 'bin', 'pip'), ['install', '--quiet', `schemathesis==${VERSION}`]);
    return program;
  });
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const result = await runCommand(command, args, { timeoutMs: INSTALL_TIMEOUT_MS });
  if (result.ok) return;
  throw new Error(
    `schemathesis cannot be installed here: it needs Python 3 with venv and pip (${result.reason}).\n${result.output}`,
  );
}
