/** Small Node programs that stand for the servers of a stack. */

import { readFile } from 'node:fs/promises';
import type { Processes, StartOptions } from '../../stack/processes/processes.ts';

export const FOREVER = 'setInterval(() => {}, 1000)';

/** It says when it is ready, and has its data folder on its command line as servers have it. */
export function program(processes: Processes, name: string, script: string): StartOptions {
  return {
    name,
    command: process.execPath,
    args: ['--eval', `${script}; console.log('ready', process.pid);`, processes.dataDir],
    marker: processes.dataDir,
    isReady: async () => (await logOf(processes, name)).includes('ready'),
    readyTimeoutMs: 60_000,
    stopTimeoutMs: 500,
  };
}

export async function logOf(processes: Processes, name: string): Promise<string> {
  return readFile(processes.logFile(name), 'utf8');
}

export async function pidOf(processes: Processes, name: string): Promise<number> {
  return Number(/ready (\d+)/.exec(await logOf(processes, name))?.[1]);
}
