/** Processes that belong to one test file, in a data folder of their own. */

import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { appEnv, type AppEnv } from '../../stack/app.ts';
import { createProcesses, type Processes } from '../../stack/processes/processes.ts';
import { JWT_SECRET } from './shopper.ts';

export interface TestProcesses {
  processes: Processes;
  /** Ends them all. Idempotent. */
  close(): Promise<void>;
}

const open = new Set<Processes>();

// An interrupted run closes nothing; at this point only what is synchronous still happens.
process.once('exit', () => {
  for (const { killAllNow, dataDir } of open) {
    killAllNow();
    rmSync(dataDir, { recursive: true, force: true });
  }
});

export async function openTestProcesses(
  onCrash: (crash: Error, name: string) => void,
): Promise<TestProcesses> {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-own-'));
  const processes = createProcesses({ dataDir, onCrash });
  open.add(processes);
  const close = async () => {
    await processes.stopAll();
    open.delete(processes);
    await rm(dataDir, { recursive: true, force: true });
  };
  let closed: Promise<void> | undefined;
  return { processes, close: () => (closed ??= close()) };
}

/** The environment of an API on these stores that listens at `url`; no Temporal and no provider is there. */
export function apiAloneEnv(redisUrl: string, mysqlUrl: string, url: string): AppEnv {
  const servers = { redisUrl, mysqlUrl, temporalAddress: '127.0.0.1:1', temporalUiUrl: undefined };
  return {
    ...appEnv({ servers, urls: { apiUrl: url, providerUrl: 'http://127.0.0.1:1' } }),
    JWT_SECRET,
  };
}
