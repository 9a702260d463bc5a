/**
 * What the APIs note for `ops status` and `ops doctor`: what became of tokens, and hosts whose clock is
 * wrong. A hash for each minute by Redis' own clock, as that of an API may be the fault.
 */

import { z } from 'zod';
import { TOKEN_OUTCOMES, type TokenOutcome } from '../metrics.ts';
import { readClockMs, transact, type RedisClient } from '../redis/connection.ts';
import { API_NOTES_KEY } from '../redis/keys.ts';
import type { ApiNotes, TokenNote } from './status.ts';

const MINUTE_MS = 60_000;
/** Of which the notes are shown: an operator looks within minutes. */
const SHOWN_MINUTES = 5;
/** Removes the hash of a minute once no one reads it any more. */
const KEEP_MS = (SHOWN_MINUTES + 1) * MINUTE_MS;

export interface ClockLook {
  nowMs: number;
  /** How far this host's clock is ahead of Redis'; negative: behind. */
  aheadMs: number;
  /** The true value is so near: half of the time that the answer took. */
  withinMs: number;
}

export async function readClock(redis: RedisClient): Promise<ClockLook> {
  const beganMs = Date.now();
  const nowMs = await readClockMs(redis);
  const endedMs = Date.now();
  return { nowMs, aheadMs: (beganMs + endedMs) / 2 - nowMs, withinMs: (endedMs - beganMs) / 2 };
}

/** The fields: an outcome, and with `:last` the claim of the latest; `clock:` and the name of a host. */
const LAST = ':last';
const CLOCK = 'clock:';

/** @param tokens since the note before, by outcome */
export async function note(
  redis: RedisClient,
  nowMs: number,
  tokens: ReadonlyMap<TokenOutcome, TokenNote>,
  clock: ApiNotes['clocks'][number] | undefined,
): Promise<void> {
  if (tokens.size === 0 && !clock) return;
  const key = keyOf(nowMs);
  const multi = redis.multi();
  for (const [outcome, { count, claim, offSeconds }] of tokens) {
    multi.hincrby(key, outcome, count);
    if (claim !== undefined && offSeconds !== undefined)
      multi.hset(key, outcome + LAST, JSON.stringify({ claim, offSeconds }));
  }
  if (clock) multi.hset(key, CLOCK + clock.host, Math.round(clock.aheadSeconds));
  await transact(multi.pexpire(key, KEEP_MS));
}

const keyOf = (nowMs: number): string => `${API_NOTES_KEY}:${Math.floor(nowMs / MINUTE_MS)}`;

const lastText = z.object({ claim: z.string(), offSeconds: z.number() });

/** The sums of the last five minutes; of a clock and of a claim, the latest. */
export async function read(redis: RedisClient): Promise<ApiNotes> {
  const nowMs = await readClockMs(redis);
  // The oldest first, so that the latest counts.
  const keys = Array.from({ length: SHOWN_MINUTES }, (_, i) => keyOf(nowMs - i * MINUTE_MS)).toReversed();
  const minutes = await Promise.all(keys.map((key) => redis.hgetall(key)));
  const tokens: ApiNotes['tokens'] = {};
  const clocks = new Map<string, number>();
  for (const minute of minutes) {
    for (const outcome of TOKEN_OUTCOMES) {
      const count = Number(minute[outcome] ?? 0);
      if (count === 0) continue;
      const last = minute[outcome + LAST];
      tokens[outcome] = {
        ...tokens[outcome],
        ...(last !== undefined && lastText.parse(JSON.parse(last))),
        count: count + (tokens[outcome]?.count ?? 0),
      };
    }
    for (const [field, value] of Object.entries(minute))
      if (field.startsWith(CLOCK)) clocks.set(field.slice(CLOCK.length), Number(value));
  }
  return { tokens, clocks: [...clocks].map(([host, aheadSeconds]) => ({ host, aheadSeconds })) };
}
