/** Runs a server in a Docker container where it cannot be installed as a program. */

import { createHash } from 'node:crypto';
import { runCommand } from '../processes/command.ts';

/** A healthy engine replies at once; one that is just being started may take some seconds. */
const ENGINE_TIMEOUT_MS = 10_000;

/** The first start pulls the image, over a line that may be slow. */
export const CONTAINER_READY_TIMEOUT_MS = 10 * 60_000;

export async function dockerAnswers(): Promise<boolean> {
  return (await runCommand('docker', ['info'], { timeoutMs: ENGINE_TIMEOUT_MS })).ok;
}

/**
 * The command line of a container in the foreground: its client passes SIGTERM on and ends with it, so it is
 * a process like the others. Data lies in a named volume, because a Mac's folders do not suit a database.
 */
export async function containerCommand(options: {
  name: string;
  dataDir: string;
  /** Begins with an empty volume. */
  fresh: boolean;
  /** False: no volume at all, so that test runs leave none behind. */
  durable: boolean;
  image: string;
  port: number;
  innerPort: number;
  innerDir: string;
  options: readonly string[];
  args: readonly string[];
}): Promise<{ command: string; args: string[]; lastly: string[]; marker: string }> {
  const container = `holdfast-${options.name}-${shortHash(options.dataDir)}`;
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
      ...(options.durable ? [`--volume=${container}:${options.innerDir}`] : []),
      ...options.options,
      options.image,
      ...options.args,
    ],
    lastly: ['docker', 'rm', '--force', container],
    marker: container,
  };
}

/** A short name that is the same for a folder every time, where the path itself does not fit. */
export function shortHash(path: string): string {
  return createHash('sha256').update(path).digest('hex').slice(0, 12);
}
