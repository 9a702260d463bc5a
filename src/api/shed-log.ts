/** Load shedding in the log: enough lines to see it by, never one for each refusal. */

import type { Logger } from 'pino';
import type { LaneName } from '../metrics.ts';

/** At most one line of a lane in this time. */
const TELL_EVERY_MS = 10_000;

/** @returns what the lane calls for each refusal: the first is told at once, those that follow together. No timer runs while nothing is refused. */
export function createShedLog(lane: LaneName, log: Logger): () => void {
  let refused = 0;
  let isTimerRunning = false;

  function tell(): void {
    isTimerRunning = refused > 0;
    if (!isTimerRunning) return;
    log.warn({ lane, refused }, 'overloaded: calls were refused');
    refused = 0;
    setTimeout(tell, TELL_EVERY_MS).unref();
  }

  return () => {
    refused += 1;
    if (!isTimerRunning) tell();
  };
}
