/** Installs programs of Python that tests use, each in an environment of its own. */

import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { cacheDir, withInstallLock } from './cache.ts';

const INSTALL_TIMEOUT_MS = 10 * 60_000;

/** Makes up calls of the API from its OpenAPI document. */
export const SCHEMATHESIS = { name: 'schemathesis', version: '4.32.5' };
/** Reads a compose file otherwise than Docker's own tools. It interpolates anew from 1.6 on. */
export const PODMAN_COMPOSE = { name: 'podman-compose', version: '1.6.0' };

type PythonTool = { name: string; version: string };

/** An environment of Python keeps its own path, so it is made where it stays. */
export async function locatePythonTool(
  { name, version }: PythonTool,
  progress: (line: string) => void,
): Promise<string> {
  const cached = `${name}-${version}`;
  const folder = join(cacheDir(), cached);
  const program = join(folder, 'bin', name);
  return withInstallLock(cached, progress, async () => {
    if (existsSync(program)) return program;
    progress(`Installing ${name} with pip (once)`);
    rmSync(folder, { recursive: true, force: true });
    await run(name, 'python3', ['-m', 'venv', folder]);
    await run(name, join(folder, 'bin', 'pip'), ['install', '--quiet', `${name}==${version}`]);
    return program;
  });
}

async function run(name: string, command: string, args: readonly string[]): Promise<void> {
  const result = await runCommand(command, args, { timeoutMs: INSTALL_TIMEOUT_MS });
  if (result.ok) return;
  throw new Error(
    `${name} cannot be installed here: it needs Python 3 with venv and pip (${result.reason}).\n${result.output}`,
  );
}
