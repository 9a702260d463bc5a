/** Starts a process that stores orders, holds it back while orders are queued, and reads its peak memory. */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Setup } from '../../../peers/consumers/consumer.ts';

export type ConsumerName = 'lua-list' | 'rabbitmq' | 'bullmq' | 'dbos' | 'restate' | 'raw';

export interface ConsumerProcess {
  /** Let loose; until then it is stopped by the kernel. */
  begin(): void;
  peakMemoryMb(): number;
  end(): Promise<void>;
}

/** Resolves when the consumer is connected, and frozen: what is queued from then on waits. */
export async function startConsumer(name: ConsumerName, setup: Setup): Promise<ConsumerProcess> {
  const script = fileURLToPath(new URL(`../../../peers/consumers/${name}.js`, import.meta.url));
  const child = fork(script, [JSON.stringify(setup)], { execArgv: ['--no-deprecation'] });
  const { pid } = child;
  // One that is frozen does not notice that this process has ended.
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const ended = once(child, 'exit');
  const [first]: unknown[] = await Promise.race([once(child, 'message'), ended]);
  if (first !== 'ready' || pid === undefined)
    throw new Error(`the consumer ${name} ended with ${String(first)}`);
  child.kill('SIGSTOP');
  return {
    begin() {
      child.send('begin');
      child.kill('SIGCONT');
    },
    peakMemoryMb: () => peakMemoryMb(pid),
    async end() {
      process.off('exit', kill);
      kill();
      await ended;
    },
  };
}

/** The most memory that a process has had resident, in MB; from /proc, so on Linux alone. */
export function peakMemoryMb(pid: number): number {
  const kb = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kb) / 1024;
}
