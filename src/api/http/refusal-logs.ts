/** The lines about refusals: calls that load shedding refused, tokens and notices that were not authentic. */

import type { Logger } from 'pino';
import type { LaneName } from '../../metrics.ts';
import type { TokenFault } from './token-faults.ts';

/** At most one line of a kind in this time. */
const LINE_EVERY_MS = 10_000;

/**
 * @param write writes one line about so many occurrences since the line before
 * @returns what counts an occurrence: the first is written at once, those that follow together; no timer runs
 *   while nothing occurs
 */
export function createBoundedLog(write: (count: number) => void): () => void {
  let count = 0;
  let isTimerRunning = false;

  function flush(): void {
    isTimerRunning = count > 0;
    if (!isTimerRunning) return;
    write(count);
    count = 0;
    setTimeout(flush, LINE_EVERY_MS).unref();
  }

  return () => {
    count += 1;
    if (!isTimerRunning) flush();
  };
}

/** @returns what the lane calls for each refusal */
export function createShedLog(lane: LaneName, log: Logger): () => void {
  return createBoundedLog((refused) => log.warn({ lane, refused }, 'overloaded: calls were refused'));
}

/** Reasons of every day: a page was left open too long, or a stranger sent something. */
const USUAL_REASONS: readonly TokenFault['reason'][] = ['expired', 'malformed'];

/**
 * A line for each reason, code and claim, of which there are about twenty, with the seconds by which the
 * latest was off.
 */
export function createTokenLog(log: Logger): (fault: TokenFault) => void {
  const counters = new Map<string, (fault: TokenFault) => void>();
  const openCounter = (reason: TokenFault['reason']) => {
    let latest: TokenFault;
    const level = USUAL_REASONS.includes(reason) ? 'info' : 'warn';
    const count = createBoundedLog((refused) => log[level]({ ...latest, refused }, 'tokens were refused'));
    return (fault: TokenFault): void => {
      latest = fault;
      count();
    };
  };
  return (fault) => {
    const key = [fault.reason, fault.code, fault.claim].join(' ');
    const count = counters.get(key) ?? openCounter(fault.reason);
    counters.set(key, count);
    count(fault);
  };
}

/** Without the body and the stack: a forger chooses the first, and the second is always the same. */
export function createForgeryLog(log: Logger): (reason: string) => void {
  let latest = '';
  const count = createBoundedLog((refused) =>
    log.warn({ reason: latest, refused }, 'payment notices were refused: forged or stale'),
  );
  return (reason) => {
    latest = reason;
    count();
  };
}
