/** Notes the outcomes of tokens and the clock of this process, for metrics, log and `ops status`. */

import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { CLOCK_WRONG_MS } from '../limits.ts';
import type { Metrics, TokenOutcome } from '../metrics.ts';
import type { TokenNote } from '../status/status.ts';
import type { Stores } from '../stores/open.ts';
import type { Verdict } from './http/auth.ts';
import { createTokenLog } from './http/refusal-logs.ts';

/** `ops status` is so far behind; it costs Redis a read, and a write where there is something to note. */
const NOTE_EVERY_MS = 10_000;

export type ApiNotes = ReturnType<typeof createApiNotes>;

export function createApiNotes({
  apiNotes,
  metrics,
  log,
}: Pick<Stores, 'apiNotes' | 'log'> & { metrics: Metrics }) {
  const logRefusal = createTokenLog(log);
  /** Since the last note; an outcome each, at most. */
  let tokens = new Map<TokenOutcome, TokenNote>();
  let isClockOff = false;

  function judgeClock(aheadMs: number, withinMs: number): boolean {
    const isOff = Math.abs(aheadMs) - withinMs > CLOCK_WRONG_MS;
    const aheadSeconds = Math.round(aheadMs / 1_000);
    if (isOff && !isClockOff) log.error({ aheadSeconds }, "this host's clock differs from Redis'");
    if (!isOff && isClockOff) log.info({ aheadSeconds }, "this host's clock agrees with Redis' again");
    isClockOff = isOff;
    return isOff;
  }

  async function note(): Promise<void> {
    const { nowMs, aheadMs, withinMs } = await apiNotes.readClock();
    const aheadSeconds = aheadMs / 1_000;
    metrics.sawClock(aheadSeconds);
    const clock = judgeClock(aheadMs, withinMs) ? { host: hostname(), aheadSeconds } : undefined;
    const noted = tokens;
    tokens = new Map();
    await apiNotes.note(nowMs, noted, clock);
  }

  return {
    tokenJudged(verdict: Verdict): void {
      const outcome = outcomeOf(verdict);
      metrics.tokenJudged(outcome);
      const count = (tokens.get(outcome)?.count ?? 0) + 1;
      if (verdict.kind !== 'refused') {
        tokens.set(outcome, { count });
        return;
      }
      logRefusal(verdict.fault);
      const { claim, offSeconds } = verdict.fault;
      tokens.set(outcome, {
        count,
        ...(claim !== undefined && offSeconds !== undefined && { claim, offSeconds }),
      });
    },

    note,

    /** Notes until `signal` aborts. */
    async run(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        // The connection logs why. What was not noted is in the metrics all the same.
        await note().catch(() => metrics.sawClock(undefined));
        await delay(NOTE_EVERY_MS, undefined, { signal }).catch(() => {});
      }
    },
  };
}

function outcomeOf(verdict: Verdict): TokenOutcome {
  switch (verdict.kind) {
    case 'caller':
      return 'accepted';
    case 'refused':
      return verdict.fault.reason;
    case 'unavailable':
      return 'keys_unavailable';
    default:
      return verdict satisfies never;
  }
}
