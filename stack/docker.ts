import { createHash } from 'node:crypto';

import { runCommand } from './command.ts';

/** A healthy engine answers at once; one that is just being started may take some seconds. */
const ENGINE_TIMEOUT_MS = 10_000;

/** The first start pulls the image, over a line that may be slow. */
export const CONTAINER_READY_TIMEOUT_MS = 10 * 60_000;

export async function dockerAnswers(): Promise<boolean> {
  return (await runCommand('docker', ['info'], { timeoutMs: ENGINE_TIMEOUT_MS })).ok;
}

/**
 * The command line of a container in the foreground: its client passes our SIGTERM on and ends with it, so it
 * is a process like the others. Data lies in a named volume, because a Mac's folders do not suit a database.
 */
export async function containerCommand(options: {
  name: string;
  dataDir: string;
  fresh: boolean;
  image: string;
  port: number;
  innerPort: number;
  innerDir: string;
  options: readonly string[];
  args: readonly string[];
}): Promise<{ command: string; args: string[]; lastly: string[]; marker: string }> {
  const suffix = createHash('sha256').update(options.dataDir).digest('hex').slice(0, 12);
  const container = `holdfast-${options.name}-${suffix}`;
  // What a killed start has left: two containers cannot share a name, nor two databases a folder.
  await runCommand('docker', ['rm', '--force', container], { timeoutMs: ENGINE_TIMEOUT_MS });
  if (options.fresh) {
    await runCommand('docker', ['volume', 'rm', '--force', container], { timeoutMs: ENGINE_TIMEOUT_MS });
  }
  return {
    command: 'docker',
    args: [
      'run',
      '--rm',
      `--name=${container}`,
      `--publish=127.0.0.1:${options.port}:${options.innerPort}`,
      `--volume=${container}:${options.innerDir}`,
      ...options.options,
      options.image,
      ...options.args,
    ],
    lastly: ['docker', 'rm', '--force', container],
    marker: container,
  };
}
