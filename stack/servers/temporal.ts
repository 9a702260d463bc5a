/** A private Temporal development server of a stack, and the ways to come by its program. */

import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { cacheDir, intoCache, withInstallLock } from '../install/cache.ts';
import { buildWithGo } from '../install/go-install.ts';
import { downloadWithSdk } from '../install/sdk-download.ts';
import { findProgram } from '../install/server-packages.ts';
import { findFreePort, withFreePort } from '../processes/ports.ts';
import { CrashError } from '../processes/process.ts';
import type { Processes } from '../processes/processes.ts';

/** The newest whose module has no replace directive, which would not count in a build from outside. */
const TEMPORAL = {
  what: 'the Temporal server (some minutes)',
  module: 'github.com/temporalio/cli/cmd/temporal@v1.5.1',
  oldestGoMinor: 25,
  // The version that it asks for may reply "interrupted" for ever once a call is cancelled inside a statement
  // (temporalio/temporal pull request 9198): under load the server loses its database until its next start.
  overrides: ['modernc.org/sqlite@v1.44.3'],
};

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const CALL_TIMEOUT_MS = 2_000;

const NAMESPACE = 'default';
/** Renamed whenever what is built changes, so that an older one is not taken for it. */
const CACHED_NAME = 'temporal-1.5.1-sqlite-1.44.3';

/** `temporal` on PATH, else from the cache, else the SDK's download, else built with Go. */
export async function locateTemporal(progress: (line: string) => void): Promise<string> {
  const there = findTemporal();
  if (there !== undefined) return there;
  return withInstallLock(CACHED_NAME, progress, async () => findTemporal() ?? fetchTemporal(progress));
}

/** Returns the addresses of a private development server with its Web UI, both on loopback. */
export async function startTemporal(options: {
  processes: Processes;
  binary: string;
  /** false: for tests, whose data need not survive a power cut. */
  durable?: boolean;
  preferredPort?: number;
  preferredUiPort?: number;
}): Promise<{ address: string; uiUrl: string }> {
  const { processes } = options;
  const dbFile = dbFileIn(processes.dataDir);
  return withFreePort(
    options.preferredPort,
    async (port) => {
      const uiPort = await findFreePort(options.preferredUiPort);
      const address = `127.0.0.1:${port}`;
      await processes.start({
        name: 'temporal',
        command: options.binary,
        args: [...serverArgs(port, uiPort), ...fileArgs(dbFile, options.durable ?? true)],
        marker: dbFile,
        isReady: () => hasNamespace(address),
        readyTimeoutMs: READY_TIMEOUT_MS,
        stopTimeoutMs: STOP_TIMEOUT_MS,
      });
      return { address, uiUrl: `http://127.0.0.1:${uiPort}` };
    },
    // It picks some ports of its own, and panics when another process is faster to take one.
    (error) => options.preferredPort === undefined && error instanceof CrashError,
  );
}

/** Removes all that a stopped server had on file: its next start is that of a new one. */
export async function removeTemporalData(dataDir: string): Promise<void> {
  const beside = ['', '-wal', '-shm'];
  await Promise.all(beside.map((suffix) => rm(`${dbFileIn(dataDir)}${suffix}`, { force: true })));
}

const dbFileIn = (dataDir: string): string => join(dataDir, 'temporal.db');

function serverArgs(port: number, uiPort: number): string[] {
  const flags: [string, string | number][] = [
    ['--ip', '127.0.0.1'],
    ['--port', port],
    ['--ui-port', uiPort],
    ['--search-attribute', 'OrderStatus=Keyword'],
    ['--search-attribute', 'UserId=Keyword'],
    ['--search-attribute', 'SaleId=Keyword'],
    // Off by default in this server; it is the reason why the relay runs beside the worker.
    ['--dynamic-config-value', 'system.enableActivityEagerExecution=true'],
    ['--log-level', 'error'],
  ];
  return ['server', 'start-dev', ...flags.flat().map(String)];
}

/**
 * Never without a file: its data would be those of one connection, and gone when the server gives that up
 * under load (temporalio/temporal issue 3784).
 */
function fileArgs(dbFile: string, durable: boolean): string[] {
  const pragmas = durable
    ? ['journal_mode=WAL', 'synchronous=NORMAL']
    : ['journal_mode=MEMORY', 'synchronous=OFF'];
  return ['--db-filename', dbFile, ...pragmas.flatMap((pragma) => ['--sqlite-pragma', pragma])];
}

/** The frontend listens before the namespace exists; a client that came in between would fail. */
async function hasNamespace(address: string): Promise<boolean> {
  const connection = await Connection.connect({ address, connectTimeout: CALL_TIMEOUT_MS });
  try {
    await connection.withDeadline(Date.now() + CALL_TIMEOUT_MS, () =>
      connection.workflowService.describeNamespace({ namespace: NAMESPACE }),
    );
    return true;
  } finally {
    await connection.close();
  }
}

function findTemporal(): string | undefined {
  const cached = join(cacheDir(), CACHED_NAME);
  return findProgram(['temporal']) ?? (existsSync(cached) ? cached : undefined);
}

async function fetchTemporal(progress: (line: string) => void): Promise<string> {
  return intoCache(CACHED_NAME, async (workDir) => {
    progress('Downloading the Temporal server with its SDK (once)');
    const downloaded = await downloadWithSdk('createLocal', workDir);
    if (downloaded.ok) return downloaded.path;
    progress(`That download is not possible here: ${downloaded.reason}`);
    const file = join(workDir, 'temporal');
    await buildWithGo({ ...TEMPORAL, advice: advice() }, { workDir, file, progress });
    return file;
  });
}

function advice(): string {
  const install =
    process.platform === 'darwin' ? 'run `brew install temporal`' : 'put the `temporal` CLI on PATH';
  return `The Temporal server can be neither downloaded nor built here: ${install}, or install Go 1.${TEMPORAL.oldestGoMinor} or newer, or set TEMPORAL_ADDRESS to a running server.`;
}
