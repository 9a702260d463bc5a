/** Picks free ports on loopback, and asks whether a server listens on one. */

import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { takeLock } from './lock.ts';

const LOOPBACK = '127.0.0.1';

/** Another process may take a port between the look and the server's bind, but not three times in a row. */
const PORT_ATTEMPTS = 3;

/** Where nothing listens, loopback refuses at once; only a frozen server with a full queue takes so long. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Ports are picked below those that systems give to connections (Linux from 32768, others from 49152): one of
 * those may be lent to a short-lived connection between the look and the server's bind.
 */
const [FIRST_PICKED, LAST_PICKED] = [20_000, 32_000];
/** Where so many random ports are taken, the others will be too. */
const PICKS_MAX = 100;
/**
 * A lock for each picked port: no other process picks it, or looks whether it is free, while its process
 * lives. Its server may not listen yet, or is just being started again. Not below TMPDIR: ports are the
 * machine's, and a test run has a TMPDIR of its own.
 */
const LOCKS_DIR = `/tmp/holdfast-ports-${process.getuid?.() ?? 0}`;
const taken: string[] = [];
process.once('exit', () => {
  for (const lock of taken) rmSync(lock, { force: true });
});

/** The preferred port where it is free, otherwise any free one. */
export async function findFreePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await isPortFree(preferred))) return preferred;
  for (let pick = 0; pick < PICKS_MAX; pick++) {
    const port = randomInt(FIRST_PICKED, LAST_PICKED);
    if (takePort(port) && (await isPortFree(port))) return port;
  }
  return listenOnce(0);
}

function takePort(port: number): boolean {
  const lock = join(LOCKS_DIR, String(port));
  mkdirSync(LOCKS_DIR, { recursive: true });
  if (!takeLock(lock)) return false;
  taken.push(lock);
  return true;
}

export async function isPortFree(port: number): Promise<boolean> {
  try {
    await listenOnce(port);
    return true;
  } catch {
    // Taken, or not allowed (below 1024 without rights): the caller needs another one in both cases.
    return false;
  }
}

/**
 * Starts a server on a free port, and again on another one if another process was faster to take it.
 * @param lostAnother whether a failed start may have lost another port that the server takes by itself
 */
export async function withFreePort<T>(
  preferred: number | undefined,
  start: (port: number) => Promise<T>,
  lostAnother: (error: unknown) => boolean = () => false,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const port = await findFreePort(attempt === 1 ? preferred : undefined);
    try {
      return await start(port);
    } catch (error) {
      if (attempt === PORT_ATTEMPTS) throw error;
      if (!lostAnother(error) && (await isPortFree(port))) throw error;
    }
  }
}

export async function canConnect(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function listenOnce(port: number): Promise<number> {
  const server = createServer();
  server.listen(port, LOOPBACK);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return address.port;
}
