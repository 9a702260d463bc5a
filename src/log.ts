/** Logs: JSON lines; whoever logs about an order binds its orderNo. */

import { pino, type Logger } from 'pino';

export function createLog(name: string, level: string): Logger {
  return pino({ name, level, redact: ['headers.authorization'], timestamp: pino.stdTimeFunctions.isoTime });
}
