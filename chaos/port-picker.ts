/** Picks the ports of a trial: each part has its own for the whole run. */

import { isPortFree } from '../stack/processes/ports.ts';

/**
 * Below the ports that the kernel gives to outgoing connections: while a server
 * is down, no process may get its port, and no connection to it may meet itself.
 */
const FIRST_PORT = 20_000;
const LAST_PORT = 30_000;

/** Free ports, one after the other, from a place that differs from run to run. */
export function createPortPicker(): () => Promise<number> {
  let port = FIRST_PORT + (process.pid % 90) * 100;
  return async () => {
    while (port < LAST_PORT) {
      // Every second one: a server may want the next for its page.
      port += 2;
      if (await isPortFree(port)) return port;
    }
    throw new Error(`no free port below ${LAST_PORT}`);
  };
}
