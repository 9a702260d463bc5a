/** Runs a command that ends by itself, such as a build or an installation. */

import { spawn } from 'node:child_process';

/** The end of what a command printed is kept, because it says why the command failed. */
const KEPT_OUTPUT_CHARS = 4_000;

export type CommandResult = { ok: true; output: string } | { ok: false; reason: string; output: string };

/**
 * Runs a command to its end, bounded. One that is still running when this process exits is ended with it. A
 * signal to this process group does not reach it, because a package manager must not be cut short.
 */
export function runCommand(
  command: string,
  args: readonly string[],
  options: {
    timeoutMs: number;
    cwd?: string;
    env?: NodeJS.ProcessEnv;
    /** Called every half minute, so that a long step shows that it is alive. */
    onStillRunning?: (elapsedMs: number) => void;
    /** Ends the command before its time. */
    signal?: AbortSignal;
  },
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const startedMs = Date.now();
    let output = '';
    const child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeoutMs,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-KEPT_OUTPUT_CHARS);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);

    const endWithUs = (): void => void child.kill();
    process.once('exit', endWithUs);
    const heartbeat = setInterval(() => options.onStillRunning?.(Date.now() - startedMs), 30_000);
    const finish = (result: CommandResult): void => {
      clearInterval(heartbeat);
      process.off('exit', endWithUs);
      resolve(result);
    };
    child.once('error', (error) => finish({ ok: false, reason: error.message, output }));
    child.once('close', (code, signal) => {
      if (code === 0) return finish({ ok: true, output });
      const ended = signal === null ? `exit code ${code}` : `ended by ${signal}`;
      return finish({ ok: false, reason: `${command}: ${ended}`, output });
    });
  });
}
