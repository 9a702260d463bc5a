/** Runs a private Restate server on loopback: a peer that the benchmarks compare with Holdfast. */

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir, intoCache, withInstallLock } from '../install/cache.ts';
import { findProgram } from '../install/server-packages.ts';
import { runCommand } from '../processes/command.ts';
import { findFreePort, withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';

/** Its program is 225 MB, so it is fetched when it is wanted, and no dependency of the repository. */
const VERSION = '1.7.12';
const CACHED_NAME = `restate-server-${VERSION}`;
const PACKAGE = `@restatedev/restate-server-${process.platform}-${process.arch}`;
const INSTALL_TIMEOUT_MS = 5 * 60_000;

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;
const CALL_TIMEOUT_MS = 1_000;

const LOOPBACK = '127.0.0.1';

export interface RestateOptions {
  processes: Processes;
  progress: (line: string) => void;
}

/** @returns where orders are sent, and where services are registered */
export async function startRestate({
  processes,
  progress,
}: RestateOptions): Promise<{ ingressUrl: string; adminUrl: string }> {
  const command = await locateRestate(progress);
  const dir = join(processes.dataDir, 'restate');
  mkdirSync(dir, { recursive: true });
  return withFreePort(undefined, async (ingressPort) => {
    const [adminPort, nodePort] = [await findFreePort(), await findFreePort()];
    const adminUrl = `http://${LOOPBACK}:${adminPort}`;
    await processes.start({
      name: 'restate',
      command,
      args: ['--node-name', 'holdfast', '--base-dir', dir],
      env: {
        ...process.env,
        RESTATE_INGRESS__BIND_ADDRESS: `${LOOPBACK}:${ingressPort}`,
        RESTATE_ADMIN__BIND_ADDRESS: `${LOOPBACK}:${adminPort}`,
        RESTATE_BIND_ADDRESS: `${LOOPBACK}:${nodePort}`,
        RESTATE_ADVERTISED_ADDRESS: `http://${LOOPBACK}:${nodePort}`,
        RESTATE_LOG_FILTER: 'warn',
        DO_NOT_TRACK: '1',
      },
      marker: dir,
      isReady: async () =>
        (await answers(`${adminUrl}/health`)) && (await answers(ingressHealth(ingressPort))),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return { ingressUrl: `http://${LOOPBACK}:${ingressPort}`, adminUrl };
  });
}

function ingressHealth(port: number): string {
  return `http://${LOOPBACK}:${port}/restate/health`;
}

async function answers(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });
  await response.body?.cancel();
  return response.ok;
}

/** `restate-server` on PATH, else from the cache, else npm's package for this system. */
async function locateRestate(progress: (line: string) => void): Promise<string> {
  const there = findRestate();
  if (there !== undefined) return there;
  return withInstallLock(CACHED_NAME, progress, async () => findRestate() ?? intoCache(CACHED_NAME, install));

  async function install(workDir: string): Promise<string> {
    progress('Fetching the Restate server with npm (once)');
    const args = ['install', '--no-save', '--no-audit', '--no-fund', '--prefix', workDir];
    const result = await runCommand('npm', [...args, `${PACKAGE}@${VERSION}`], {
      cwd: workDir,
      timeoutMs: INSTALL_TIMEOUT_MS,
    });
    if (!result.ok) throw new Error(`${advice()} (${result.reason})\n${result.output}`);
    return join(workDir, 'node_modules', PACKAGE, 'bin', 'restate-server');
  }
}

function findRestate(): string | undefined {
  const cached = join(cacheDir(), CACHED_NAME);
  return findProgram(['restate-server']) ?? (existsSync(cached) ? cached : undefined);
}

function advice(): string {
  return `The Restate server cannot be fetched: put \`restate-server\` on PATH.`;
}
