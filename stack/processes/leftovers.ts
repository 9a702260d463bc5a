/** Ends what a stack that was killed with SIGKILL has left running, by the list that it wrote. */

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { runCommand } from './command.ts';
import { signalGroup } from './process.ts';
import { waitUntil } from './wait.ts';

/** A database needs some seconds to close its files in good order. */
const STOP_TIMEOUT_MS = 15_000;

const entry = z.object({ pid: z.number().int(), marker: z.string() });
const processList = z.object({ owner: entry, processes: z.array(entry.extend({ name: z.string() })) });

/** What a stack writes down about itself, so that the next one can clean up after a `kill -9` of it. */
export type ProcessList = z.infer<typeof processList>;

export function processListFile(dataDir: string): string {
  return join(dataDir, 'processes.json');
}

/**
 * Stops the servers that a killed stack left behind on this data folder. A pid may belong to another process
 * by now, so each is stopped only if its command line still has its marker. Throws when the stack is alive.
 */
export async function stopLeftovers(options: {
  dataDir: string;
  progress: (line: string) => void;
}): Promise<void> {
  const list = readList(processListFile(options.dataDir));
  if (list === undefined) return;
  if (list.owner.pid !== process.pid && (await isStill(list.owner))) {
    throw new Error(
      `Holdfast is running already in this folder (process ${list.owner.pid}): stop it with Ctrl-C in its terminal, or with: kill ${list.owner.pid}`,
    );
  }
  for (const left of list.processes.toReversed()) {
    if (!(await isStill(left))) continue;
    options.progress(`Stopping ${left.name} (process ${left.pid}), left behind by a start that was killed`);
    signalGroup(left.pid, 'SIGTERM');
    const isGone = async (): Promise<boolean> => !(await isStill(left));
    try {
      await waitUntil({ what: `${left.name} to end`, timeoutMs: STOP_TIMEOUT_MS, check: isGone });
    } catch {
      signalGroup(left.pid, 'SIGKILL');
      await waitUntil({ what: `${left.name} to be killed`, timeoutMs: STOP_TIMEOUT_MS, check: isGone });
    }
  }
  rmSync(processListFile(options.dataDir), { force: true });
}

function readList(file: string): ProcessList | undefined {
  if (!existsSync(file)) return undefined;
  try {
    return processList.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    throw new Error(`${file} is damaged: stop the servers it names, then remove it`, { cause });
  }
}

async function isStill(noted: { pid: number; marker: string }): Promise<boolean> {
  return (await commandLine(noted.pid)).includes(noted.marker);
}

/** Empty when there is no such process. */
async function commandLine(pid: number): Promise<string> {
  if (existsSync('/proc/self/cmdline')) {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return '';
    }
  }
  const listed = await runCommand('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { timeoutMs: 5_000 });
  return listed.ok ? listed.output : '';
}
