/** A temporary folder with the processes of a measurement, which end with it and with a Ctrl-C. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Processes } from '../stack/processes/processes.ts';
import { openDataDir } from '../stack/servers/servers.ts';

export interface BenchFolder {
  processes: Processes;
  /** Stops the processes in order and removes the folder. */
  close(): Promise<void>;
}

export async function openBenchFolder(progress: (line: string) => void): Promise<BenchFolder> {
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
  const onCrash = (crash: Error): void => console.error(crash.message);
  const processes = await openDataDir({ dataDir, fresh: true, progress, onCrash });
  // What was killed a moment ago may still be closing its files.
  const removeData = (): void => rmSync(dataDir, { recursive: true, force: true, maxRetries: 10 });
  const forgetSignals = endOnSignal(() => {
    processes.killAllNow();
    removeData();
  });
  return {
    processes,
    async close() {
      await processes.stopAll();
      removeData();
      forgetSignals();
    },
  };
}

const opened = new Set<() => void>();

/**
 * One listener for all: the first to end this process would leave the servers of the others behind. It stays
 * for a second signal, which a terminal and npm send, and which would end this process half-way.
 */
function endAll(): void {
  for (const end of opened) end();
  process.exit(130);
}

/** @returns what takes it back */
function endOnSignal(end: () => void): () => void {
  if (opened.size === 0) process.on('SIGINT', endAll).on('SIGTERM', endAll);
  opened.add(end);
  return () => {
    opened.delete(end);
    if (opened.size === 0) process.off('SIGINT', endAll).off('SIGTERM', endAll);
  };
}
