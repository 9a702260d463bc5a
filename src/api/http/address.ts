/** The address of who calls. */

import { isIP } from 'node:net';
import type { Logger } from 'pino';

/**
 * Reads what a trusted proxy has named. Some write a port behind it: `192.0.2.7:5678`, `[2001:db8::1]:443`.
 * @returns reads the address; what is none stays, and the log says so once
 */
export function createAddressReader(log: Logger): (named: string) => string {
  let hasWarned = false;
  return (named) => {
    const found = /^\[([^\]]*)\](?::\d+)?$/.exec(named) ?? /^([^:]*):\d+$/.exec(named);
    const address = found?.[1] ?? named;
    if (isIP(address) === 0 && !hasWarned) {
      hasWarned = true;
      log.warn(
        'X-Forwarded-For names no address: where that is so, none is kept, and no limit by address holds',
      );
    }
    return address;
  };
}
