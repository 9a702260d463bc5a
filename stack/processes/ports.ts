/** Picks free ports on loopback, and asks whether a server listens on one. */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const LOOPBACK = '127.0.0.1';

/** Another process may take a port between the look and the server's bind, but not three times in a row. */
const PORT_ATTEMPTS = 3;

/** A loopback connection is accepted in microseconds; after a second, no process listens there. */
const CONNECT_TIMEOUT_MS = 1_000;

/** The preferred port where it is free, otherwise any free one. */
export async function findFreePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await isPortFree(preferred))) return preferred;
  return listenOnce(0);
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
