/** A log whose lines a test reads, written by the log that every process has. */

import type { Logger } from 'pino';
import { createLog } from '../../src/log.ts';

export interface TestLog {
  log: Logger;
  /** What was written so far, parsed. */
  lines: () => unknown[];
}

export function openTestLog(level = 'info'): TestLog {
  const written: string[] = [];
  const log = createLog('test', level, { write: (line: string) => void written.push(line) });
  return { log, lines: () => written.map((line): unknown => JSON.parse(line)) };
}
