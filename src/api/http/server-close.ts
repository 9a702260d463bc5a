/** The last step of a stop: an HTTP server closes its port and its connections. */

import type { Server } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';

/** Streams whose heads went out before the drain leave idle connections when they end. */
const IDLE_SWEEP_MS = 100;
/** Without a quiet moment for so long, there is a flood, and it does not keep the port open. */
const FLOOD_MS = 1_000;
/** A turn of the event loop that takes longer leaves time for connections that it does not see. */
const SHORT_TURN_MS = 1;

/** @param graceMs for requests that have not wholly arrived: Node looks after no time-out while it closes */
export async function closeServer(server: Server, graceMs: number): Promise<void> {
  await untilNoneComes(server);
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
  const grace = setTimeout(() => server.closeAllConnections(), graceMs);
  await new Promise<void>((resolve, reject) => {
    server.close((error) => (error ? reject(error) : resolve()));
  }).finally(() => {
    clearInterval(sweep);
    clearTimeout(grace);
  });
}

/**
 * The kernel resets the connections that wait to be accepted when the port closes, and after a busy moment
 * these may be many. So the port closes right after a short turn of the event loop that had none to accept.
 * A connection that comes between that turn and the close is still reset.
 */
async function untilNoneComes(server: Server): Promise<void> {
  let accepted = 0;
  const count = (): void => void (accepted += 1);
  server.on('connection', count);
  // The present turn may have accepted already.
  await turn();
  const sinceMs = performance.now();
  for (let nowMs = sinceMs, isQuiet = false; !isQuiet && nowMs - sinceMs < FLOOD_MS;) {
    const [acceptedBefore, beforeMs] = [accepted, nowMs];
    await turn();
    nowMs = performance.now();
    isQuiet = accepted === acceptedBefore && nowMs - beforeMs < SHORT_TURN_MS;
  }
  server.off('connection', count);
}
